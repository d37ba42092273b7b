"""Every state of threads, linkages, A-stacks and bindings, and every transition between them, in one table."""

from enum import IntEnum
from typing import Final, TypeVar

from lrpc.kernel.errors import Panic

# Values differ between the enumerations, so that one table serves them all and no state is taken for another's.


class ThreadState(IntEnum):
    """Where a thread stands with respect to processors."""

    READY = 0  # has all it waited for, but no processor
    RUNNING = 1  # has a processor
    WAITING = 2  # for an A-stack, a message, a timer, another thread or the network
    ENDED = 3


class LinkageState(IntEnum):
    """Who owns a linkage record, and so the A-stack beside it."""

    FREE = 4
    CALLING = 5  # on the linkage stack of one thread
    ABORTED = 6  # its caller went on; the server still holds the call


class AStackState(IntEnum):
    """Where an A-stack is."""

    FREE = 7  # in its LIFO queue
    TAKEN = 8  # a client stub fills it, reads it, or has a call in progress on it
    QUARANTINED = 9  # its caller went on; back to the queue when the server lets go


class BindingState(IntEnum):
    """Whether a Binding Object still opens anything."""

    BOUND = 10
    REVOKED = 11


FOLLOWS: Final[dict[IntEnum, tuple[IntEnum, ...]]] = {
    ThreadState.READY: (ThreadState.RUNNING,),
    ThreadState.RUNNING: (ThreadState.WAITING, ThreadState.ENDED),
    ThreadState.WAITING: (ThreadState.READY,),
    ThreadState.ENDED: (),
    LinkageState.FREE: (LinkageState.CALLING,),
    LinkageState.CALLING: (LinkageState.FREE, LinkageState.ABORTED),
    LinkageState.ABORTED: (LinkageState.FREE,),
    AStackState.FREE: (AStackState.TAKEN,),
    AStackState.TAKEN: (AStackState.FREE, AStackState.QUARANTINED),
    AStackState.QUARANTINED: (AStackState.FREE,),
    BindingState.BOUND: (BindingState.REVOKED,),
    BindingState.REVOKED: (),
}

_ALLOWED: Final = [[new in FOLLOWS[old] for new in FOLLOWS] for old in FOLLOWS]

S = TypeVar("S", bound=IntEnum)


def follow(old: S, new: S) -> S:
    """Return `new`, or panic where the table does not let it follow `old`."""
    if not _ALLOWED[old][new]:
        raise Panic(f"{old!r} cannot become {new!r}")
    return new
