"""Errors that cross a boundary keep their text, however often they are copied."""

import pickle

import pytest

from lrpc.kernel.errors import CallFailed, ProcedureRaised, raised


@pytest.mark.parametrize(
    "error", [CallFailed("it ended"), ProcedureRaised("ValueError", "no"), ProcedureRaised("Odd", "")]
)
def test_a_copy_says_what_the_error_says(error: CallFailed) -> None:
    for other in (error.copy(), pickle.loads(pickle.dumps(error))):
        assert (type(other), str(other)) == (type(error), str(error))
        assert other is not error


def test_a_servers_exception_crosses_as_its_name_and_text() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert str(raised(ValueError("three"))) == "ValueError: three"
    assert str(raised(KeyError())) == "KeyError"
    assert "cannot say" in str(raised(Mute()))
