"""The errors that users meet, by whose fault they are.

`Refused`: the input is wrong, and no work has begun. `RunFailed`: a run has begun and cannot
finish. `CallError` and its subclasses: one call failed, and its caller is told. `Panic`: lrpc
itself is wrong.

What crosses a domain's boundary is limited. Of an exception that a server raises, only its name and
text reach the caller. Each caller that is told of one failure gets an error object of its own, so
that none holds a traceback with another domain's frames.
"""

import os
import traceback
from dataclasses import dataclass
from typing import Final

MOST_PLACES: Final = 1000  # characters
MOST_TRACE: Final = 1 << 16


class Refused(Exception):
    """The input is wrong; nothing has been started (exit code 2).

    `str()` is one line that names the thing, the place and the fix.
    """


@dataclass(frozen=True)
class RaisedAt:
    """Where a user's code raised what failed a run; empty if nothing that it raised did.

    `places` has file, line and function in one line, and `trace` the traceback, without lrpc's own
    frames.
    """

    places: str = ""
    trace: str = ""


class RunFailed(Exception):
    """A run has begun and cannot finish (exit code 3). `str()` is one line.

    `raised_at` is given where it failed in another process; else it is that of the cause.
    """

    def __init__(self, message: str, raised_at: RaisedAt | None = None) -> None:
        super().__init__(message)
        self._raised_at = raised_at

    @property
    def raised_at(self) -> RaisedAt:
        """Return where a user's code raised what failed the run."""
        return self._raised_at or raised_at_of(self.__cause__)


class Panic(BaseException):
    """An invariant of the kernel is broken: a defect of lrpc itself.

    It is not an `Exception`, so a server procedure that catches every `Exception` cannot hide it.
    """


class LeafEntered(BaseException):
    """A leaf procedure entered the kernel: thrown through its code, on the way to fail the run.

    It is not an `Exception`, so a server procedure that catches every `Exception` cannot hide it.
    """


class CallError(Exception):
    """A call has ended without results; the caller gets this error in their place.

    This is the base class of every error that a single call, import or export can raise.
    """

    def copy(self) -> "CallError":
        """Return an equal error for another caller, without this one's traceback."""
        return type(self)(*self.args)


class ArgumentError(CallError, TypeError):
    """An argument or a result has the wrong type or size, or their number is wrong.

    A client stub checks the arguments before it traps into the kernel.
    """


class BindingRefused(CallError):
    """The kernel, the name server or the server's clerk has refused an import or an export."""


class ForgedBinding(CallError):
    """The Binding Object is not one that this kernel gave to the calling domain."""


class NoSuchProcedure(CallError):
    """The procedure number is outside the interface's procedure descriptor list."""


class WrongAStack(CallError):
    """No A-stack of this binding and procedure begins at the given address."""


class LinkageInUse(CallError):
    """The A-stack's linkage record belongs to another call in progress."""


class NestedTooDeep(CallError):
    """The thread has as many calls in progress, one within the other, as its kernel allows."""


class AccessFault(CallError):
    """A domain accessed memory that is not mapped to it with the right that it needs."""


class CallAborted(CallError):
    """The caller was released from the call, which the server may still be executing."""


class CallFailed(CallError):
    """The call cannot complete: its server's domain has terminated, or its machine does not answer.

    Operations on a domain that has terminated raise it too.
    """


class BindingRevoked(CallFailed):
    """The server has revoked the Binding Object. A new import may be accepted or refused."""


class ProcedureRaised(CallError):
    """The server's procedure raised an exception: `kind` is its class name, `message` its text.

    Nothing else of the exception crosses the boundary.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


def raised(error: BaseException) -> ProcedureRaised:
    """Return a server's exception as the caller may see it: its class name and its text.

    Where servers pass on what others raised, the text has that name once, however many they are. A
    note says where in the server's code it was raised, for whoever looks for that. On the way from
    another machine it is lost.
    """
    try:
        passed_on = isinstance(error, ProcedureRaised) and error.kind == ProcedureRaised.__name__
        text = error.args[1] if passed_on else str(error)
    except Exception as other:  # `__str__` may be the server's code too
        text = f"(it cannot say what: {type(other).__name__})"
    found = ProcedureRaised(type(error).__name__, text)
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    where = place_of(error)
    if where:
        found.add_note(f"raised in the server at {where}")
    return found


def raised_at_of(error: BaseException | None) -> RaisedAt:
    """Return where an exception was raised, as the raised_at of a failure that it caused."""
    if error is None:
        return RaisedAt()
    if isinstance(error, RunFailed):
        return error.raised_at
    found = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = found
    while part is not None:
        part.stack = traceback.StackSummary.from_list([one for one in part.stack if _is_users(one.filename)])
        part = part.__cause__ or part.__context__
    places = (f"raised at {place_of(error)}", *getattr(error, "__notes__", ()))
    return RaisedAt("; ".join(places)[:MOST_PLACES], "".join(found.format())[:MOST_TRACE])


def _is_users(file: str) -> bool:
    """Return whether a file of code is not lrpc's own, whose compiled code has relative paths."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    return os.path.isabs(file) and not file.startswith(own)


def place_of(error: BaseException) -> str:
    """Return where an exception was raised: file, line and function; empty if that is not known.

    That is the last place outside of lrpc itself, if there is one.
    """
    frame, where = error.__traceback__, ""
    while frame is not None:
        code = frame.tb_frame.f_code
        if not where or _is_users(code.co_filename):
            where = f"{code.co_filename}, line {frame.tb_lineno}, in {code.co_name}"
        frame = frame.tb_next
    return where
