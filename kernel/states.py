"""States of threads, linkages, A-stacks, bindings and domains, and which may follow which.

One table holds every transition, so that one that nobody intended is a panic at once. States are
whole numbers, which the compiled kernel compares without a look-up. No two kinds share a number, so
one table serves them all and no state is taken for one of another kind.
"""

from typing import Final

from lrpc.kernel.errors import Panic

# What a thread has, or needs, in order to run.
THREAD_READY: Final = 0  # has what it waited for, and has not resumed yet
THREAD_RUNNING: Final = 1  # has a processor
THREAD_WAITING: Final = 2  # for an A-stack, a message, a timer, another thread or the network
THREAD_ENDED: Final = 3

# Who owns a linkage record, and with it the A-stack beside it.
LINKAGE_FREE: Final = 4
LINKAGE_CALLING: Final = 5  # on the linkage stack of exactly one thread
LINKAGE_ABORTED: Final = 6  # its caller was released; the server still executes the call
LINKAGE_ABANDONED: Final = 7  # its caller's domain has terminated: the return skips it

# Where an A-stack is.
ASTACK_FREE: Final = 8  # in its group's LIFO queue
ASTACK_TAKEN: Final = 9  # a client stub fills it, reads it, or has a call in progress on it
ASTACK_QUARANTINED: Final = 10  # its caller was released; free again when the server returns

# Whether calls through a Binding Object are accepted.
BINDING_BOUND: Final = 11
BINDING_REVOKED: Final = 12

# Whether threads may run in a domain.
DOMAIN_LIVE: Final = 13
DOMAIN_TERMINATED: Final = 14

NAMES: Final = (
    "thread ready",
    "thread running",
    "thread waiting",
    "thread ended",
    "linkage free",
    "linkage calling",
    "linkage aborted",
    "linkage abandoned",
    "A-stack free",
    "A-stack taken",
    "A-stack quarantined",
    "binding bound",
    "binding revoked",
    "domain live",
    "domain terminated",
)

# The states that may follow each state. A thread that is ready or running when its domain
# terminates begins to wait: then it ends, or is resumed at its caller.
FOLLOWS: Final[dict[int, tuple[int, ...]]] = {
    THREAD_READY: (THREAD_RUNNING, THREAD_WAITING),
    THREAD_RUNNING: (THREAD_WAITING, THREAD_ENDED),
    THREAD_WAITING: (THREAD_READY, THREAD_ENDED),
    THREAD_ENDED: (),
    LINKAGE_FREE: (LINKAGE_CALLING,),
    LINKAGE_CALLING: (LINKAGE_FREE, LINKAGE_ABORTED, LINKAGE_ABANDONED),
    LINKAGE_ABORTED: (LINKAGE_FREE,),
    LINKAGE_ABANDONED: (LINKAGE_FREE,),
    ASTACK_FREE: (ASTACK_TAKEN,),
    ASTACK_TAKEN: (ASTACK_FREE, ASTACK_QUARANTINED),
    ASTACK_QUARANTINED: (ASTACK_FREE,),
    BINDING_BOUND: (BINDING_REVOKED,),
    BINDING_REVOKED: (),
    DOMAIN_LIVE: (DOMAIN_TERMINATED,),
    DOMAIN_TERMINATED: (),
}

# The same table row by row, one byte for each pair: 1 where `new` may follow `old`. A row has room
# for more states than there are, so that its length is a constant.
_ROW: Final = 16
_ALLOWED: Final = bytes(new in FOLLOWS.get(old, ()) for old in range(_ROW) for new in range(_ROW))


def follow(old: int, new: int) -> int:
    """Return the state `new`. Raises `Panic` where it may not follow the state `old`."""
    if not _ALLOWED[old * _ROW + new]:
        raise Panic(f"{NAMES[old]} cannot become {NAMES[new]}")
    return new
