"""Measures unary calls with asyncio on both sides: `lrpc.aio` beside `grpc.aio`, in two processes.

    python -m benchmarks.awaited [ROUNDS]

One process serves the same coroutine by both, over UNIX sockets; the other calls it by both in
turn, in rounds, so that what disturbs one disturbs the other. Prints medians in microseconds, back
to back and with gaps of a millisecond, and the ratio of the medians. That all calls took the way
that they should is checked.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
from google.protobuf.wrappers_pb2 import Int64Value

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel

ROUNDS: Final = 10
CALLS: Final = {0.0: 300, 0.001: 150}  # in a round, by the gap before each, in seconds
WARM: Final = 50
METHOD: Final = "/bench/Next"


async def following(request: Int64Value, context: Any) -> Int64Value:
    """Return the next number."""
    return Int64Value(value=request.value + 1)


async def serve(folder: Path) -> None:
    """Serve by both, until standard input ends."""
    handler = grpc.unary_unary_rpc_method_handler(following, Int64Value.FromString, Int64Value.SerializeToString)
    servers = {"lrpc": lrpc.aio.server(), "grpc": grpc.aio.server()}
    for name, server in servers.items():
        server.add_registered_method_handlers("bench", {"Next": handler})
        server.add_insecure_port(f"unix:{folder / name}")
        await server.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers.values():
        await server.stop(None)


async def measure(folder: Path, rounds: int) -> dict[tuple[str, float], list[float]]:
    """Return the times of calls by both, by name and gap, in microseconds."""
    found: dict[tuple[str, float], list[float]] = {}
    async with (
        lrpc.aio.insecure_channel(f"unix:{folder / 'lrpc'}") as ours,
        grpc.aio.insecure_channel(f"unix:{folder / 'grpc'}") as theirs,
    ):
        assert isinstance(ours, AwaitedChannel)
        made: tuple[tuple[str, Any], ...] = (("lrpc", ours), ("grpc", theirs))
        stubs = {
            name: channel.unary_unary(METHOD, Int64Value.SerializeToString, Int64Value.FromString, True)
            for name, channel in made
        }
        for stub in stubs.values():
            for _ in range(WARM):
                await stub(Int64Value())
        for _ in range(rounds):
            for gap, calls in CALLS.items():
                for name, stub in stubs.items():
                    found.setdefault((name, gap), []).extend(await timed(stub, calls, gap))
        assert ours.local_calls == WARM + rounds * sum(CALLS.values()), ours.decision
    return found


async def timed(stub: Any, calls: int, gap: float) -> list[float]:
    """Return the times of some calls, in microseconds."""
    found = []
    for n in range(calls):
        if gap:
            await asyncio.sleep(gap)
        began = time.perf_counter_ns()
        answer = await stub(Int64Value(value=n))
        found.append((time.perf_counter_ns() - began) / 1000)
        assert answer.value == n + 1
    return found


def main(rounds: int) -> None:
    """Measure, and print what was found."""
    with tempfile.TemporaryDirectory(prefix="lrpc-bench-") as folder:
        os.environ["LRPC_DOORS"] = f"{folder}/doors"
        command = [sys.executable, "-m", "benchmarks.awaited", "serve", folder]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "ready\n"
            found = asyncio.run(measure(Path(folder), rounds))
        finally:
            server.stdin.close()
            server.wait(10)
    for gap in CALLS:
        ours, theirs = median(found["lrpc", gap]), median(found["grpc", gap])
        when = f"gaps of {gap * 1000:g} ms" if gap else "back to back"
        print(f"{when}: lrpc.aio {ours:.0f} us, grpc.aio {theirs:.0f} us: {theirs / ours:.1f} times faster")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
