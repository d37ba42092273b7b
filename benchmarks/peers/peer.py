"""What a peer runs: calls on one machine or across two, in a model with few events."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """When a model's run ended, in virtual ns, and the processor time that it took, in seconds."""

    end_ns: int
    seconds: float


@dataclass(frozen=True)
class Exchange:
    """A call across machines: the processors of either, and times in ns.

    `client_ns` and `server_ns` are spent before a message leaves, `receive_ns` once the reply is
    there, and `delay_ns` is the link's.
    """

    processors: int
    delay_ns: int
    client_ns: int
    server_ns: int
    receive_ns: int
