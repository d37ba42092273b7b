"""What once went wrong between honest processes, and what users' code may do to a server."""

import asyncio
import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NoReturn

import pytest

import lrpc
from lrpc.domains.host.here import deadline, this_machine
from lrpc.kernel.host import messages
from tests.support.host import ROOT, AwaitedShop, AwaitedShopServer, Shop, descriptors, shop, until
from tests.support.hostile import RawClient

Huge = Annotated[bytes, lrpc.UpTo(1 << 20)]


class Odd(lrpc.Interface):
    def leave(self) -> None: ...
    def notes(self) -> None: ...
    def text(self) -> None: ...
    def one(self) -> lrpc.Int32: ...


class OddServer(Odd):
    def leave(self) -> NoReturn:
        sys.exit(3)

    def notes(self) -> NoReturn:
        error = ValueError("notes")
        error.__notes__ = None  # type: ignore[assignment]
        raise error

    def text(self) -> NoReturn:
        raise ValueError("ü" * 100_000)

    def one(self) -> int:
        return 1


class Mixed(lrpc.Interface):
    """One group of A-stacks for blocking and awaited procedures."""

    def wait(self, seconds: lrpc.Float64) -> None: ...
    async def soon(self, seconds: lrpc.Float64) -> None: ...


class MixedServer(Mixed):
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def soon(self, seconds: float) -> None:  # type: ignore[override]  # either side may have it without the other
        time.sleep(seconds)


class TestUsersCode:
    def test_whatever_a_procedure_raises_ends_its_call_alone(self, tmp_path: Path) -> None:
        with this_machine(folder=tmp_path, workers=2) as serving, this_machine(folder=tmp_path) as here:
            serving.export(Odd, OddServer(), "odd")
            client = here.bind(Odd, "odd")
            for _ in range(3):
                with pytest.raises(lrpc.ProcedureRaised, match="SystemExit: 3"):
                    client.leave()
                with pytest.raises(lrpc.ProcedureRaised, match="ValueError"):
                    client.notes()
                with pytest.raises(lrpc.ProcedureRaised, match="ValueError: ü"):
                    client.text()
            assert client.one() == 1

    def test_more_a_stacks_than_fit_a_message_are_bound(self, tmp_path: Path) -> None:
        class Many(lrpc.Interface):
            @lrpc.procedure(simultaneous=20_000)
            def one(self) -> lrpc.Int32: ...

        class ManyServer(Many):
            def one(self) -> int:
                return 1

        with this_machine(folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
            serving.export(Many, ManyServer(), "many")
            assert here.bind(Many, "many").one() == 1

    def test_more_a_stacks_than_a_binding_may_have_are_refused(self, tmp_path: Path) -> None:
        class Many(lrpc.Interface):
            @lrpc.procedure(simultaneous=1 << 20)
            def one(self) -> lrpc.Int32: ...

        class ManyServer(Many):
            def one(self) -> int:
                return 1

        with this_machine(folder=tmp_path) as serving, pytest.raises(lrpc.BindingRefused, match="lower simultaneous="):
            serving.export(Many, ManyServer(), "many")

    def test_a_lock_that_is_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "odd.lock").symlink_to("elsewhere")
        with this_machine(folder=tmp_path) as serving, pytest.raises(lrpc.BindingRefused, match="its lock"):
            serving.export(Odd, OddServer(), "odd")

    @pytest.mark.parametrize("seconds", [math.inf, math.nan, 1e300, 1e9 + 1])
    def test_a_deadline_that_is_none_bounds_nothing(self, tmp_path: Path, seconds: float) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here, deadline(seconds):
            assert here.bind(Shop, "shop").add(1, 2) == 3

    @pytest.mark.parametrize("seconds", [-1e12, 0.0])
    def test_a_call_whose_deadline_has_passed_is_not_made(self, tmp_path: Path, seconds: float) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with deadline(seconds):
                for _ in range(10):  # a server that spins would answer sooner than anybody looks
                    with pytest.raises(lrpc.CallAborted, match="before the server took"):
                        client.add(1, 2)
                with pytest.raises(lrpc.CallAborted, match="before the server took"):
                    client.echo(bytes(100_000))
            assert client.add(1, 2) == 3
            assert client.echo(bytes(100_000)) == bytes(100_000)

    @pytest.mark.parametrize("seconds", [-1e12, 0.0])
    def test_an_awaited_call_whose_deadline_has_passed_is_not_made(self, tmp_path: Path, seconds: float) -> None:
        async def main() -> None:
            with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(AwaitedShop, AwaitedShopServer(), "shop")
                client = here.bind(AwaitedShop, "shop")
                with deadline(seconds), pytest.raises(lrpc.CallAborted, match="before the server took"):
                    await client.add(1, 2)
                assert await client.add(1, 2) == 3

        asyncio.run(main())


class TestWaits:
    def test_results_without_room_survive_the_worker_that_made_them(self, tmp_path: Path) -> None:
        with shop(tmp_path, workers=1), this_machine(folder=tmp_path) as here:
            done = threading.Event()

            def keep_busy() -> None:
                other = here.bind(Shop, "shop")
                while not done.is_set():
                    other.add(1, 2)

            thread = threading.Thread(target=keep_busy)
            thread.start()
            try:
                for _ in range(10):
                    assert len(here.bind(Shop, "shop").grow(100_000)) == 100_000
            finally:
                done.set()
                thread.join()

    def test_an_a_stack_of_one_group_wakes_nobody_who_waits_for_another(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path) as here, ThreadPoolExecutor(20) as pool:
            client = here.bind(Shop, "shop")
            # More callers than A-stacks in the group of small values and in that of large ones.
            small = [pool.submit(client.wait, 30.0) for _ in range(7)]
            until(lambda: server.running == 5)
            large = [pool.submit(client.echo, b"x" * 1000) for _ in range(8)]
            assert [one.result(10) for one in large] == [b"x" * 1000] * 8
            server.release.set()
            assert [one.result(10) for one in small] == [None] * 7

    def test_a_binding_that_grows_makes_more_calls_at_once_than_it_began_with(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path) as here, ThreadPoolExecutor(12) as pool:
            client = here.bind(Shop, "shop", exhausted="grow")
            calls = [pool.submit(client.wait, 30.0) for _ in range(12)]
            until(lambda: server.running == 12)
            assert client.add(1, 2) == 3
            server.release.set()
            assert [one.result(10) for one in calls] == [None] * 12

    def test_who_waits_for_an_a_stack_learns_of_the_end(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, server), this_machine(folder=tmp_path) as here, ThreadPoolExecutor(8) as pool:
            client = here.bind(Shop, "shop")
            calls = [pool.submit(client.wait, 30.0) for _ in range(8)]
            until(lambda: server.running == 5)
            server.release.set()
            serving.close()
            for one in calls:
                assert one.exception(10) is None or isinstance(one.exception(), lrpc.CallFailed)

    def test_callers_that_ring_often_since_workers_are_few_keep_their_bindings(self, tmp_path: Path) -> None:
        code = "client = this_machine(folder=folder).bind(Shop, 'shop')\n"
        code += "for n in range(3000): client.add(n, 1)\nprint('done')"
        head = f"from tests.support.host import *; folder = Path({str(tmp_path)!r})\n"
        command = [sys.executable, "-c", head + code]
        with shop(tmp_path, workers=1):
            clients = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
            assert [one.communicate(timeout=60)[0] for one in clients] == [b"done\n"] * 3

    @pytest.mark.parametrize("waits", ["spin", "adapt", "sleep"])
    def test_ctrl_c_ends_a_call_however_it_waits(self, tmp_path: Path, waits: str) -> None:
        with shop(tmp_path) as (_, server), this_machine(folder=tmp_path, waits=waits) as here:  # type: ignore[arg-type]
            client = here.bind(Shop, "shop")
            for n in range(50):  # so that both sides spin, where they adapt
                client.add(n, 1)
            for delay in (0.0, 0.0005, 0.01):

                def interrupt(delay: float = delay) -> None:
                    until(lambda: server.running == 1)
                    time.sleep(delay)
                    os.kill(os.getpid(), signal.SIGINT)

                threading.Thread(target=interrupt).start()
                with pytest.raises(KeyboardInterrupt):
                    client.wait(30.0)
                server.release.set()
                until(lambda: server.running == 0)
                server.release.clear()

    def test_idle_workers_do_not_end_their_binding_where_futex_waitv_is_missing(self, tmp_path: Path) -> None:
        code = """
from lrpc.kernel.host import native
native.forbid_waitv()
from concurrent.futures import ThreadPoolExecutor

class Many(lrpc.Interface):
    @lrpc.procedure(simultaneous=64)
    def wait(self, seconds: lrpc.Float64) -> None: ...

class ManyServer(Many):
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

with this_machine(folder=folder, waits="sleep") as here:
    here.export(Many, ManyServer(), "many")
    client = here.bind(Many, "many")
    with ThreadPoolExecutor(60) as pool:
        list(pool.map(client.wait, [0.3] * 60))
    time.sleep(1.5)
    client.wait(0.0)
    print("lives")
"""
        head = f"from tests.support.host import *; folder = Path({str(tmp_path)!r})\n"
        done = subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout == "lives\n", done.stderr


class TestEventLoops:
    def test_a_turn_in_the_queue_that_is_cancelled_goes_to_the_next(self, tmp_path: Path) -> None:
        async def main() -> None:
            with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(AwaitedShop, AwaitedShopServer(), "shop")
                client = here.bind(AwaitedShop, "shop")
                held = [asyncio.create_task(client.wait(0.2 + n / 50)) for n in range(5)]
                await asyncio.sleep(0.05)
                second, third = asyncio.create_task(client.wait(0.0)), asyncio.create_task(client.wait(0.0))
                await held[0]
                second.cancel()
                await asyncio.wait_for(third, 10)
                await asyncio.gather(*held)

        asyncio.run(main())

    def test_an_aborted_call_gives_its_a_stack_to_those_who_wait(self, tmp_path: Path) -> None:
        async def main() -> None:
            with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(AwaitedShop, AwaitedShopServer(), "shop")
                client = here.bind(AwaitedShop, "shop")
                held = [asyncio.create_task(client.wait(0.3)) for _ in range(5)]
                await asyncio.sleep(0.05)
                for one in held:
                    one.cancel()
                await asyncio.wait_for(client.wait(0.0), 10)

        asyncio.run(main())

    def test_a_blocking_call_gives_its_a_stack_to_an_awaited_one(self, tmp_path: Path) -> None:
        async def main() -> None:
            with this_machine("mixed", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(Mixed, MixedServer(), "mixed")
                client = here.bind(Mixed, "mixed")
                with ThreadPoolExecutor(5) as pool:
                    for _ in range(5):
                        pool.submit(client.wait, 0.2)
                    await asyncio.sleep(0.05)
                    await asyncio.wait_for(client.soon(0.0), 10)

        asyncio.run(main())

    def test_a_second_loop_is_refused_while_the_first_has_calls(self, tmp_path: Path) -> None:
        with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
            serving.export(AwaitedShop, AwaitedShopServer(), "shop")
            client = here.bind(AwaitedShop, "shop")

            async def first() -> None:
                task = asyncio.create_task(client.wait(0.3))
                await asyncio.sleep(0.05)
                refused = pytest.raises(lrpc.CallFailed, match="bind once for each loop")
                with ThreadPoolExecutor(1) as pool, refused:
                    pool.submit(asyncio.run, client.add(1, 2)).result(10)
                await task

            asyncio.run(first())
            assert asyncio.run(client.add(1, 2)) == 3

    def test_what_nobody_expects_at_the_door_ends_the_binding(self, tmp_path: Path) -> None:
        async def main() -> None:
            with this_machine("awaited", folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
                serving.export(AwaitedShop, AwaitedShopServer(), "shop")
                client = here.bind(AwaitedShop, "shop")
                assert await client.add(1, 2) == 3
                (binding,) = serving.server().bindings.values()
                messages.send(binding.door, {"unexpected": True})
                with pytest.raises(lrpc.CallFailed):
                    await client.wait(30.0)

        asyncio.run(main())


class TestStrangers:
    def test_hellos_that_are_refused_leave_no_descriptor(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _):
            before = descriptors()
            for n in range(100):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
                    door.settimeout(10)
                    door.connect(str(tmp_path / "shop"))
                    hello = {"lrpc": 1, "want": "binding", "interface": f"I{n}", "signatures": []}
                    messages.send(door, hello, [door.fileno()])
                    assert b"refused" in door.recv(4096)
            until(lambda: descriptors() <= before)
            assert serving.status()["refusals"] == {"another interface": 100}

    def test_a_descriptor_that_takes_long_to_close_delays_nobody(self, tmp_path: Path) -> None:
        import struct

        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            raw = RawClient(tmp_path)
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                listening.listen()
                slow = socket.create_connection(listening.getsockname())
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
                slow.setblocking(False)
                with contextlib.suppress(BlockingIOError):  # until its buffers are full
                    while True:
                        slow.send(bytes(1 << 16))
                messages.send(raw.door, {"attach": 0, "size": 4096, "turn": 1}, [slow.fileno()])
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
                slow.close()
                began = time.monotonic()
                assert here.bind(Shop, "shop").add(1, 2) == 3
                assert time.monotonic() - began < 3
            raw.close()

    def test_a_users_segments_count_when_it_binds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from lrpc.kernel.host import server

        monkeypatch.setattr(server, "MOST_BYTES", 100_000)
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            first = here.bind(Shop, "shop")
            with pytest.raises(lrpc.BindingRefused, match="would have more than 100,000 bytes"):
                _ = [here.bind(Shop, "shop") for _ in range(50)]
            assert first.add(1, 2) == 3
