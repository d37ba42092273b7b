"""Every transition is in one table, and what is not in it is a broken kernel."""

from enum import IntEnum
from itertools import product

import pytest

from lrpc.kernel.errors import Panic
from lrpc.kernel.states import FOLLOWS, AStackState, BindingState, LinkageState, ThreadState, follow

KINDS: tuple[type[IntEnum], ...] = (ThreadState, LinkageState, AStackState, BindingState)
STATES: list[IntEnum] = [state for kind in KINDS for state in kind]


def test_the_table_has_every_state_once_in_order_of_value() -> None:
    assert [int(state) for state in FOLLOWS] == list(range(len(STATES)))
    assert list(FOLLOWS) == STATES


@pytest.mark.parametrize(("old", "new"), list(product(STATES, STATES)))
def test_a_state_follows_where_the_table_says_so_and_panics_elsewhere(old: IntEnum, new: IntEnum) -> None:
    if new in FOLLOWS[old]:
        assert follow(old, new) is new
    else:
        with pytest.raises(Panic, match="cannot become"):
            follow(old, new)


def test_no_state_follows_one_of_another_kind_or_itself() -> None:
    for old, following in FOLLOWS.items():
        assert all(type(new) is type(old) and new is not old for new in following)


def test_every_state_but_that_of_a_new_binding_is_reached_from_another() -> None:
    reached = {new for following in FOLLOWS.values() for new in following}
    assert set(STATES) - reached == {BindingState.BOUND}


def test_a_panic_is_not_caught_by_what_catches_every_error() -> None:
    assert not issubclass(Panic, Exception)
