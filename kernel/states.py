"""Every state of domains, threads, linkages, A-stacks and bindings, and every transition between them, in one table.

States are whole numbers, so that the compiled kernel compares them without a look-up. They differ between the kinds, so
that one table serves them all and no state is taken for another's.
"""

from typing import Final

from lrpc.kernel.errors import Panic

# Where a thread stands with respect to processors.
THREAD_READY: Final = 0  # has all it waited for, but no processor
THREAD_RUNNING: Final = 1  # has a processor
THREAD_WAITING: Final = 2  # for an A-stack, a message, a timer, another thread or the network
THREAD_ENDED: Final = 3

# Who owns a linkage record, and so the A-stack beside it.
LINKAGE_FREE: Final = 4
LINKAGE_CALLING: Final = 5  # on the linkage stack of one thread
LINKAGE_ABORTED: Final = 6  # its caller went on; the server still holds the call
LINKAGE_ABANDONED: Final = 7  # its caller's domain has terminated: a return passes it by

# Where an A-stack is.
ASTACK_FREE: Final = 8  # in its LIFO queue
ASTACK_TAKEN: Final = 9  # a client stub fills it, reads it, or has a call in progress on it
ASTACK_QUARANTINED: Final = 10  # its caller went on; back to the queue when the server lets go

# Whether a Binding Object still opens anything.
BINDING_BOUND: Final = 11
BINDING_REVOKED: Final = 12

# Whether anything may run in a domain.
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

# A thread that is ready, or still runs, when its domain terminates has nothing to go on with: it ends, or waits to be
# sent back to its caller.
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

_ALLOWED: Final = bytes(new in FOLLOWS[old] for old in range(len(NAMES)) for new in range(len(NAMES)))  # row by row


def follow(old: int, new: int) -> int:
    """Return `new`, or panic where the table does not let it follow `old`."""
    if not _ALLOWED[old * len(NAMES) + new]:
        raise Panic(f"{NAMES[old]} cannot become {NAMES[new]}")
    return new
