"""Calls that have ended, as gRPC's programs see them: their status, and the error that has it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc

from lrpc.cluster.channel.form import Metadata

if TYPE_CHECKING:  # its types have a parameter that it does not have when it runs
    _Future = grpc.Future[Any]
else:
    _Future = grpc.Future

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def debug_string(code: grpc.StatusCode, details: str) -> str:
    """Return a status as gRPC's core writes it where there is nothing more to say."""
    if code is grpc.StatusCode.OK:
        return ""
    return f"{code.name}:{details}" if details else code.name


class LocalCall(grpc.Call):
    """A `grpc.Call` that has ended, on an A-stack."""

    def __init__(self, code: int, details: str, initial: Metadata, trailing: Metadata) -> None:
        self._code = _CODES.get(code, grpc.StatusCode.UNKNOWN)
        self._details, self._initial, self._trailing = details, initial, trailing

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        return self._code

    def details(self) -> str:
        """Return the status details."""
        return self._details

    def initial_metadata(self) -> Metadata:
        """Return the server's initial metadata."""
        return self._initial

    def trailing_metadata(self) -> Metadata:
        """Return the server's trailing metadata."""
        return self._trailing

    def debug_error_string(self) -> str:
        """Return the status as gRPC's core writes it."""
        return debug_string(self._code, self._details)

    def is_active(self) -> bool:
        """Return False: the call has ended."""
        return False

    def time_remaining(self) -> None:  # type: ignore[override]  # as gRPC's own
        """Return None: the call has ended."""

    def cancel(self) -> bool:
        """Return False: the call has ended."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Return False: the call has ended."""
        return False


class LocalRpcError(grpc.RpcError, grpc.Call, _Future):
    """A `grpc.RpcError` of a call on an A-stack: also its call, and a future that has it."""

    def __init__(self, call: LocalCall) -> None:
        super().__init__(call.code(), call.details())
        self._call = call

    def __str__(self) -> str:
        return (
            f"<{type(self).__name__} of RPC that terminated with:\n"
            f"\tstatus = {self._call.code()}\n"
            f'\tdetails = "{self._call.details()}"\n'
            f'\tdebug_error_string = "{self._call.debug_error_string()}"\n>'
        )

    __repr__ = __str__

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        return self._call.code()

    def details(self) -> str:
        """Return the status details."""
        return self._call.details()

    def initial_metadata(self) -> Metadata:
        """Return the server's initial metadata."""
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Metadata:  # type: ignore[override]  # its type is gRPC's own
        """Return the server's trailing metadata."""
        return self._call.trailing_metadata()

    def debug_error_string(self) -> str:
        """Return more than the details where there is more."""
        return self._call.debug_error_string()

    def is_active(self) -> bool:
        """Return False: the call has ended."""
        return False

    def time_remaining(self) -> None:  # type: ignore[override]  # as gRPC's own
        """Return None: the call has ended."""

    def cancel(self) -> bool:
        """Return False: the call has ended."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Return False: the call has ended."""
        return False

    def cancelled(self) -> bool:
        """Return False, as gRPC's errors do."""
        return False

    def running(self) -> bool:
        """Return False: the call has ended."""
        return False

    def done(self) -> bool:
        """Return True: the call has ended."""
        return True

    def result(self, timeout: float | None = None) -> Any:
        """Raise this error."""
        raise self

    def exception(self, timeout: float | None = None) -> Exception:
        """Return this error."""
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        """Return the traceback of this error."""
        try:
            raise self
        except grpc.RpcError as error:
            return error.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this error: it is done."""
        fn(self)
