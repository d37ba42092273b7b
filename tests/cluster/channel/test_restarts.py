"""Many threads share a channel while its server restarts: each call has one outcome."""

import gc
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.binder import AGAIN_NS, Binder
from lrpc.cluster.channel.channel import Channel
from tests.support.channels import SERVICE
from tests.support.host import until

LIMIT_S = 30


class Counts:
    """A server that comes and goes, and how often each call was executed."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.executed: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def run(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.executed[request] += 1
        return request

    def served(self) -> grpc.Server:
        server = lrpc.server(ThreadPoolExecutor(8))
        server.add_registered_method_handlers(SERVICE, {"run": grpc.unary_unary_rpc_method_handler(self.run)})
        server.add_insecure_port(self.target)
        server.start()
        return server


def outcomes(channel: Any, name: int, done: threading.Event) -> list[tuple[bytes, object]]:
    """Call until all is done; return each call with its outcome."""
    method = channel.unary_unary(f"/{SERVICE}/run")
    found: list[tuple[bytes, object]] = []
    while not done.is_set():
        request = f"{name} {len(found)}".encode()
        try:
            assert method(request, wait_for_ready=True, timeout=LIMIT_S) == request
            found.append((request, grpc.StatusCode.OK))
        except grpc.RpcError as error:
            found.append((request, error.code()))
    return found


def held() -> tuple[int, int]:
    """Return how many descriptors and threads there are, of what can still be used."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def has_held(descriptors: int, threads: int) -> bool:
    """Return whether there are no more of either than that, but for gRPC's own."""
    now = held()
    return now[0] <= descriptors + 4 and now[1] <= threads + 2


def has_called(channel: Channel, calls: int) -> bool:
    return channel.local_calls >= calls


def restarted(counts: Counts, calls: int, restarts: int) -> list[tuple[bytes, object]]:
    """Restart a server under 16 callers, after so many calls on A-stacks each time."""
    server = counts.served()
    channel = lrpc.insecure_channel(counts.target)
    assert isinstance(channel, Channel)
    done = threading.Event()
    with ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(outcomes, channel, name, done) for name in range(16)]
        for _ in range(restarts):
            until(partial(has_called, channel, channel.local_calls + calls // restarts), LIMIT_S)
            server.stop(0).wait()
            server = counts.served()  # and the channel finds it by itself
        done.set()
        found = [one for caller in callers for one in caller.result(LIMIT_S)]
    channel.close()
    server.stop(0).wait()
    return found


@pytest.mark.parametrize(("calls", "restarts"), [(1_000, 4), pytest.param(10_000, 20, marks=pytest.mark.long)])
def test_each_call_has_one_outcome_while_the_server_restarts(tmp_path: Path, calls: int, restarts: int) -> None:
    counts = Counts(f"unix:{tmp_path / 'grpc.sock'}")
    restarted(counts, 16, 1)  # so that there is what gRPC makes once for a process
    counts.executed.clear()
    before = held()
    found = restarted(counts, calls, restarts)
    assert len(found) >= calls
    assert {code for _, code in found} <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    for request, code in found:
        assert counts.executed[request] in ((1,) if code is grpc.StatusCode.OK else (0, 1))
    until(partial(has_held, *before))


def test_it_is_decided_again_soon_after_a_break_and_then_less_often() -> None:
    binder = Binder("unix:/nowhere", None, None, notified=False)
    assert binder.again_ns(0, bound=True) == AGAIN_NS
    binder.broken()
    pauses_ms = [binder.again_ns(1_000_000, bound=False) // 1_000_000 - 1 for _ in range(9)]
    assert pauses_ms == [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]
    binder.broken()
    assert binder.again_ns(0, bound=True) == AGAIN_NS
    assert binder.again_ns(0, bound=False) == AGAIN_NS
