"""Calls between real processes: what arrives, what returns, and what an end of either side does."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrpc
from lrpc.domains.host.here import deadline, this_machine
from tests.support.host import (
    ROOT,
    SERVE,
    AwaitedShop,
    AwaitedShopServer,
    OutOfStock,
    Shop,
    descriptors,
    process,
    shop,
    until,
)


class TestValues:
    def test_numbers_nothing_and_several_results_return_as_from_the_procedure(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert client.add(1, 2) == 3
            assert client.add(b=-5, a=7) == 2
            nothing: object = client.nothing()  # type: ignore[func-returns-value]
            assert nothing is None
            assert client.both(1, 2) == (2, 1)

    def test_a_reference_is_copied_there_and_back(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            block = lrpc.Reference(bytes(range(200)))
            here.bind(Shop, "shop").fill(block)
            assert block.value == bytes(reversed(range(200)))

    @pytest.mark.parametrize("size", [0, 1, 1448, 1449, 4096, 65_536, 1 << 20, 8 << 20])
    def test_values_larger_than_an_a_stack_travel_out_of_band_both_ways(self, tmp_path: Path, size: int) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            data = os.urandom(size)
            assert client.echo(data) == data
            assert client.grow(size) == bytes([size % 251]) * size
            assert client.grow(3) == bytes([3]) * 3
            assert client.add(1, 2) == 3

    def test_results_that_find_no_room_run_the_procedure_once(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert len(client.grow(100_000)) == 100_000
            assert len(client.grow(100_000)) == 100_000
            assert "'calls': 3," in str(serving.status())  # two, and one that collected the first results

    def test_wrong_arguments_are_refused_before_anything_is_sent(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with pytest.raises(lrpc.ArgumentError, match=r"Shop.add: a: Int32 takes int, not str"):
                client.add("1", 2)  # type: ignore[arg-type]
            with pytest.raises(lrpc.ArgumentError, match="missing, unknown"):
                client.add(1, c=2)  # type: ignore[call-arg]
            assert client.add(1, 2) == 3

    def test_what_a_procedure_declares_to_raise_travels_and_all_else_is_one_typed_error(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with pytest.raises(OutOfStock, match="no tea left"):
                client.buy("tea")
            with pytest.raises(lrpc.ProcedureRaised, match="LookupError: no milk") as caught:
                client.buy("milk")
            assert any("host.py" in note for note in caught.value.__notes__)

    @given(st.lists(st.tuples(st.integers(-(2**30), 2**30), st.integers(-(2**30), 2**30)), max_size=20))
    def test_every_sum_is_the_callers_own(
        self, tmp_path_factory: pytest.TempPathFactory, sums: list[tuple[int, int]]
    ) -> None:
        folder = tmp_path_factory.mktemp("doors")
        with shop(folder), this_machine(folder=folder) as here, ThreadPoolExecutor(8) as pool:
            client = here.bind(Shop, "shop")
            assert list(pool.map(lambda one: client.add(*one), sums)) == [a + b for a, b in sums]


class TestThreads:
    @pytest.mark.parametrize("waits", ["adapt", "sleep", "spin"])
    def test_threads_that_share_a_binding_each_get_their_own_results(self, tmp_path: Path, waits: str) -> None:
        with process(tmp_path, SERVE), this_machine(folder=tmp_path, waits=waits) as here:  # type: ignore[arg-type]
            client = here.bind(Shop, "shop")

            def many(thread: int) -> bool:
                return all(client.add(thread * 1000, n) == thread * 1000 + n for n in range(300))

            with ThreadPoolExecutor(12) as pool:
                assert all(pool.map(many, range(12)))

    def test_calls_beyond_the_a_stacks_wait_for_one(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path) as here, ThreadPoolExecutor(8) as pool:
            client = here.bind(Shop, "shop")
            calls = [pool.submit(client.wait, 30.0) for _ in range(8)]
            until(lambda: server.running == 5)  # the paper's number of simultaneous calls
            server.release.set()
            assert [one.result(10) for one in calls] == [None] * 8

    def test_more_calls_than_workers_take_turns(self, tmp_path: Path) -> None:
        with shop(tmp_path, workers=2) as (serving, server), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with ThreadPoolExecutor(4) as pool:
                calls = [pool.submit(client.wait, 30.0) for _ in range(4)]
                until(lambda: server.running == 2)
                server.release.set()
                assert [one.result(10) for one in calls] == [None] * 4
            assert serving.status()["workers"] == 2

    def test_a_worker_is_reclaimed_from_the_binding_that_has_idled_for_longest(self, tmp_path: Path) -> None:
        with shop(tmp_path, workers=1), this_machine(folder=tmp_path) as here:
            clients = [here.bind(Shop, "shop") for _ in range(4)]
            for _ in range(3):
                for n, client in enumerate(clients):
                    assert client.add(n, 1) == n + 1

    def test_a_procedure_runs_with_the_processors_that_its_process_has(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE), this_machine(folder=tmp_path, waits="sleep") as here:
            client = here.bind(Shop, "shop")
            own = " ".join(sorted(str(one) for one in os.sched_getaffinity(0)))
            assert {client.times(1) for _ in range(20)} == {own}

    def test_a_nested_call_goes_on_through_another_binding(self, tmp_path: Path) -> None:
        class Front(lrpc.Interface):
            def twice(self, a: lrpc.Int32) -> lrpc.Int32: ...

        with shop(tmp_path), this_machine("front", folder=tmp_path) as front, this_machine(folder=tmp_path) as here:
            back = front.bind(Shop, "shop")

            class FrontServer(Front):
                def twice(self, a: int) -> int:
                    return back.add(a, a)

            front.export(Front, FrontServer(), "front")
            assert here.bind(Front, "front").twice(21) == 42


class TestDeadlines:
    def test_a_deadline_releases_the_caller_and_its_a_stack_returns_when_the_server_lets_go(
        self, tmp_path: Path
    ) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            while server.running < 5:  # a call that the server did not take in time is made again
                with deadline(0.02), pytest.raises(lrpc.CallAborted):
                    client.wait(30.0)
            with deadline(0.02), pytest.raises(lrpc.CallAborted, match="before the server took"):
                client.wait(0.0)
            server.release.set()
            client.wait(0.0)

    def test_a_deadline_covers_the_segment_of_large_arguments(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE) as child, this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert client.echo(b"small") == b"small"
            os.kill(child.pid, signal.SIGSTOP)
            tasks = Path(f"/proc/{child.pid}/task")
            until(lambda: all(") T " in (one / "stat").read_text() for one in tasks.iterdir()))
            for _ in range(4):
                with deadline(0.02), pytest.raises(lrpc.CallAborted, match="before the server took"):
                    client.echo(bytes(100_000))
            os.kill(child.pid, signal.SIGCONT)
            for size in (10, 100_000, 300_000, 5):
                with deadline(10):
                    assert client.echo(bytes(size)) == bytes(size)
            with ThreadPoolExecutor(5) as pool:  # each A-stack has come back
                assert list(pool.map(client.echo, [bytes(50_000)] * 20)) == [bytes(50_000)] * 20

    def test_an_inner_deadline_cannot_extend_an_outer_one(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            began = time.monotonic()
            with deadline(0.05), deadline(60), pytest.raises(lrpc.CallAborted):
                client.wait(30.0)
            assert time.monotonic() - began < 5

    def test_ctrl_c_ends_a_call_without_deadline(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")

            def interrupt() -> None:
                until(lambda: server.running == 1)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                client.wait(30.0)
            server.release.set()
            assert client.add(1, 2) == 3


class TestEventLoops:
    def test_awaited_calls_run_at_once_and_the_loop_goes_on(self, tmp_path: Path) -> None:
        async def main() -> list[int]:
            with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(AwaitedShop, AwaitedShopServer(), "shop")
                client = here.bind(AwaitedShop, "shop")
                waiting = [asyncio.create_task(client.wait(0.2)) for _ in range(3)]
                sums = await asyncio.gather(*(client.add(n, 1) for n in range(50)))
                assert not any(one.done() for one in waiting)
                data = os.urandom(300_000)
                assert await client.echo(data) == data
                with pytest.raises(lrpc.ProcedureRaised, match="LookupError: no milk"):
                    await client.buy("milk")
                await asyncio.gather(*waiting)
                return sums

        assert asyncio.run(main()) == list(range(1, 51))

    def test_an_awaited_call_can_be_cancelled_and_has_a_deadline(self, tmp_path: Path) -> None:
        async def main() -> None:
            with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(AwaitedShop, AwaitedShopServer(), "shop")
                client = here.bind(AwaitedShop, "shop")
                task = asyncio.create_task(client.wait(0.3))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with deadline(0.05), pytest.raises(lrpc.CallAborted):
                    await client.wait(0.3)
                assert await client.add(1, 2) == 3

        asyncio.run(main())

    def test_awaited_calls_fail_when_their_server_is_killed(self, tmp_path: Path) -> None:
        serve = SERVE.replace("Shop, ShopServer()", "AwaitedShop, AwaitedShopServer()")

        async def main() -> float:
            with process(tmp_path, serve) as child, this_machine(folder=tmp_path) as here:
                client = here.bind(AwaitedShop, "shop")
                assert await client.add(1, 2) == 3
                task = asyncio.create_task(client.wait(30.0))
                await asyncio.sleep(0.05)
                child.kill()
                began = time.monotonic()
                with pytest.raises(lrpc.CallFailed, match="its server has ended"):
                    await task
                return time.monotonic() - began

        assert asyncio.run(main()) < 1


class TestEnds:
    def test_a_call_fails_at_once_when_its_server_is_killed(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE) as child, this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            threading.Timer(0.2, child.kill).start()
            began = time.monotonic()
            with pytest.raises(lrpc.CallFailed, match="shop: its server has ended; bind again"):
                client.wait(30.0)
            assert time.monotonic() - began < 2
            with pytest.raises(lrpc.CallFailed):
                client.add(1, 2)

    def test_a_forked_child_of_the_server_does_not_hide_its_end(self, tmp_path: Path) -> None:
        serve = SERVE.replace("here.serve()", "import os\nos.fork() or here.close() or time.sleep(20)\nhere.serve()")
        with process(tmp_path, serve) as child, this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert client.add(1, 2) == 3
            threading.Timer(0.2, child.kill).start()
            began = time.monotonic()
            with pytest.raises(lrpc.CallFailed):
                client.wait(30.0)
            assert time.monotonic() - began < 2
            os.killpg(child.pid, signal.SIGKILL)

    def test_a_server_that_comes_back_is_bound_anew(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE), this_machine(folder=tmp_path) as here:
            first = here.bind(Shop, "shop")
            assert first.add(1, 2) == 3
        with process(tmp_path, SERVE), this_machine(folder=tmp_path) as here:
            assert here.bind(Shop, "shop").add(3, 4) == 7

    def test_a_forked_child_is_told_to_bind_again_and_can(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert client.add(1, 2) == 3
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    client.add(1, 2)
                except lrpc.CallFailed as error:
                    with this_machine(folder=tmp_path) as anew:
                        code = 0 if "forked" in str(error) and anew.bind(Shop, "shop").add(3, 4) == 7 else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert client.add(5, 6) == 11

    def test_a_client_that_is_killed_in_a_call_leaves_nothing_with_the_server(self, tmp_path: Path) -> None:
        call = "client = this_machine(folder=folder).bind(Shop, 'shop')\nprint('ready', flush=True)\nclient.wait(30.0)"
        with shop(tmp_path) as (serving, server):
            before = descriptors()
            for _ in range(3):
                with process(tmp_path, call) as child:
                    until(lambda: server.running == 1)
                    child.kill()
                    until(lambda: serving.status()["bindings"] == [])
                    server.release.set()
                    until(lambda: server.running == 0)
                    server.release.clear()
            gc.collect()
            assert descriptors() <= before

    def test_closing_the_client_ends_its_binding_at_the_server(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            client.add(1, 2)
            del client
            gc.collect()
            until(lambda: serving.status()["bindings"] == [])

    def test_a_program_that_ends_without_closing_leaves_no_door(self, tmp_path: Path) -> None:
        code = f"""
from tests.support.host import *
here = this_machine("shop", folder={str(tmp_path)!r})
here.export(Shop, ShopServer(), "shop")
client = this_machine(folder={str(tmp_path)!r}).bind(Shop, "shop")
threading.Thread(target=client.wait, args=(30.0,), daemon=True).start()
until(lambda: here.totals()["shop"]["busy"] == 1)
"""
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
        assert list(tmp_path.iterdir()) == []

    def test_a_name_that_a_domain_exports_already_is_refused(self, tmp_path: Path) -> None:
        with (
            shop(tmp_path) as (serving, server),
            pytest.raises(lrpc.BindingRefused, match="domain shop exports it already"),
        ):
            serving.export(Shop, server, "shop")

    def test_a_closed_domain_leaves_no_door_descriptor_or_thread(self, tmp_path: Path) -> None:
        def use() -> None:
            with shop(tmp_path), this_machine(folder=tmp_path) as here:
                assert len(here.bind(Shop, "shop").grow(100_000)) == 100_000

        use()
        gc.collect()
        before = descriptors(), threading.active_count()
        for _ in range(5):
            use()
        gc.collect()
        # Fewer where what an earlier test let go of was still closing.
        until(lambda: descriptors() <= before[0] and threading.active_count() <= before[1])
        assert list(tmp_path.iterdir()) == []
