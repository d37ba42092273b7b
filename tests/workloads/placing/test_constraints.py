"""What is found under constraints is the best of all that keep them; no bound claims too much."""

from itertools import combinations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lrpc.workloads.placing import bounds
from lrpc.workloads.placing.constraints import Constraint
from lrpc.workloads.placing.partition import Overfull, SearchLimits, Unmet, fitting, solve
from lrpc.workloads.placing.problem import Limit, Problem

ENOUGH = SearchLimits(nodes=100_000, seconds=600.0)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw a problem of up to 8 vertices on up to 3 machines, with constraints of all kinds."""
    count, machines = draw(st.integers(2, 8)), draw(st.integers(1, 3))
    load = st.integers(0, 30)
    loads = draw(st.lists(load, min_size=count, max_size=count))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    weights = draw(st.dictionaries(pairs, st.integers(1, 50), max_size=14))
    cap = draw(st.integers(max(loads), sum(loads) + 1))
    busy = [Limit(draw(st.lists(load, min_size=count, max_size=count)), draw(st.integers(30, 120)))]
    fixed = draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, machines - 1), max_size=3))
    sets = st.frozensets(st.integers(0, count - 1), min_size=2, max_size=3)
    return Problem(
        loads, weights, machines, cap, draw(st.sampled_from([[], busy])), fixed, draw(st.lists(sets, max_size=2))
    )


def best(problem: Problem) -> int | None:
    """Return the least weight that crosses of all divisions that fit; None if none does."""
    every = product(range(problem.machines), repeat=len(problem.loads))
    return min((problem.crossing(placed) for placed in every if problem.fits(placed)), default=None)


@example(Problem([0, 0, 1, 0, 1, 1], {(0, 3): 1, (3, 5): 1}, 3, 2, (), {}, (frozenset([0, 2]), frozenset([0, 5]))))
@settings(deadline=None)
@given(problems())
def test_what_is_found_equals_enumeration(problem: Problem) -> None:
    least = best(problem)
    if least is None:
        with pytest.raises((Overfull, Unmet)):
            fitting(problem, ENOUGH)
        return
    assert bounds.bound(problem) <= least
    start = fitting(problem, ENOUGH)
    assert problem.fits(start)
    found = solve(problem, [start], ENOUGH)
    assert problem.fits(found.placed)
    assert (found.crossing, found.at_least, found.end) == (least, least, "optimal")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_each_two_pods_of_different_names_are_rivals_and_no_others(sizes: list[int]) -> None:
    parts = tuple(tuple(f"{name}-{at}" for at in range(size)) for name, size in enumerate(sizes))
    rivals = Constraint("apart.all", "apart", (), parts=parts).rivals
    found = {frozenset(pair) for one in rivals for pair in combinations(one, 2)}
    apart = (frozenset(two) for one, other in combinations(parts, 2) for two in product(one, other))
    assert found == set(apart)


@settings(deadline=None)
@given(problems())
def test_moves_and_swaps_alone_keep_what_must_hold(problem: Problem) -> None:
    try:
        start = fitting(problem, ENOUGH)
    except (Overfull, Unmet):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrpc.workloads.placing.partition.MOST_VARIABLES", 0)
        found = solve(problem, [start], ENOUGH)
    assert problem.fits(found.placed)
    assert found.at_least <= found.crossing == problem.crossing(found.placed) <= problem.crossing(start)


def test_a_dense_graph_has_a_bound_without_a_search() -> None:
    count = 40
    weights = {(one, other): 1 for other in range(count) for one in range(other)}
    problem = Problem([1] * count, weights, 4, 10)
    crossing = 4 * 3 // 2 * 10 * 10  # four equal parts of ten, each with each
    assert 0.97 * crossing < bounds.bound(problem) <= crossing


def test_a_graph_too_large_for_the_solver_has_a_division_and_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrpc.workloads.placing.partition.MOST_VARIABLES", 10)
    weights = {(one, other): 1 + (one % 2 == other % 2) for other in range(20) for one in range(other)}
    problem = Problem([1] * 20, weights, 2, 12)
    found = solve(problem, [fitting(problem, ENOUGH)], ENOUGH)
    assert found.end == "size"
    assert problem.fits(found.placed)
    assert 0 < found.at_least <= found.crossing
