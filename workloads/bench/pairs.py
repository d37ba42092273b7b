"""Compares calls that lrpc's channel leaves to gRPC with gRPC's own: which of the two is slower.

Where two things differ by a few hundredths, two medians of the same run do not tell: what disturbs
one does not disturb the other, and two processes of one program differ as much. So one process has
both channels and another both servers, calls are made in turn, one by lrpc's channel and one by
gRPC's, and what counts is the median of the pairs' ratios.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from lrpc.workloads.bench.peers import Call, port_of, serving, socket_of

MESSAGES: Final = 10  # of a stream
STREAM: Final = "stream "
PLAIN: Final = "plain server, "
_WARM: Final = 5


@dataclass(frozen=True)
class Compared:
    """What calls took by lrpc's channel, and by gRPC's beside it."""

    what: str
    ours_us: float
    theirs_us: float
    ratio: float  # the median over pairs of the one divided by the other
    least: float  # between these it lies, with 19 chances in 20
    most: float
    pairs: int


def compare(pairs: int, say: Callable[[str], None]) -> list[Compared]:
    """Compare streams, by servers of either kind; and calls to a server that is gRPC's own."""
    from lrpc.workloads.bench import service

    found = []
    with serving("both") as (local, _):
        plain = local / service.PLAIN
        say("streams, in pairs")
        with (
            service.channel(socket_of(local), local, "adapt") as ours,
            service.channel(socket_of(plain), plain, None) as theirs,
        ):
            by_grpc = service.streams(theirs, MESSAGES)
            for kind, call in service.streams(ours, MESSAGES).items():
                found.append(_compared(STREAM + kind, call, by_grpc[kind], pairs))
        for name, target in (("UNIX socket", socket_of(plain)), ("TCP", port_of(plain))):
            say(f"calls to a plain server, in pairs: {name}")
            with service.channel(target, plain, "adapt") as ours, service.channel(target, plain, None) as theirs:
                calls = service.calls(ours)["Add"], service.calls(theirs)["Add"]
                found.append(_compared(PLAIN + name, *calls, pairs))
    return found


def _compared(what: str, ours: Call, theirs: Call, pairs: int) -> Compared:
    for _ in range(_WARM):
        ours()
        theirs()
    times = [_pair(ours, theirs, n % 2 == 1) for n in range(pairs)]
    ratios = sorted(own / other for own, other in times)
    least = max(0, int(pairs / 2 - math.sqrt(pairs)))  # of the signs of so many: two deviations
    own_us, their_us = (median(pair[side] for pair in times) / 1000 for side in (0, 1))
    return Compared(what, own_us, their_us, median(ratios), ratios[least], ratios[-1 - least], pairs)


def _pair(ours: Call, theirs: Call, first: bool) -> tuple[int, int]:
    """Make a call by each, ours first or last; return what they took, in nanoseconds."""
    if first:
        own = _time(ours)
        return own, _time(theirs)
    other = _time(theirs)
    return _time(ours), other


def _time(call: Call) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start
