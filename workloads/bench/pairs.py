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
CHANNELS: Final = 5
_WARM: Final = 3


@dataclass(frozen=True)
class SideBySide:
    """What calls took by lrpc's channel, and by gRPC's beside it."""

    what: str
    ours_us: float
    theirs_us: float
    ratio: float  # the median over pairs of the one divided by the other
    least: float  # between these it lies, with 19 chances in 20
    most: float
    pairs: int


def compare(pairs: int, say: Callable[[str], None]) -> list[SideBySide]:
    """Compare streams, by servers of either kind; and calls to a server that is gRPC's own."""
    from lrpc.workloads.bench import service

    times: dict[str, list[tuple[int, int]]] = {}
    with serving("both") as (local, _):
        plain = local / service.PLAIN
        for n in range(CHANNELS):  # some of which take another course than others, for as long as they live
            say(f"calls that take gRPC, in pairs: {n + 1} of {CHANNELS}")
            with (
                service.channel(socket_of(local), local, "adapt") as ours,
                service.channel(socket_of(plain), plain, None) as theirs,
            ):
                by_grpc = service.streams(theirs, MESSAGES)
                for kind, call in service.streams(ours, MESSAGES).items():
                    times.setdefault(STREAM + kind, []).extend(_times(call, by_grpc[kind], pairs // CHANNELS))
            for name, target in (("UNIX socket", socket_of(plain)), ("TCP", port_of(plain))):
                with service.channel(target, plain, "adapt") as ours, service.channel(target, plain, None) as theirs:
                    calls = service.calls(ours)["Add"], service.calls(theirs)["Add"]
                    times.setdefault(PLAIN + name, []).extend(_times(*calls, pairs // CHANNELS))
    return [_compared(what, pairs) for what, pairs in times.items()]


def _times(ours: Call, theirs: Call, pairs: int) -> list[tuple[int, int]]:
    """Make calls by each in turn; return what those of each pair took, in nanoseconds."""
    for _ in range(_WARM):
        ours()
        theirs()
    return [_pair(ours, theirs, n % 2 == 1) for n in range(pairs)]


def _compared(what: str, times: list[tuple[int, int]]) -> SideBySide:
    ratios = sorted(own / other for own, other in times)
    least = max(0, int(len(ratios) / 2 - math.sqrt(len(ratios))))  # of the signs of so many: two deviations
    own_us, their_us = (median(pair[side] for pair in times) / 1000 for side in (0, 1))
    return SideBySide(what, own_us, their_us, median(ratios), ratios[least], ratios[-1 - least], len(ratios))


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
