"""Who gets a server's workers, and how long calls may hold on to what they have."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import pytest

import lrpc
from lrpc.domains.host.here import deadline, this_machine
from lrpc.kernel.host import native
from lrpc.kernel.host.client import HELD_S
from lrpc.kernel.host.workers import SHARE, Workers
from tests.support.host import SERVE, Shop, ShopServer, process, shop, until


class Slow(lrpc.Interface):
    @lrpc.procedure(simultaneous=70)
    def wait(self, seconds: lrpc.Float64) -> None: ...


class TestAbortedCalls:
    def test_a_server_holds_64_a_stacks_of_aborted_calls_at_most(self, tmp_path: Path) -> None:
        server = ShopServer()
        with this_machine(folder=tmp_path, workers=100) as serving, this_machine(folder=tmp_path) as here:
            serving.export(Slow, server, "slow")
            client = here.bind(Slow, "slow")

            def give_up() -> str:
                with deadline(0.3), pytest.raises(lrpc.CallAborted) as caught:
                    client.wait(60.0)
                return str(caught.value)

            with ThreadPoolExecutor(64) as pool:
                said = list(pool.map(lambda _: give_up(), range(64)))
            while len(said) < 64 + sum("before the server took" in one for one in said):
                said.append(give_up())
            with pytest.raises(lrpc.CallFailed, match="64 calls that were aborted still hold their A-stacks"):
                client.wait(0.0)
            server.release.set()
            until(lambda: server.running == 0)
            client.wait(0.0)

    def test_a_server_that_holds_one_for_too_long_loses_the_binding_and_is_not_called_hostile(
        self, tmp_path: Path
    ) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with deadline(0.1), pytest.raises(lrpc.CallAborted, match="while the server executes"):
                client.wait(60.0)
            assert client.add(1, 2) == 3  # not yet
            native.end_held(0)
            try:
                with pytest.raises(lrpc.CallFailed, match="executed a call that was aborted for more than 30 seconds"):
                    client.add(1, 2)
            finally:
                native.end_held(int(HELD_S * 1e9))
            server.release.set()
            assert here.bind(Shop, "shop").add(1, 2) == 3


class TestWorkers:
    @pytest.mark.parametrize("workers", [4, 64])
    def test_one_process_cannot_have_all_workers(self, tmp_path: Path, workers: int) -> None:
        """However long its procedures are, and although its calls were first in the queue."""
        hog = """
import threading
here = this_machine(folder=folder)
for n in range(13):
    client = here.bind(Shop, "shop")
    for _ in range(5):
        threading.Thread(target=client.wait, args=(60.0,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
        share = workers * SHARE // (SHARE + 1)
        with shop(tmp_path, workers=workers) as (serving, server), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert client.add(1, 2) == 3
            with process(tmp_path, hog):
                until(lambda: server.running == share)
                pool = serving.server().workers
                assert isinstance(pool, Workers)
                until(lambda: len(pool._pending) == 65 - share)
                with deadline(10):
                    assert [client.add(n, 1) for n in range(100)] == list(range(1, 101))
                assert server.running == share
            server.release.set()  # its process has ended: its calls are nobody's
            until(lambda: server.running == 0)
            assert client.add(1, 2) == 3

    def test_workers_that_idle_for_long_end_and_others_take_their_place(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, server), this_machine(folder=tmp_path) as here:
            pool = serving.server().workers
            assert isinstance(pool, Workers)
            assert pool._idle_s == 10
            pool._idle_s = 0.05
            client = here.bind(Shop, "shop")
            with ThreadPoolExecutor(5) as callers:
                calls = [callers.submit(client.wait, 30.0) for _ in range(5)]
                until(lambda: server.running == 5)
                assert pool.count == 5
                server.release.set()
                assert [one.result(10) for one in calls] == [None] * 5
            until(lambda: pool.count == 0)
            assert client.add(1, 2) == 3
            assert pool.count == 1

    def test_large_calls_in_a_row_find_memory_that_the_system_has_not_taken_back(self, tmp_path: Path) -> None:
        def faults(pid: int) -> int:
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])

        with process(tmp_path, SERVE) as server, this_machine(folder=tmp_path) as here:
            client, data = here.bind(Shop, "shop"), bytes(1 << 20)
            for _ in range(10):
                client.echo(data)
            before = faults(server.pid)
            for _ in range(50):
                client.echo(data)
            assert (faults(server.pid) - before) / 50 < 200  # a page each would be 256 for each copy

    def test_calls_that_wait_for_a_worker_are_made_in_the_end(self, tmp_path: Path) -> None:
        with shop(tmp_path, workers=4) as (_, server), this_machine(folder=tmp_path) as here:
            clients = [here.bind(Shop, "shop") for _ in range(4)]
            with ThreadPoolExecutor(20) as pool:
                calls = [pool.submit(clients[n % 4].wait, 30.0) for n in range(20)]
                until(lambda: server.running == 3)
                server.release.set()
                assert [one.result(10) for one in calls] == [None] * 20

    def test_a_process_may_take_workers_that_idle_for_another(self, tmp_path: Path) -> None:
        serves = shop(tmp_path, workers=2)
        with serves as (_, server), process(tmp_path, IDLES), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with ThreadPoolExecutor(2) as pool:
                calls = [pool.submit(client.wait, 30.0) for _ in range(2)]
                try:
                    until(lambda: server.running == 2, 5)  # long before workers stop to idle
                finally:
                    server.release.set()
                assert [one.result(10) for one in calls] == [None] * 2


# A process that has called by two A-stacks, whose workers wait for its next calls.
IDLES = """
import threading
client = this_machine(folder=folder).bind(Shop, "shop")
calls = [threading.Thread(target=client.wait, args=(0.2,)) for _ in range(2)]
for one in calls: one.start()
for one in calls: one.join()
print("ready", flush=True)
sys.stdin.read()
"""


class Give(lrpc.Interface):
    def give(self, size: lrpc.Int32) -> Annotated[bytes, lrpc.UpTo(1 << 20)]: ...


class GiveServer(Give):
    def __init__(self) -> None:
        self.results = {size: bytes(size) for size in (1000, 1 << 20)}

    def give(self, size: int) -> bytes:
        return self.results[size]


def test_a_worker_lets_go_of_large_results_before_it_waits_for_the_next_call(tmp_path: Path) -> None:
    server = GiveServer()
    large = server.results[1 << 20]
    before = sys.getrefcount(large)
    with this_machine(folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
        serving.export(Give, server, "give")
        client = here.bind(Give, "give")
        for size in (1 << 20, 1 << 20, 1000):
            assert client.give(size) == bytes(size)
        until(lambda: sys.getrefcount(large) == before, 2.0)
