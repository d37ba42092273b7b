"""What a cluster costs grows with its machines, and no faster."""

import gc
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from benchmarks.cluster import cluster as of_four_tests
from benchmarks.cluster import null_calls, ring, workstations
from lrpc.cluster.description import Cluster
from lrpc.cluster.group import MOST_AROUND, PART_AROUND, Group
from lrpc.cluster.run import digest_of, run_cluster
from lrpc.cluster.synchronisation import MANY, InOrder
from lrpc.kernel.collector import SELDOM, passed_over
from lrpc.kernel.simulated.engine import FOREVER
from tests.support.clusters import cluster, digest, joined, pair


def lines_run(work: Callable[[], object]) -> int:
    """Return how many lines of interpreted code `work` executes, in this thread."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def grows(work: Callable[[int], object]) -> float:
    """Return how many times the work added by 80 machines is that added by 40, of work per machine.

    It is 1 where the work is in proportion to the machines, and 2 where it is quadratic.
    """
    work(2)  # what is read or made once
    few, more, most = (lines_run(lambda count=count: work(count)) for count in (20, 60, 140))  # type: ignore[misc]
    return (most - more) / (more - few) / 2


def circle(machines: int) -> Cluster:
    return ring(machines, 1, 1, 1)


def star(machines: int) -> Cluster:
    return workstations(machines, 1, 1, 1)


@pytest.mark.parametrize("shape", [circle, star])
def test_setting_machines_up_takes_work_in_proportion(shape: Callable[[int], Cluster]) -> None:
    assert grows(lambda count: Group(made := shape(count), list(range(len(made.machines))), 0, None)) < 1.1


@pytest.mark.parametrize("shape", [circle, star])
def test_running_machines_in_one_process_takes_work_in_proportion(shape: Callable[[int], Cluster]) -> None:
    assert grows(lambda count: run_cluster(shape(count), actors=0, transport="memory")) < 1.1


def test_a_quadratic_work_would_be_noticed() -> None:
    def quadratic(count: int) -> None:
        for _ in range(count):
            for _ in range(count):
                pass

    assert grows(quadratic) > 1.5


def test_machines_of_one_station_need_no_windows_among_themselves() -> None:
    """Pairs of machines talk in a station each, and no station hears of the other."""
    tables = pair("teller", "drawer", ledgers="drawer", rounds=50)
    tables["machines"] = {name: {} for name in ("a client", "b client", "c server", "d server")}
    for one, other in (("a", "c"), ("b", "d")):
        tables["domains"][one] = {
            "machine": f"{one} client",
            "imports": {"drawer": other},
            "threads": [{"program": "teller", "parameters": {"ledgers": "drawer", "rounds": 50}}],
        }
        tables["domains"][other] = {"machine": f"{other} server", "exports": {other: {"server": "ledger"}}}
    del tables["domains"]["program"], tables["domains"]["ledger"]
    with joined(cluster(tables), 2) as run:
        progress = run.run()
        assert progress.messages == 2 * 2 * 150
        assert progress.bytes == 0  # nothing crossed a socket
        assert progress.windows < 20
        assert run.digest() == digest(cluster(tables))


@pytest.mark.parametrize("delay_us", [0, 60])
def test_a_machine_runs_on_while_those_that_can_call_it_are_ahead(delay_us: int) -> None:
    """In a ring it makes several calls at a time, whatever happens further away."""
    described = ring(40, 10, 10, 1)
    described = replace(described, link=replace(described.link, delay_ns=1000 * delay_us))
    group = Group(described, list(range(40)), 0, None)
    report = group.advance_in_order(FOREVER)
    outcomes = group.finish()
    assert group.turns < 0.7 * report.calls
    in_windows = run_cluster(described, actors=0, transport="memory", windows=True)
    assert digest_of([(one.name, one.digest) for one in outcomes]) == in_windows.digest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a millisecond pass between two looks at the clock."""
    looks = count(0, 1_000_000)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(looks))


@pytest.mark.usefixtures("clock")
def test_a_few_machines_go_far_ahead_together_before_others_begin() -> None:
    """So they stay in the processor's caches; the earliest first would run all 300 in turn."""
    described = ring(300, 20, 10, 1)
    group, whole = (Group(described, list(range(300)), 0, None) for _ in range(2))
    group.advance_in_order(0)  # tells of all machines
    report = group.advance_in_order(FOREVER, time.perf_counter_ns() + 1_000_000_000)
    assert group.turns > 300
    assert len(report.next_ns) < 2 * min(MOST_AROUND, 300 // PART_AROUND) + 10
    group.advance_in_order(FOREVER)
    whole.advance_in_order(FOREVER)
    in_windows = run_cluster(described, actors=0, transport="memory", windows=True)
    for ran in (group, whole):
        assert digest_of([(one.name, one.digest) for one in ran.finish()]) == in_windows.digest


@pytest.mark.usefixtures("clock")
def test_where_progress_is_told_often_hardly_a_turn_is_cut_in_two() -> None:
    described = ring(40, 10, 10, 1)
    whole, cut = (Group(described, list(range(40)), 0, None) for _ in range(2))
    whole.advance_in_order(FOREVER)
    progress = InOrder(cut, lambda progress: None).run()
    assert progress.windows > 20
    assert cut.turns < 1.1 * whole.turns
    assert [one.digest for one in cut.finish()] == [one.digest for one in whole.finish()]


@pytest.mark.usefixtures("clock")
def test_progress_is_told_of_a_machine_that_goes_on_alone_after_many_short_turns() -> None:
    calls = [null_calls("there", 2_000), null_calls("here", 100_000)]
    exported = {f"server {name}": {"machine": name, "exports": {name: {"server": "four tests"}}} for name in "ab"}
    thread = {"program": "caller", "parameters": {"calls": calls, "rounds": 1}}
    client = {"machine": "a", "imports": {"here": "a", "there": "b"}, "threads": [thread]}
    described = of_four_tests(
        {"name": "two", "machines": {"a": {}, "b": {}}, "domains": {**exported, "client": client}}
    )
    told: list[int] = []
    InOrder(group := Group(described, [0, 1], 0, None), lambda progress: told.append(progress.calls)).run()
    group.finish()
    assert sum(made > 2_000 for made in told) > 5


RESIDENT = """
from benchmarks.cluster import ring
from lrpc.cluster.run import run_cluster
run_cluster(described := ring({machines}, 1, 10, 1), actors=0, transport="memory")
print(int(open("/proc/self/statm").read().split()[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc/self/statm here")
def test_a_machine_that_has_run_takes_less_than_a_hundred_kilobytes() -> None:
    def pages(machines: int) -> int:
        command = [sys.executable, "-c", RESIDENT.format(machines=machines)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    grown = (pages(700) - pages(200)) * resource.getpagesize()
    assert grown / 500 < 100_000


def test_the_collector_of_cycles_does_not_run_while_machines_are_set_up() -> None:
    """It would walk over all of them, the more often the more there are."""
    described, runs = circle(30), list[str]()

    def note(phase: str, _: object) -> None:
        runs.append(phase)

    assert gc.isenabled()
    gc.callbacks.append(note)
    try:
        group = Group(described, list(range(30)), 0, None)
        while_set_up = len(runs)
        group.close()
        gc.collect()
    finally:
        gc.callbacks.remove(note)
    assert while_set_up <= 2  # the start and the end of one before its first machine
    assert len(runs) > while_set_up
    assert gc.isenabled()


def test_collections_are_seldom_while_what_there_is_is_passed_over() -> None:
    def found() -> tuple[tuple[int, int, int], bool]:
        return gc.get_threshold(), gc.get_freeze_count() > 0

    before = found()
    within = (SELDOM, *before[0][1:]), True
    assert before[0][0] < SELDOM
    with passed_over():
        assert found() == within
        with pytest.raises(KeyError), passed_over():
            raise KeyError
        assert found() == within
    assert found() == before


@pytest.mark.parametrize(("machines", "looks"), [(MANY - 1, 0), (MANY, 1)])
def test_whether_the_collector_passes_over_something_is_asked_for_many_machines_alone(
    machines: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = gc.get_freeze_count
    before, asked = ask() > 0, list[int]()

    def note() -> int:
        asked.append(ask())
        return asked[-1]

    monkeypatch.setattr(gc, "get_freeze_count", note)
    run_cluster(ring(machines, 1, 1, 0), actors=0, transport="memory")
    assert len(asked) == looks  # it takes as long as a walk over all that
    assert (ask() > 0) == before
