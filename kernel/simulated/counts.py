"""What happened on one machine, counted where it happened."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Counters of one machine; those of calls are what Table I is made of."""

    trap: int = 0  # operations of the kernel itself
    within_domain: int = 0  # calls of a procedure of the caller's own domain
    cross_domain: int = 0  # calls between domains of this machine
    cross_machine: int = 0  # calls that left this machine
    astacks_taken: int = 0  # for calls that went on to push a linkage, equal to cross_domain under LRPC
    astack_waits: int = 0  # for an A-stack, where all were taken
    linkages_pushed: int = 0
    link_requests: int = 0
    link_replies: int = 0
    replies_dropped: int = 0  # for callers that had given up, or had their reply
    packets_sent: int = 0  # those lost included; a message that travels whole is one
    packets_lost: int = 0
    calls_retransmitted: int = 0
    duplicates_answered: int = 0  # calls that had come before, answered from memory
    duplicates_dropped: int = 0  # whose caller had gone on
    argument_bytes: int = 0
    result_bytes: int = 0
    copies: dict[str, int] = field(default_factory=lambda: dict.fromkeys("ABCDEF", 0))  # letters of Table III
