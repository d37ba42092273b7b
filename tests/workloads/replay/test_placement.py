"""Pods are placed by a policy or a file; an impossible placement is refused in one line."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.replay.placement import PlacementRefused, machine_names, place, write_placement

PODS = ["cart", "catalog", "frontend", "payment", "shipping"]


def refusal(placement: str | Path, machines: int = 2, capacity: int | None = None) -> str:
    with pytest.raises(PlacementRefused) as caught:
        place(PODS, machines, placement, capacity=capacity)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def test_spread_deals_the_sorted_pods_out_in_turn() -> None:
    placed = place(reversed(PODS), 2, "spread")
    assert list(placed.items()) == list(zip(PODS, [0, 1, 0, 1, 0], strict=True))


def test_pack_fills_a_machine_before_the_next() -> None:
    assert list(place(PODS, 2, "pack").values()) == [0, 0, 0, 1, 1]
    assert list(place(PODS, 3, "pack", capacity=4).values()) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("policy", ["spread", "pack"])
def test_a_pod_named_twice_is_placed_once_and_machines_may_stay_empty(policy: str) -> None:
    assert place(["a", "b", "a"], 5, policy) == {"a": 0, "b": 1}
    assert place([], 1, policy) == {}


def test_names_of_machines_sort_as_their_indices() -> None:
    assert machine_names(3) == ["m0", "m1", "m2"]
    assert machine_names(10)[-1] == "m9"
    assert machine_names(11)[::10] == ["m00", "m10"]
    for machines in (1, 9, 10, 11, 100, 101):
        names = machine_names(machines)
        assert len(names) == machines
        assert names == sorted(names)


def test_pods_go_where_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[placement]\n"cart" = 1\nfrontend = 0\n')
    assert place(["frontend", "cart"], 2, str(path)) == {"cart": 1, "frontend": 0}


def test_a_written_placement_reads_as_a_person_would_write_it(tmp_path: Path) -> None:
    path = tmp_path / "written.toml"
    write_placement(path, {"cart": 1, "frontend": 0, "catalog": 1})
    _, tables = path.read_text().split("\n\n", 1)
    assert tables == '[placement]\n"frontend" = 0\n\n"cart" = 1\n"catalog" = 1\n'


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 6)))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, mapping: dict[str, int]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.toml"
    write_placement(path, mapping)
    assert place(mapping, 7, path) == mapping


@pytest.mark.parametrize(
    ("placement", "machines", "capacity", "told"),
    [
        ("spread", 0, None, "give 1 or more"),
        ("pack", -1, None, "give 1 or more"),
        ("pack", 2, 2, "5 pods do not fit on 2 machines of 2"),
        ("pack", 2, 0, "0 pods fill no machine"),
        ("spread", 2, 3, "only 'pack' has one"),
        ("no/such.toml", 2, None, "No such file"),
        ("", 2, None, "Is a directory"),
        ("a\0b", 2, None, "null byte"),
    ],
)
def test_an_impossible_request_is_refused(placement: str, machines: int, capacity: int | None, told: str) -> None:
    assert told in refusal(placement, machines, capacity)


GOOD = "[placement]\ncart = 0\ncatalog = 0\nfrontend = 1\npayment = 1\n"


@pytest.mark.parametrize(
    ("text", "place_in_file", "told"),
    [
        ("[placement", "whole file", "not TOML"),
        ("\xff", "whole file", "UTF-8"),
        ("a = " + "9" * 5000, "whole file", "digits"),
        ("a = " + "[" * 5000, "whole file", "recursion"),
        ("", "placement", "begin the file with [placement]"),
        ("placement = 3", "placement", "begin the file with [placement]"),
        (GOOD, "placement.'shipping'", "this pod has no machine"),
        (GOOD + "shiping = 0", "placement.'shiping'", "no such pod"),
        (GOOD + "shipping.eu = 0", "placement.'shipping'", "is not a machine"),
        (GOOD + "shipping = 2", "placement.'shipping'", "2 is not a machine; give a number from 0 to 1"),
        (GOOD + "shipping = -1", "placement.'shipping'", "from 0 to 1"),
        (GOOD + "shipping = true", "placement.'shipping'", "True is not a machine"),
        (GOOD + 'shipping = "m0"', "placement.'shipping'", "'m0' is not a machine"),
        (GOOD + "shipping = 0.0", "placement.'shipping'", "0.0 is not a machine"),
        (GOOD + "cart = 1", "whole file", "Cannot overwrite"),
        (GOOD + "shipping = 0\n[machines]", "'machines'", "remove this"),
        ('[placement]\n"a\\nb\\u2028" = 0', "placement.'a\\nb\\u2028'", "no such pod"),
    ],
)
def test_a_wrong_file_is_refused_naming_file_place_and_fix(
    tmp_path: Path, text: str, place_in_file: str, told: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(text.encode("latin-1"))
    message = refusal(path)
    assert message.startswith(f"{path}: {place_in_file}: ")
    assert told in message


def test_how_many_pods_are_wrong_is_told(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text("[placement]\ncart = 0\n")
    assert "(3 more like it)" in refusal(path)


def test_a_placement_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlacementRefused, match="cannot be written"):
        write_placement(tmp_path, {"a": 0})
    with pytest.raises(PlacementRefused, match="cannot be written"):
        write_placement(tmp_path / "half.toml", {"\ud800": 0})


def test_a_refusal_crosses_processes() -> None:
    refused = PlacementRefused("pack", "capacity", "too small")
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused) == "pack: capacity: too small"
