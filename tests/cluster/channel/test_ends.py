"""How calls end where one side goes: it is killed, or has a forked child."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.channel import Channel
from tests.support.channels import calls_locally, seen
from tests.support.host import ROOT, until

SERVER = """
import sys
from pathlib import Path
from tests.support.channels import serving
with serving(Path(sys.argv[1])) as (service, target, server):
    print("ready", flush=True)
    server.wait_for_termination()
"""


FORKED = """
import os, sys, time
from pathlib import Path
from tests.support.channels import serving
with serving(Path(sys.argv[1]), options=[("lrpc.doors", sys.argv[2])]) as (service, target, server):
    service.called.wait()
    child = os.fork()
    if child == 0:
        time.sleep(60)  # with copies of all that its parent has open
        os._exit(0)
    print(child, flush=True)
    server.wait_for_termination()
"""


def kill(server: "subprocess.Popen[str]", at: list[float]) -> None:
    """Kill a server, and note when."""
    at.append(time.monotonic())
    server.kill()


class TestEnds:
    def test_a_server_that_is_killed_in_a_call_is_unavailable_at_once_and_comes_back(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(tmp_path)]
        with lrpc.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
            assert isinstance(channel, Channel)
            took = []
            for _ in range(3):
                server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                channel.broken()
                assert seen(channel, "echo", "a", wait_for_ready=True, timeout=20).response == "a"
                channel.broken()
                assert seen(channel, "echo", "a").response == "a"
                before = channel.local_calls
                killed: list[float] = []
                threading.Timer(0.1, kill, [server, killed]).start()
                found = seen(channel, "wait", "")
                assert found.code is grpc.StatusCode.UNAVAILABLE
                took.append(time.monotonic() - killed[0])
                assert channel.local_calls == before  # the handler may have run: it is not repeated
                assert seen(channel, "echo", "a").code is grpc.StatusCode.UNAVAILABLE
                server.wait()
                server.stdout.close()
                (tmp_path / "grpc.sock").unlink(missing_ok=True)
            assert sorted(took)[1] < 0.1  # the middle one: this computer may be busy

    @pytest.mark.parametrize("where", ["folder", f"abstract:{os.geteuid()}"])
    def test_a_forked_child_of_a_server_does_not_hide_its_end(self, tmp_path: Path, where: str) -> None:
        where = where.replace("folder", str(tmp_path / "doors"))
        took = []
        for turn in range(3):
            (tmp_path / str(turn)).mkdir()
            command = [sys.executable, "-c", FORKED, str(tmp_path / str(turn)), where]
            server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            target = f"unix:{tmp_path / str(turn) / 'grpc.sock'}"
            until((tmp_path / str(turn) / "grpc.sock").exists, 30)
            with lrpc.insecure_channel(target, [("lrpc.doors", where)]) as channel:
                assert isinstance(channel, Channel)
                until(partial(calls_locally, channel))
                ends: list[tuple[grpc.StatusCode, float]] = []
                calling = threading.Thread(
                    target=lambda: ends.append((seen(channel, "wait", "").code, time.monotonic()))  # noqa: B023
                )
                calling.start()
                child = int(server.stdout.readline())
                killed = time.monotonic()
                server.kill()
                calling.join(10)
                os.kill(child, signal.SIGKILL)
                assert [code for code, _ in ends] == [grpc.StatusCode.UNAVAILABLE]
                took.append(ends[0][1] - killed)
            server.wait()
            server.stdout.close()
        assert sorted(took)[1] < 0.1  # the middle one: this computer may be busy
