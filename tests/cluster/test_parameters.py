"""Parameters of a scenario: where each is used, its value, its source, and its range."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.parameters import ParameterTable, resolve
from lrpc.kernel.errors import Refused

BLOCKS = {"value": 512, "range": [256, 1024], "why": "what workstations had"}


def tables(**parameters: Any) -> dict[str, Any]:
    return {"parameters": parameters, "domains": {"cache": {"blocks": "$blocks"}}}


def test_a_named_parameter_stands_wherever_its_name_does() -> None:
    found = resolve({"parameters": {"blocks": BLOCKS}, "here": "$blocks", "there": [{"deep": "$blocks"}]}, "x.toml")
    assert found.tables == {"here": 512, "there": [{"deep": 512}]}
    assert found.parameters["blocks"].range == (256, 1024)


def test_a_parameter_in_place_goes_by_its_keys() -> None:
    found = resolve({"domains": {"user": [{"blocks": BLOCKS}]}}, "x.toml")
    assert found.tables == {"domains": {"user": [{"blocks": 512}]}}
    assert list(found.parameters) == ["domains.user.0.blocks"]


def test_a_scenario_without_parameters_is_what_it_was() -> None:
    described = {"name": "office", "machines": {"desk": {"count": 3}}, "price": "5$"}
    assert resolve(described, "x.toml").tables == described


def test_just_what_scales_is_scaled_and_whole_numbers_stay_at_least_one() -> None:
    scaled = {"value": 10, "range": [1, 20], "why": "w", "scales": True}
    described = {"a": scaled, "b": {**scaled, "value": 5.0}, "c": {**scaled, "scales": False}}
    assert resolve(described, "x.toml", 0.01).tables == {"a": 1, "b": 0.05, "c": 10}


FITTED = {"value": 1, "why": "w", "origin": "fitted"}


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (tables(), "x.toml: domains.cache.blocks: $blocks: no such parameter; there are none"),
        (tables(blocks=BLOCKS, other=BLOCKS), "x.toml: parameters.other: nothing uses it"),
        (tables(blocks={**BLOCKS, "value": 2000}), "x.toml: parameters.blocks: top level: value 2000: is not within"),
        (tables(blocks={"value": 1, "why": "w"}), "an assumed number needs a range"),
        (tables(blocks={"value": 1, "why": "w", "origin": "fitted"}), "solved_from: a fitted parameter needs it"),
        (tables(blocks={**FITTED, "solved_from": ["I/Taos"]}), "x.toml: parameters.blocks: solved_from.0: "),
        (
            tables(blocks={**FITTED, "solved_from": ["I/Taos/kernel"]}),
            "x.toml: parameters.blocks: solved_from.0: I/Taos/kernel: I has no column kernel; it has remote/local, ",
        ),
        (tables(blocks={"value": "b", "why": "w", "choices": ["c"]}), "value b: is none of its choices: c"),
        (tables(blocks={**BLOCKS, "why": ""}), "x.toml: parameters.blocks: why:"),
        (tables(blocks={**BLOCKS, "rnage": 1}), "rnage: unknown key"),
        ({"parameters": 1}, "x.toml: parameters: not a table"),
        ({"a": {"value": float("nan"), "range": [0, 1], "why": "w"}}, "x.toml: a: top level: value nan: is not within"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said_in_one_line(described: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        resolve(described, "x.toml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_scale_that_nothing_scales_with_is_refused() -> None:
    with pytest.raises(Refused, match=r"^x\.toml: scale 0\.5: none of its parameters scales"):
        resolve(tables(blocks=BLOCKS), "x.toml", 0.5)


@given(st.floats(0, 1), st.integers(-1000, 1000), st.integers(0, 1000), st.booleans())
def test_what_is_between_lies_within_the_range(share: float, low: int, width: int, whole: bool) -> None:
    value: int | float = low if whole else float(low)
    one = ParameterTable(value=value, range=(low, low + width), why="w")
    found = one.between(share)
    assert isinstance(found, float) is not whole
    assert low <= float(found) <= low + width
