"""The way in to the host kernel; where this computer has none, it says what is missing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Literal

from lrpc.kernel.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from lrpc.domains.host.domain import HostDomain

# How a domain waits: its workers for calls, and its callers for replies. "adapt" spins only while
# that pays.
Waits = Literal["adapt", "sleep", "spin"]
_WAITS: Final[dict[Waits, int]] = {"adapt": 0, "sleep": 1, "spin": 2}


def this_machine(
    name: str | None = None,
    *,
    folder: Path | str | None = None,
    waits: Waits = "adapt",
    workers: int = 64,
    seed: int = 0,
) -> HostDomain:
    """Return this process as a protection domain of this computer, to export from and bind in.

        with lrpc.this_machine() as here:
            here.export(Adder, AdderServer(), "adder")
            here.serve()

    `name` is how messages and `lrpc doors` call it. `folder` is where doors are; only processes
    with the same folder find each other. The default is $LRPC_DOORS, or a folder of the user's.
    `abstract:1000,1001` in its place is for containers of one pod: doors without a folder, and the
    users that may be at the other end, in the same user namespace.
    `waits` says how this domain waits, its workers for calls and its callers for replies: "adapt"
    spins where that pays, "sleep" hands the processor over at each call, "spin" watches memory.
    `workers` is the most threads that run procedures at a time; one client process has three in
    four of them at most, where there are more than three. `seed` begins the random streams
    that servers ask for.

    Raises `Refused` where this system has no host kernel, and says what is missing;
    `BindingRefused` where the folder is not this user's alone.
    """
    require()
    from lrpc.domains.host.domain import HostDomain

    return HostDomain(name, folder, waits, workers, seed)


def waits_number(waits: object) -> int:
    """Return the kernel's number of a way to wait. Raises `Refused` where it is none of them."""
    if waits not in _WAITS:
        raise Refused(f"waits={waits!r}: it is one of {', '.join(map(repr, _WAITS))}")
    return _WAITS[waits]


def deadline(seconds: float) -> AbstractContextManager[None]:
    """Give all calls between processes within a `with` block a deadline, in seconds from now.

    A call that has not returned by then ends with `CallAborted`, whether it waited for an A-stack,
    for the server, or for its results. A block within another one cannot extend it.

    Raises `Refused` where this system has no host kernel, and says what is missing.
    """
    require()
    from lrpc.domains.host.stubs import until

    return until(seconds)


def require() -> None:
    """Raise `Refused`, which says what is missing, where this system has no host kernel."""
    try:
        import lrpc.kernel.host.native  # noqa: F401 - whether it is there
    except ImportError as error:
        raise Refused(
            "calls between processes of this computer need lrpc's native part, which was not built here "
            f"({error}); it needs Linux and a C compiler: install one, then lrpc again"
        ) from None
