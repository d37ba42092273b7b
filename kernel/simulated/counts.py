"""Counters of what happens on one machine; each is counted where it happens."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Counters of one machine. Table I is made from those of calls."""

    trap: int = 0  # system calls: operations of the kernel itself
    within_domain: int = 0  # calls of a procedure of the caller's own domain
    cross_domain: int = 0  # calls between domains of this machine
    cross_machine: int = 0  # calls that left this machine
    astacks_taken: int = 0  # by client stubs; equal to cross_domain where all calls are LRPC
    astack_waits: int = 0  # times that a client stub waited because all A-stacks were taken
    linkages_pushed: int = 0
    link_requests: int = 0  # calls sent to other machines, each once
    link_replies: int = 0  # replies sent to other machines
    replies_dropped: int = 0  # whose callers had been released, or had a reply already
    packets_sent: int = 0  # including lost ones; a message that travels whole is one packet
    packets_lost: int = 0
    calls_retransmitted: int = 0
    duplicates_answered: int = 0  # calls that came again, and were answered from memory
    duplicates_dropped: int = 0  # calls that came again after a later one of their caller
    argument_bytes: int = 0
    result_bytes: int = 0
    # Values copied, by the letters that Table III gives to copies.
    copies: dict[str, int] = field(default_factory=lambda: dict.fromkeys("ABCDEF", 0))
