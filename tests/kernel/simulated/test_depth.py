"""Calls nested through many domains: right up to the stated depth, then a typed error."""

import os
import subprocess
import sys

import pytest

import lrpc
from lrpc.cluster.group import Group
from tests.support.clusters import cluster, pair


class Down(lrpc.Interface):
    def down(self, n: lrpc.Int32) -> lrpc.Int32: ...


class Hop(Down):
    """Calls the next domain until nothing is left to nest."""

    def __init__(self) -> None:
        self.next: Down | None = None

    def down(self, n: int) -> int:
        if n == 0 or self.next is None:
            return 0
        return 1 + self.next.down(n - 1)


def chain(machine: lrpc.Machine, domains: int) -> Down:
    """Return the first of many servers, each in a domain of its own, that call one another."""
    hops = [Hop() for _ in range(domains)]
    for number, hop in enumerate(hops):
        machine.export(Down, hop, f"d{number}")
    for number, hop in enumerate(hops[:-1]):
        hop.next = machine.bind(Down, f"d{number + 1}", domain=f"d{number}")
    return machine.bind(Down, "d0")


def nested(machine: lrpc.Machine, first: Down, depth: int) -> int | lrpc.CallError:
    """Return what a thread gets from `depth` calls, one within the other."""
    found: list[int | lrpc.CallError] = []

    def body() -> None:
        try:
            found.append(first.down(depth - 1))
        except lrpc.CallError as error:
            found.append(error)

    machine.spawn(body)
    machine.run()
    return found[0]


@pytest.mark.parametrize("most", [None, 7, 1])
def test_calls_nest_up_to_the_stated_depth(most: int | None) -> None:
    machine = lrpc.Machine("deep") if most is None else lrpc.Machine("deep", most_nested=most)
    most = most or 100
    first = chain(machine, most + 1)
    assert nested(machine, first, most) == most - 1
    refused = nested(machine, first, most + 1)
    assert isinstance(refused, lrpc.ProcedureRaised)  # by the server that was told of it
    assert "NestedTooDeep" in str(refused)
    assert f"{most} calls in progress" in str(refused)
    assert machine.kernel.calls_in_progress() == 0  # nothing is held, and all of it works again
    assert nested(machine, first, most) == most - 1


class Careful(Hop):
    """Answers 0 where it may not call the next domain."""

    def down(self, n: int) -> int:
        try:
            return super().down(n)
        except lrpc.NestedTooDeep:
            return 0


@pytest.mark.parametrize(("most", "answer"), [(2, 1), (1, 0)])
def test_a_server_that_nests_too_deep_can_catch_it(most: int, answer: int) -> None:
    machine = lrpc.Machine("deep", most_nested=most)
    careful = Careful()
    machine.export(Down, Hop(), "last")
    machine.export(Down, careful, "careful")
    careful.next = machine.bind(Down, "last", domain="careful")
    assert nested(machine, machine.bind(Down, "careful"), 2) == answer


@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_the_deepest_that_can_be_asked_for_is_reached_in_every_build(interpreted: str) -> None:
    program = """
import lrpc
from tests.kernel.simulated.test_depth import chain, nested
machine = lrpc.Machine("deep", most_nested=1000)
first = chain(machine, 1001)
print(nested(machine, first, 1000), type(nested(machine, first, 1001)).__name__)
"""
    environment = os.environ | {"LRPC_INTERPRETED": interpreted}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("999 ProcedureRaised\n", "")


@pytest.mark.parametrize("depth", [0, -1, 1001])
def test_a_depth_that_cannot_be_kept_is_refused(depth: int) -> None:
    with pytest.raises(lrpc.Refused, match=f"most_nested is {depth}; give 1 to 1000"):
        lrpc.Machine("deep", most_nested=depth)


def test_an_error_that_passes_many_servers_stays_short() -> None:
    machine = lrpc.Machine("deep")
    refused = nested(machine, chain(machine, 101), 101)
    assert isinstance(refused, lrpc.ProcedureRaised)
    assert str(refused).startswith("ProcedureRaised: NestedTooDeep: d100: client/0 has 100 calls in progress")
    assert len(str(refused)) < 250


@pytest.mark.parametrize(("most", "told"), [(None, 100), (7, 7)])
def test_a_description_says_how_deep_calls_of_its_machines_nest(most: int | None, told: int) -> None:
    machine = {} if most is None else {"most_nested": most}
    tables = pair("teller", "drawer", ledgers="drawer")
    tables["machines"]["client"] = {**tables["machines"]["client"], **machine}
    group = Group(cluster(tables), [0, 1], 0, None)
    assert {one.name: one.kernel.most_nested for one in group._lanes.values()} == {"client": told, "server": 100}
    tables["machines"]["client"]["most_nested"] = 1001
    with pytest.raises(lrpc.Refused, match=r"machines\.client\.most_nested: "):
        cluster(tables)
