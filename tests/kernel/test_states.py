"""One table holds every state transition; any other transition is a broken kernel."""

from itertools import product

import pytest

from lrpc.kernel.errors import Panic
from lrpc.kernel.states import BINDING_BOUND, DOMAIN_LIVE, FOLLOWS, NAMES, follow

STATES = range(len(NAMES))


def kind(state: int) -> str:
    """Return the kind of object that has a state."""
    return NAMES[state].split()[0]


def test_the_table_has_every_state_once_in_order_of_value() -> None:
    assert list(FOLLOWS) == list(STATES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_a_state_follows_where_the_table_says_so_and_panics_elsewhere(old: int, new: int) -> None:
    if new in FOLLOWS[old]:
        assert follow(old, new) == new
    else:
        with pytest.raises(Panic, match=f"^{NAMES[old]} cannot become {NAMES[new]}$"):
            follow(old, new)


def test_no_state_follows_one_of_another_kind_or_itself() -> None:
    for old, following in FOLLOWS.items():
        assert all(kind(new) == kind(old) and new != old for new in following)


def test_every_state_but_that_of_a_new_binding_or_domain_is_reached_from_another() -> None:
    reached = {new for following in FOLLOWS.values() for new in following}
    assert set(STATES) - reached == {BINDING_BOUND, DOMAIN_LIVE}


def test_a_panic_is_not_caught_by_what_catches_every_error() -> None:
    assert not issubclass(Panic, Exception)
