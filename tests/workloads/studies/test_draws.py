"""Draws take parameters from their ranges; other studies change parameters one at a time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.parameters import ParameterTable, resolve
from lrpc.kernel.errors import Refused
from lrpc.workloads.runs.jobs import change
from lrpc.workloads.studies.draws import as_changes, latin_hypercube, one_at_a_time
from lrpc.workloads.studies.sensitivity import spread

RANGED = {
    "blocks": ParameterTable(value=512, range=(256, 1024), why="w"),
    "hours": ParameterTable(value=2.0, range=(1.0, 5.0), why="w"),
    "fixed": ParameterTable(value=3.0, range=(3.0, 3.0), why="w"),
    "style": ParameterTable(value="a", choices=("a", "b"), why="w"),
}


@given(st.integers(2, 60), st.integers(0, 2**63 - 1))
def test_every_stratum_of_every_range_is_drawn_from_once(count: int, seed: int) -> None:
    drawn = latin_hypercube(RANGED, count, seed)
    assert all(set(values) == {"blocks", "hours"} for values in drawn)
    hours = [float(values["hours"]) for values in drawn]
    assert sorted(int((one - 1.0) / 4.0 * count) for one in hours) == list(range(count))


def test_one_parameter_s_draws_do_not_depend_on_another_s_presence() -> None:
    alone = latin_hypercube({"hours": RANGED["hours"]}, 20, 7)
    assert [one["hours"] for one in alone] == [one["hours"] for one in latin_hypercube(RANGED, 20, 7)]
    assert alone != latin_hypercube({"hours": RANGED["hours"]}, 20, 8)


def test_one_is_changed_at_a_time_after_none_is() -> None:
    assert one_at_a_time(RANGED, ["blocks"], [0.5, 2.0], "x") == [{}, {"blocks": 256}, {"blocks": 1024}]
    everything = one_at_a_time(RANGED, [], [2.0], "x")
    assert everything == [{}, {"blocks": 1024}, {"hours": 4.0}, {"fixed": 6.0}]
    with pytest.raises(Refused, match=r"^x: style: is not a number among"):
        one_at_a_time(RANGED, ["style"], [2.0], "x")


@given(st.floats(0.01, 100))
def test_a_value_beyond_its_range_takes_the_range_along(factor: float) -> None:
    named = {"blocks": {"value": 512, "range": [256, 1024], "why": "w"}}
    tables: dict[str, Any] = {
        "parameters": named,
        "here": "$blocks",
        "there": {"hours": {"value": 2.0, "range": [1.0, 5.0], "why": "w"}},
    }
    parameters = resolve(tables, "x").parameters
    for values in one_at_a_time(parameters, ["blocks", "there.hours"], [factor], "x"):
        for key, value in as_changes(values, parameters, named).items():
            change(tables, key, value, "x")
    changed = resolve(tables, "x").tables
    assert changed["here"] == max(1, round(512 * factor))
    assert changed["there"]["hours"] == 2.0 * factor


def test_the_mean_s_confidence_is_student_s() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found is not None
    assert (found.mean, found.least, found.most, found.quantiles[0.5]) == (3.0, 1.0, 5.0, 3.0)
    assert found.low == pytest.approx(1.0368, abs=1e-4)
    assert found.high == pytest.approx(4.9632, abs=1e-4)
    assert spread([1.0]) is None
