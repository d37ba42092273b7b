"""How calls of asyncio end where one side goes."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import awaited_seen, awaited_serving, awaited_stub, run, text
from tests.support.host import ROOT

SERVER = """
import asyncio, sys
from pathlib import Path
from tests.support.awaited import awaited_serving
async def main():
    async with awaited_serving(Path(sys.argv[1])) as (service, target, server):
        print("ready", flush=True)
        await server.wait_for_termination()
asyncio.run(main())
"""
CLIENT = """
import asyncio, sys
import lrpc
from tests.support.awaited import awaited_seen
async def main():
    async with lrpc.aio.insecure_channel(sys.argv[1]) as channel:
        print((await awaited_seen(channel, "echo", "a")).response, channel.local_calls, flush=True)
        await awaited_seen(channel, "wait", "")
asyncio.run(main())
"""


class TestEnds:
    def test_the_end_of_a_client_cancels_the_handler(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (service, target, _):
                command = [sys.executable, "-c", CLIENT, target]
                client = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
                assert client.stdout is not None
                assert await client.stdout.readline() == b"a 1\n"
                await service.called.wait()
                client.kill()
                await service.cancelled.wait()
                assert await service.ended.get() == (False, False)
                await client.wait()

        run(main())

    def test_a_server_that_is_killed_in_a_call_is_unavailable_at_once_and_comes_back(self, tmp_path: Path) -> None:
        async def main() -> None:
            command = [sys.executable, "-c", SERVER, str(tmp_path)]
            async with lrpc.aio.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
                assert isinstance(channel, AwaitedChannel)
                took = []
                for _ in range(3):
                    server = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
                    assert server.stdout is not None
                    assert await server.stdout.readline() == b"ready\n"
                    channel.broken()
                    assert (await awaited_seen(channel, "echo", "a", wait_for_ready=True, timeout=20)).response == "a"
                    channel.broken()
                    before = channel.local_calls
                    assert (await awaited_seen(channel, "echo", "a")).response == "a"
                    call = awaited_stub(channel, "wait")(text("early"))
                    assert dict(await call.initial_metadata())["early"] == "yes"  # its handler runs
                    server.send_signal(signal.SIGKILL)
                    began = time.monotonic()
                    assert await call.code() is grpc.StatusCode.UNAVAILABLE
                    took.append(time.monotonic() - began)
                    assert channel.local_calls == before + 1  # the handler may have run: it is not repeated
                    assert (await awaited_seen(channel, "echo", "a")).code is grpc.StatusCode.UNAVAILABLE
                    await server.wait()
                    (tmp_path / "grpc.sock").unlink(missing_ok=True)
                assert sorted(took)[1] < 0.1  # the middle one: this computer may be busy

        run(main())

    def test_a_call_that_was_not_taken_goes_once_more_by_grpc(self, tmp_path: Path) -> None:
        async def main() -> None:
            command = [sys.executable, "-c", SERVER, str(tmp_path)]
            server = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
            assert server.stdout is not None
            assert await server.stdout.readline() == b"ready\n"
            async with lrpc.aio.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
                assert isinstance(channel, AwaitedChannel)
                await awaited_seen(channel, "echo", "a")
                server.send_signal(signal.SIGSTOP)
                call = awaited_stub(channel, "echo")(text("a"), wait_for_ready=True, timeout=20)
                told: list[Any] = []
                call.add_done_callback(told.append)
                server.kill()
                await server.wait()
                (tmp_path / "grpc.sock").unlink(missing_ok=True)
                async with awaited_serving(tmp_path):
                    assert (await call).value == "a"
                    assert (await call.code(), told, call.done()) == (grpc.StatusCode.OK, [call], True)
                    assert (channel.local_calls, channel.grpc_calls) == (1, 1)
                    channel.broken()  # as after five seconds
                    assert (await awaited_seen(channel, "echo", "b")).response == "b"
                    assert (channel.local_calls, channel.grpc_calls) == (2, 1)

        run(main())

    def test_each_call_has_one_outcome_while_the_server_restarts(self, tmp_path: Path) -> None:
        allowed = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

        async def main() -> None:
            async with lrpc.aio.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
                assert isinstance(channel, AwaitedChannel)
                codes: set[grpc.StatusCode] = set()
                done = asyncio.Event()

                async def many() -> None:
                    while not done.is_set():
                        codes.add((await awaited_seen(channel, "echo", "a")).code)

                async with asyncio.TaskGroup() as callers:
                    for _ in range(8):
                        callers.create_task(many())
                    for _ in range(4):
                        async with awaited_serving(tmp_path):
                            channel.broken()
                            before = channel.local_calls
                            while channel.local_calls < before + 200:
                                channel.broken()
                                await asyncio.sleep(0.001)
                    done.set()
                assert codes <= allowed
                assert grpc.StatusCode.OK in codes

        run(main())
