"""Every error a user can meet, by whose fault it is: the input's, the caller's, the server's, or the kernel's own."""


class Refused(Exception):
    """Input refused before work began (exit code 2). `str()` is one line: the thing, the place, the mend."""


class RunFailed(Exception):
    """A run that began and could not end well (exit code 3). `str()` is one line."""


class Panic(BaseException):
    """A broken invariant of the kernel itself: never handed to a caller, never caught by one.

    It is no `Exception`, so that a server procedure that catches everything does not hide it.
    """


class CallError(Exception):
    """A call that did not return results. The caller gets it in place of them."""

    def copy(self) -> "CallError":
        """Return an equal error for another caller: each has its own, with nothing of another's stack in it."""
        return type(self)(*self.args)


class ArgumentError(CallError, TypeError):
    """An argument or a result is of the wrong type, size or number; raised before any trap."""


class BindingRefused(CallError):
    """An import or export that the name server, the clerk or the kernel did not accept."""


class ForgedBinding(CallError):
    """The Binding Object was not made by this kernel for the calling domain."""


class NoSuchProcedure(CallError):
    """The procedure number is outside the interface's procedure descriptor list."""


class WrongAStack(CallError):
    """The address is not that of an A-stack of this binding and procedure."""


class LinkageInUse(CallError):
    """The A-stack's linkage already belongs to a call in progress."""


class AccessFault(CallError):
    """A domain touched memory that is not mapped to it with that right."""


class CallAborted(CallError):
    """The caller gave the call up; the server may still hold it."""


class CallFailed(CallError):
    """The call cannot complete: its server, or the machine it is on, is gone."""


class BindingRevoked(CallFailed):
    """The server took back the Binding Object; a new import may or may not be accepted."""


class ProcedureRaised(CallError):
    """The server procedure raised. Only the exception's name and text cross the boundary."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message


def raised(error: Exception) -> ProcedureRaised:
    """Return what of a server's exception may cross a boundary: its name and its text."""
    try:
        text = str(error)
    except Exception as other:  # the server's code as well
        text = f"(it cannot say what: {type(other).__name__})"
    return ProcedureRaised(type(error).__name__, text)
