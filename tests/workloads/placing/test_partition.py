"""The partition of vertices is compared with every division, and says if it is not proven best."""

import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from lrpc.workloads.placing import partition
from lrpc.workloads.placing.partition import Overfull, SearchLimits, fitting, solve
from lrpc.workloads.placing.problem import Problem

ENOUGH = SearchLimits(nodes=100_000, seconds=600.0)


def divisions(count: int, most: int) -> Iterator[tuple[int, ...]]:
    """Yield every division of `count` vertices into at most `most` blocks, each once."""

    def extend(placed: list[int], used: int) -> Iterator[tuple[int, ...]]:
        if len(placed) == count:
            yield tuple(placed)
            return
        for block in range(min(used + 1, most)):
            yield from extend([*placed, block], max(used, block + 1))

    yield from extend([], 0)


def best_of_all(problem: Problem) -> int | None:
    """Return the least crossing weight of any division; None where no division fits."""
    every = divisions(len(problem.loads), problem.machines)
    return min((problem.crossing(placed) for placed in every if problem.fits(placed)), default=None)


def made(seed: int, vertices: int, machines: int, cap: int | None = None, loads: Sequence[int] = ()) -> Problem:
    """Return a problem with drawn loads and weights; by default `cap` is 1.2 times a fair share."""
    chance = random.Random(seed)
    drawn = loads or [chance.randint(0, 30) ** 2 for _ in range(vertices)]
    weights: dict[tuple[int, int], int] = {}
    for other in range(1, vertices):
        for one in chance.sample(range(other), min(other, 2)):
            weights[one, other] = chance.randint(1, 50)
    return Problem(drawn, weights, machines, cap or max(max(drawn), 12 * sum(drawn) // (10 * machines)))


def test_every_division_is_enumerated_once() -> None:
    found = list(divisions(5, 5))
    assert len(found) == len(set(found)) == 52  # Bell's number
    assert len(list(divisions(10, 4))) == 1 + 511 + 9_330 + 34_105


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("machines", [2, 3, 5])
def test_what_is_found_is_the_best_of_all(seed: int, machines: int) -> None:
    problem = made(seed, vertices=8, machines=machines)
    if best_of_all(problem) is None:
        with pytest.raises(Overfull) as caught:
            fitting(problem, ENOUGH)
        assert caught.value.proven
        problem = replace(problem, cap=caught.value.least)
        assert best_of_all(replace(problem, cap=caught.value.least - 1)) is None
    start = fitting(problem, ENOUGH)
    assert problem.fits(start)
    found = solve(problem, [start], ENOUGH)
    assert found.end == "optimal"
    assert problem.fits(found.placed)
    assert found.crossing == found.at_least == problem.crossing(found.placed) == best_of_all(problem)


def test_machines_beyond_the_vertices_change_nothing() -> None:
    few, many = (made(3, vertices=6, machines=6, cap=900), made(3, vertices=6, machines=100_000, cap=900))
    assert solve(few, [fitting(few, ENOUGH)], ENOUGH) == solve(many, [fitting(many, ENOUGH)], ENOUGH)


def test_a_cap_is_kept_to_the_last_unit() -> None:
    """The last unit of 10**15 is smaller than any tolerance of the solver."""
    loads = [5 * 10**14, 5 * 10**14, 1, 10**14]
    weights = {(0, 1): 9, (1, 2): 5, (0, 3): 1}
    tight = Problem(loads, weights, 2, 10**15)
    found = solve(tight, [fitting(tight, ENOUGH)], ENOUGH)
    assert (found.placed, found.crossing, found.end) == ((0, 0, 1, 1), 6, "optimal")
    roomy = Problem(loads, weights, 2, 10**15 + 1)
    assert solve(roomy, [fitting(roomy, ENOUGH)], ENOUGH).placed == (0, 0, 0, 1)


def test_where_nothing_is_called_nothing_crosses() -> None:
    problem = Problem([5, 5, 5], {}, 3, 6)
    found = solve(problem, [fitting(problem, ENOUGH)], ENOUGH)
    assert (found.crossing, found.at_least, found.end) == (0, 0, "optimal")
    assert sorted(found.placed) == [0, 1, 2]


def test_loads_that_are_nothing_fit_anywhere() -> None:
    problem = Problem([0, 0], {(0, 1): 3}, 2, 0)
    assert solve(problem, [fitting(problem, ENOUGH)], ENOUGH).placed == (0, 0)


def test_machines_are_numbered_by_the_first_that_they_have() -> None:
    problem = Problem([1, 9, 1, 9], {(0, 2): 1, (1, 3): 0}, 3, 10)
    assert solve(problem, [(2, 1, 2, 0)], ENOUGH).placed == (0, 1, 0, 2)


def test_a_search_that_stops_early_says_what_it_does_not_know() -> None:
    problem = made(2, vertices=30, machines=4)
    start = fitting(problem, ENOUGH)
    found = solve(problem, [start], SearchLimits(nodes=1, seconds=600.0))
    assert found.end == "nodes"
    assert problem.fits(found.placed)
    assert 0 <= found.at_least < found.crossing <= problem.crossing(start)


def test_the_same_problem_has_the_same_solution_wherever_the_search_stops() -> None:
    problem = made(2, vertices=16, machines=4)
    start = fitting(problem, ENOUGH)
    for nodes in (1, 10):
        one, other = (solve(problem, [start], SearchLimits(nodes, 600.0)) for _ in range(2))
        assert one == other


def test_an_interrupted_search_keeps_the_best_it_has() -> None:
    problem = made(2, vertices=60, machines=8)
    start = fitting(problem, ENOUGH)
    told: list[tuple[int, float, float]] = []

    def interrupt(nodes: int, found: float, at_least: float) -> None:
        if not told:
            os.kill(os.getpid(), signal.SIGINT)
        told.append((nodes, found, at_least))

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        found = solve(problem, [start], SearchLimits(10**6, seconds=60.0), interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found.end == "interrupted"
    assert problem.fits(found.placed)
    assert found.crossing <= problem.crossing(start)
    assert told


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    problem = made(1, vertices=8, machines=3)
    solve(problem, [fitting(problem, ENOUGH)], ENOUGH)
    assert capfd.readouterr() == ("", "")


def test_a_solution_that_fits_only_within_tolerance_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tolerance of 1 % of the cap makes the solver offer divisions that do not fit.

    None of them is accepted.
    """
    monkeypatch.setattr(partition, "TOLERANCE", 1e-2)
    for seed in range(6):
        problem = made(seed, vertices=7, machines=3, loads=[1000, 995, 505, 500, 499, 498, 3], cap=1503)
        found = solve(problem, [fitting(problem, ENOUGH)], ENOUGH)
        assert (found.end, found.crossing) == ("optimal", best_of_all(problem))
