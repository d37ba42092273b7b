"""gRPC's own functions that make channels and servers: found, kept, and lent to `install`.

lrpc needs them for itself, to make what stands beside its channels and servers; and `install` puts
lrpc's in their place. A name is not enough for either. Whoever traces gRPC, as OpenTelemetry does,
wraps its names, and the wrapper holds the function that was there before. So another function under
the name would be around such a wrapper, and not inside it: a call would not be traced. To follow
`__wrapped__` does not help, since a closure or an attribute may hold the function as well.

So `install` lends the function itself to lrpc: its `__code__` is replaced. That is unusual, but is
Python's public interface, undone as easily, and the one way that reaches gRPC's function through
whatever holds it, in any order: wrappers stay where they are, and names that a program took before
are reached too. What lrpc uses is a copy, which nobody wraps.
"""

import gc
import inspect
from collections import deque
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Final

import grpc
import grpc.aio

_MOST_LOOKED_AT: Final = 1_000_000  # objects that a wrapper may lead to
OURS: Final[dict[str, Callable[..., Any]]] = {}  # what stands in for gRPC's while it is lent, by name


class OwnFunction:
    """One of gRPC's functions: `make` does what it does, whoever has wrapped or borrowed it."""

    def __init__(self, module: Any, name: str) -> None:
        self.name = f"{module.__name__}.{name}"
        self.make: Callable[..., Any] = getattr(module, name)
        self._function = _found(self.make, module.__name__, name)
        if self._function is not None:
            self.make = _copied(self._function)

    def lend(self, ours: Callable[..., Any]) -> None:
        """Call `ours` in gRPC's function from now on. Raises `LookupError` if it is not there."""
        if self._function is None:
            raise LookupError(f"{self.name} is not gRPC's own, and leads to nothing that is")
        OURS[self.name] = ours
        vars(self._function)["__signature__"] = inspect.signature(self._function)
        self._function.__code__ = _code_for(self.name)

    def give_back(self) -> None:
        """Let gRPC's function do again what it does."""
        if self._function is not None and isinstance(self.make, FunctionType):
            self._function.__code__ = self.make.__code__
            vars(self._function).pop("__signature__", None)


def _lent(*arguments: Any, **named: Any) -> Any:
    from lrpc.cluster.channel.own import OURS  # it runs with the globals of a module of gRPC's

    return OURS["name"](*arguments, **named)


def _code_for(name: str) -> CodeType:
    code = _lent.__code__
    return code.replace(co_consts=tuple(name if one == "name" else one for one in code.co_consts))


def _copied(function: FunctionType) -> FunctionType:
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _found(named: object, module: str, name: str) -> FunctionType | None:
    """Return gRPC's function of a name: what has the name, or what that wraps, however it does.

    A module of gRPC's has its functions from the modules below it, but `grpc` from itself.
    """
    ahead: deque[object] = deque([named])
    seen = {id(named)}
    while ahead and len(seen) < _MOST_LOOKED_AT:
        one = ahead.popleft()
        if isinstance(one, FunctionType) and _is_grpcs(one, module, name):
            return one
        for other in gc.get_referents(one):
            if id(other) not in seen:
                seen.add(id(other))
                ahead.append(other)
    return None


def _is_grpcs(function: FunctionType, module: str, name: str) -> bool:
    found = str(function.__globals__.get("__name__", ""))
    right = found == module or (module != "grpc" and found.startswith(f"{module}."))
    return right and function.__code__.co_name == name


_NAMES: Final = ("insecure_channel", "secure_channel", "server")
INSECURE, SECURE, SERVER = (OwnFunction(grpc, name) for name in _NAMES)
AIO_INSECURE, AIO_SECURE, AIO_SERVER = (OwnFunction(grpc.aio, name) for name in _NAMES)
