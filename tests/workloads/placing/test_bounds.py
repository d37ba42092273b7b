"""Bounds hold for every division, whatever the prices; METIS's and relaxed divisions fit."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.placing import bounds, multilevel, partition, relaxation
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
    found = relaxation.relaxed(problem, fitting(problem, SearchLimits(1, 1.0)), ENOUGH_S)
    assert problem.fits(found.placed)
    assert found.at_least <= least <= problem.crossing(found.placed)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw a problem with second limits, fixed vertices and vertices that are apart."""
    machines = draw(st.integers(2, 4))
    count = draw(st.integers(3, 7))
    sizes = st.lists(st.integers(0, 9), min_size=count, max_size=count)
    pairs = [(one, other) for other in range(count) for one in range(other)]
    weights = draw(st.dictionaries(st.sampled_from(pairs), st.integers(1, 20), min_size=1))
    fixed = draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, machines - 1), max_size=3))
    apart = draw(st.lists(st.frozensets(st.integers(0, count - 1), min_size=2, max_size=3), max_size=2))
    limits = [Limit(draw(sizes), draw(st.integers(3, 25))) for _ in range(draw(st.integers(0, 2)))]
    return Problem(draw(sizes), weights, machines, draw(st.integers(3, 25)), limits, fixed, apart)


def best_of_fixed(problem: Problem) -> int | None:
    """Return the least crossing weight of any division, where machines are not alike."""
    every = product(range(problem.machines), repeat=len(problem.loads))
    return min((problem.crossing(placed) for placed in every if problem.fits(placed)), default=None)


@given(problems(), st.data())
def test_whatever_the_prices_are_no_division_crosses_less(problem: Problem, data: st.DataObject) -> None:
    least = best_of_fixed(problem)
    if least is None or not bounds.can_be_scaled(problem):
        return
    scaled = bounds.Scaled(problem)
    count = len(problem.loads)
    chance = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    size = data.draw(st.sampled_from([0.0, 0.01, 0.1, 1.0]))
    pairs = np.abs(np.triu(chance.normal(size=(count, count)), 1))
    pairs = np.where(bounds.parted(problem), np.triu(chance.normal(size=(count, count)), 1), pairs) * size
    corners = np.array([chance.permutation(count)[:3] for _ in range(4)], np.int64)
    prices = bounds.Prices(
        chance.normal(size=count) * size,
        np.abs(chance.normal(size=(len(scaled.caps), count))) * size,
        pairs + pairs.T,
        corners,
        np.abs(chance.normal(size=4)) * size,
    )
    assert scaled.value(prices) <= least
    assert bounds.bound(problem) <= least


@given(problems())
def test_relaxing_proves_no_more_than_the_best_of_all_and_keeps_what_is_asked_for(problem: Problem) -> None:
    every = product(range(problem.machines), repeat=len(problem.loads))
    fits = [placed for placed in every if problem.fits(placed)]
    if not fits:
        return
    found = relaxation.relaxed(problem, fits[-1], ENOUGH_S)
    assert problem.fits(found.placed)
    assert found.at_least <= min(map(problem.crossing, fits))
    assert problem.crossing(found.placed) <= problem.crossing(fits[-1])


def test_prices_triple_the_bound_of_a_sparse_graph() -> None:
    problem = made(3, vertices=60, machines=4)
    found = relaxation.relaxed(problem, fitting(problem, SearchLimits(1, 1.0)), ENOUGH_S)
    assert 3 * bounds.bound(problem) < found.at_least <= problem.crossing(found.placed)
    assert found.at_least > 0.85 * problem.crossing(found.placed)


def test_corners_raise_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = made(3, vertices=60, machines=4)
    start = fitting(problem, SearchLimits(1, 1.0))
    found = relaxation.relaxed(problem, start, ENOUGH_S).at_least
    monkeypatch.setattr(relaxation, "NEW_CORNERS", 0)
    assert 1.1 * relaxation.relaxed(problem, start, ENOUGH_S).at_least < found


def test_relaxing_ends_when_its_seconds_are_over_and_is_the_same_again_where_they_are_not() -> None:
    problem = made(3, vertices=60, machines=4)
    start = fitting(problem, SearchLimits(1, 1.0))
    began = time.monotonic()
    assert relaxation.relaxed(problem, start, 0.0) == relaxation.Relaxed(0, start, "seconds")
    short = relaxation.relaxed(problem, start, 0.05)
    assert time.monotonic() - began < 5
    long = relaxation.relaxed(problem, start, ENOUGH_S)
    assert (short.stopped, long.stopped) == ("seconds", "")
    assert short.at_least <= long.at_least
    assert relaxation.relaxed(problem, start, ENOUGH_S) == long


def test_a_graph_too_large_to_be_relaxed_keeps_its_division(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = made(3, vertices=20, machines=3)
    start = largest_first(problem)
    monkeypatch.setattr(relaxation, "MOST_VERTICES", 19)
    assert relaxation.relaxed(problem, start, ENOUGH_S) == relaxation.Relaxed(0, start)


def test_ctrl_c_ends_relaxing_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded, tries = relaxation.rounded, 0

    def interrupt(*more: Any) -> tuple[int, ...] | None:
        nonlocal tries
        tries += 1
        if tries > 40:
            raise KeyboardInterrupt
        return rounded(*more)

    monkeypatch.setattr(relaxation, "rounded", interrupt)
    problem = made(3, vertices=60, machines=4)
    start = largest_first(problem)
    found = solve(problem, [start], SearchLimits(20_000, ENOUGH_S))
    assert (found.end, found.nodes) == ("interrupted", 0)
    assert problem.fits(found.placed)
    assert 0 < found.at_least < found.crossing < problem.crossing(start)


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
