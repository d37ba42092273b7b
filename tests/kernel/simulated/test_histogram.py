"""Histogram quantiles are within a hundredth of the values, however counts were merged."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.kernel.simulated.histogram import Histogram, Route
from tests.support.simulated import machine

VALUES = st.lists(st.integers(0, 300) | st.integers(0, 10**6) | st.integers(0, 2**62), min_size=1, max_size=200)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(sorted)


def of(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@given(VALUES, SHARES)
def test_a_quantile_is_within_a_hundredth_of_the_value_it_stands_for(values: list[int], shares: list[float]) -> None:
    ordered = sorted(values)
    for share, found in zip(shares, of(values).quantiles(shares), strict=True):
        exact = ordered[max(ceil(share * len(values)), 1) - 1]
        assert abs(found - exact) <= exact / 100


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), SHARES)
def test_small_values_are_exact(values: list[int], shares: list[float]) -> None:
    ordered = sorted(values)
    exact = [ordered[max(ceil(share * len(values)), 1) - 1] for share in shares]
    assert of(values).quantiles(shares) == exact


def test_a_share_that_ends_with_a_value_is_that_value() -> None:
    assert of([4, 2, 1, 3]).quantiles([0, 0.25, 0.5, 0.51, 0.75, 1]) == [1, 1, 2, 3, 3, 4]


@given(VALUES, VALUES)
def test_merged_histograms_are_the_histogram_of_all(some: list[int], others: list[int]) -> None:
    merged, whole = of(some), of(some + others)
    merged.merge(of(others))
    assert (merged.count, merged.total, merged.buckets) == (whole.count, whole.total, whole.buckets)


@given(VALUES)
def test_count_and_total_are_exact(values: list[int]) -> None:
    found = of(values)
    assert (found.count, found.total) == (len(values), sum(values))


def test_neighbouring_buckets_never_change_places() -> None:
    edges = [2**power + step for power in range(40) for step in (-1, 0, 1)]
    middles = [of([value]).quantiles([0.5])[0] for value in sorted(edges)]
    assert middles == sorted(middles)


def test_an_empty_histogram_has_quantiles_of_0() -> None:
    assert Histogram().quantiles([0.5, 0.99]) == [0, 0]


@pytest.mark.parametrize(("call", "us"), [("null", 157), ("add", 164)])
def test_each_call_is_counted_under_its_procedure(call: str, us: int) -> None:
    one = machine()

    def body() -> None:
        tests = one.tests()
        for _ in range(10):
            tests.null()
            tests.add(1, 2)

    one.run(body)
    found = one.kernel.latencies[Route("client", "server", "tests", call)]
    assert found.count == 10
    assert found.total == pytest.approx(10 * us * 1000, rel=1e-5)
    assert found.quantiles([0.5, 0.99]) == pytest.approx([us * 1000] * 2, rel=0.01)
