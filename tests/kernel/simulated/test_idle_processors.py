"""Idle processors spin where they are needed most, as if the calls to come were known."""

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from random import Random

import pytest

import lrpc

CALLS = 3000


class Nothing(lrpc.Interface):
    def null(self) -> None: ...


class NothingServer(Nothing):
    def null(self) -> None:
        return


def found(processors: int, order: Iterable[int], servers: int) -> list[bool]:
    """Call servers in an order; return of each leg whether it found an idle processor."""
    machine = lrpc.Machine("m", processors=processors, domain_caching=True)
    for number in range(servers):
        machine.export(Nothing, NothingServer(), f"s{number}")
    stubs = [machine.bind(Nothing, f"s{number}") for number in range(servers)]
    legs: list[bool] = []

    def body() -> None:
        before = 0
        for number in order:
            stubs[number].null()
            now = sum(one.exchanges for one in machine.kernel.processors)
            legs.extend([True] * (now - before) + [False] * (2 - now + before))
            before = now

    machine.spawn(body)
    machine.run()
    return legs


def drawn(weights: Sequence[int], calls: int = CALLS) -> list[int]:
    return Random(1).choices(range(len(weights)), weights, k=calls)


def share(legs: Sequence[bool]) -> float:
    return sum(legs) / len(legs)


def static_best(weights: Sequence[int], idle: int) -> float:
    """Return the share of legs if so many idle processors stayed with the servers called most.

    A call that finds one leaves another in its caller's context, so that its return finds that.
    """
    return sum(sorted(weights, reverse=True)[:idle]) / sum(weights)


@pytest.mark.parametrize("weights", [(50, 20, 10, 10, 5, 5), (90, 5, 5), (30, 30, 20, 10, 10), (60, 10, 10, 10, 10)])
@pytest.mark.parametrize("processors", [2, 4])
def test_servers_called_at_random_find_as_many_as_if_processors_were_pinned(
    weights: tuple[int, ...], processors: int
) -> None:
    legs = found(processors, drawn(weights), len(weights))
    assert share(legs[200:]) >= 0.97 * static_best(weights, processors - 1)


@pytest.mark.parametrize("servers", [3, 4, 6])
def test_servers_called_in_turn_do_not_take_each_others_processors(servers: int) -> None:
    legs = found(4, islice(cycle(range(servers)), CALLS), servers)
    assert share(legs[200:]) >= 0.97 * min(1.0, 3 / servers)


def test_processors_follow_when_other_servers_are_called_most() -> None:
    weights = (50, 20, 10, 10, 5, 5)
    order = [*drawn(weights), *drawn(weights[::-1])]
    legs = found(4, order, len(weights))
    after = legs[2 * CALLS + 400 :]  # once 200 calls have shown the change
    assert share(after) >= 0.97 * static_best(weights, 3)


def test_a_domain_that_is_called_alone_finds_one_from_its_second_call_on() -> None:
    legs = found(2, [0] * 10, 1)
    assert all(legs[2:])
