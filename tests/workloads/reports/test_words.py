"""Reports write names and numbers in one way."""

import pytest

from lrpc.workloads.reports.words import brief, change, number, readable, short, span

POD = "frontend-579b9bff58-t2dbm"
TWIN = "frontend-579b9bff58-abcde"


def test_hashes_of_pods_go_where_the_rest_is_unique() -> None:
    found = brief([POD, "currencyservice-cf787dd48-vpjrd", f"m1/{POD} → m2/cart-579f59597d-wc2lz", "office"])
    assert list(found.values()) == ["frontend", "currencyservice", "m1/frontend → m2/cart"]


def test_hashes_stay_where_only_they_tell_two_names_apart() -> None:
    found = brief([POD, "frontend-579b9bff58-xxxxx", "cart-579f59597d-wc2lz"])
    assert found[POD] == POD
    assert found["cart-579f59597d-wc2lz"] == "cart"


@pytest.mark.parametrize("name", ["my-services-proxy", TWIN, "files.read", "a-b-c", "2026-11-27"])
def test_words_are_no_hashes(name: str) -> None:
    assert brief([name]) == {}


def test_long_names_are_shortened_in_the_middle_and_pairs_at_either_end() -> None:
    assert short("a" * 30 + "-" + "b" * 30) == "a" * 18 + "…" + "b" * 17
    assert short(f"{'a' * 30} → {'b' * 30}") == f"{'a' * 30} → {'b' * 30}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (12, "12"), (1234567, "1,234,567"), (0.012345, "0.0123"), (3.14159, "3.14"), (56924.2, "56,924.2")],
)
def test_numbers_have_as_many_digits_as_are_useful(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("us", "text"), [(0.0, "0.0 µs"), (157.0, "157.0 µs"), (56924.2, "56.9 ms"), (2.5e6, "2.5 s")])
def test_times_have_the_unit_that_a_reader_would_choose(us: float, text: str) -> None:
    assert span(us) == text


def test_fields_are_words_with_units_spelt_in_one_way() -> None:
    assert readable("lock_wait_us") == "lock wait, µs"
    assert readable("a cross-domain call, simulated, us") == "a cross-domain call, simulated, µs"
    assert readable("cross_machine") == "cross-machine calls"
    assert (
        readable("cross_machine_percent_of_trap_and_cross_domain") == "cross-machine percent of trap and cross-domain"
    )


def test_a_change_from_nothing_is_none() -> None:
    assert (change(200.0, 150.0), change(0.0, 1.0)) == ("-25.0 %", "")
