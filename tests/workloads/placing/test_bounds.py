"""Bounds hold for every division, and prices raise them; METIS's divisions fit, and are good."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from lrpc.workloads.placing import bounds, multilevel, partition
from lrpc.workloads.placing.exchange import improved, largest_first, swapped
from lrpc.workloads.placing.partition import SearchLimits, fitting, solve
from lrpc.workloads.placing.problem import Limit, Problem
from tests.workloads.placing.test_partition import best_of_all, made

ENOUGH_S = 60.0


def groups(count: int, each: int, seed: int = 0) -> Problem:
    """Return groups of vertices that call each other much, and other groups little."""
    chance = random.Random(seed)
    vertices = list(range(count * each))
    chance.shuffle(vertices)  # so that neither numbers nor loads tell the group
    weights: dict[tuple[int, int], int] = {}
    for group in range(count):
        mine = vertices[group * each : (group + 1) * each]
        for one in mine:
            for other in chance.sample(mine, 4):
                if one != other:
                    weights[min(one, other), max(one, other)] = 100
        other = vertices[(group + 1) * each % len(vertices)]
        weights[min(mine[0], other), max(mine[0], other)] = 1
    return Problem([10] * len(vertices), weights, count, 10 * each)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("machines", [2, 3, 4])
def test_no_division_crosses_less_than_the_bound(seed: int, machines: int) -> None:
    problem = made(seed, vertices=8, machines=machines)
    problem = replace(problem, cap=problem.cap * 3 // 2)
    least = best_of_all(problem)
    assert least is not None
    assert bounds.bound(problem) <= least
    for aim in (least + 1, 10**6):  # beyond the best, at which the ascent would stop
        assert 0 <= bounds.raised(problem, aim, ENOUGH_S) <= least


def test_prices_double_the_bound_of_a_sparse_graph() -> None:
    problem = made(3, vertices=60, machines=4)
    crossing = solve(problem, [fitting(problem, SearchLimits(1, 1.0))], SearchLimits(1, ENOUGH_S)).crossing
    assert 2 * bounds.bound(problem) < bounds.raised(problem, crossing, ENOUGH_S) <= crossing


def test_the_ascent_ends_when_its_seconds_are_over() -> None:
    problem = made(3, vertices=60, machines=4)
    began = time.monotonic()
    once = bounds.raised(problem, 10**6, 0.0)
    assert once <= bounds.raised(problem, 10**6, ENOUGH_S)
    assert time.monotonic() - began < ENOUGH_S


@pytest.mark.parametrize("count", [4, 8])
def test_groups_that_hardly_call_each_other_are_found(count: int) -> None:
    """Each group has a machine, and only the ring of calls between groups crosses."""
    problem = groups(count, 25)
    found = solve(problem, [fitting(problem, SearchLimits(1, 1.0))], SearchLimits(1, ENOUGH_S))
    assert found.crossing == count


@pytest.mark.parametrize(
    ("fixed", "apart", "limits"),
    [
        ({}, [], []),
        ({3: 2, 7: 0, 20: 2}, [], []),
        ({}, [frozenset({1, 2, 3, 4})], []),
        ({5: 1}, [frozenset({5, 6})], [Limit([1] * 40, 11)]),
    ],
)
def test_what_metis_does_not_know_of_is_kept(
    fixed: Mapping[int, int], apart: Sequence[frozenset[int]], limits: Sequence[Limit]
) -> None:
    like = made(1, vertices=40, machines=4)
    problem = Problem(like.loads, like.weights, 4, like.cap * 6 // 5, limits, fixed, apart)
    found = list(multilevel.divisions(problem))
    assert found
    assert all(problem.fits(one) for one in found)


def dense(vertices: int, machines: int) -> Problem:
    """Return a drawn problem in which most vertices call each other."""
    chance = random.Random(vertices)
    pairs = [(one, other) for other in range(vertices) for one in range(other) if chance.random() < 0.9]
    loads = [chance.randint(50, 150) for _ in range(vertices)]
    return Problem(loads, {pair: chance.randint(1, 99) for pair in pairs}, machines, 12 * sum(loads) // (10 * machines))


def test_a_search_whose_seconds_are_over_has_a_division_and_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*more: object) -> None:
        raise AssertionError("the solver has begun, which does not end in time")

    monkeypatch.setattr(partition._Model, "run", refuse)
    problem = dense(40, machines=3)
    found = solve(problem, [largest_first(problem)], SearchLimits(20_000, 0.1))
    assert found.end == "seconds"
    assert problem.fits(found.placed)
    assert 0 < found.at_least < found.crossing == problem.crossing(found.placed)


def test_no_division_is_begun_and_none_improved_after_the_time_for_that() -> None:
    problem = dense(40, machines=3)
    start = largest_first(problem)
    assert list(multilevel.divisions(problem, time.monotonic())) == []
    assert swapped(problem, start, time.monotonic()) == improved(problem, start)


@pytest.mark.long
def test_a_dense_graph_of_a_hundred_pods_is_within_a_twelfth_of_its_bound() -> None:
    problem = dense(100, machines=4)
    limits = SearchLimits(20_000, 30.0)
    began = time.monotonic()
    found = solve(problem, [fitting(problem, limits)], limits)
    assert time.monotonic() - began < 1.1 * limits.seconds
    assert problem.fits(found.placed)
    assert found.at_least < found.crossing < found.at_least * 13 / 12


def test_the_solver_gets_the_seconds_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    run = partition._Model.run

    def note(model: partition._Model, start: Sequence[int] | None, limits: SearchLimits, *more: object) -> object:
        given.append(limits.seconds)
        return run(model, start, SearchLimits(1, 1.0))

    monkeypatch.setattr(partition._Model, "run", note)
    problem = made(2, vertices=30, machines=4)
    solve(problem, [largest_first(problem)], SearchLimits(1, ENOUGH_S))
    assert given
    assert max(given) < ENOUGH_S
