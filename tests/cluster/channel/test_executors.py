"""The program's executor: how many handlers run, on which threads, and what becomes of its end."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.channel import Channel
from tests.support.channels import SERVICE, begin_waiting, seen, serving
from tests.support.host import ROOT


def test_handlers_run_on_as_many_threads_as_the_pool_has_each_begun_once(tmp_path: Path) -> None:
    begun: list[str] = []
    names: set[str] = set()

    def name(request: bytes, context: grpc.ServicerContext) -> bytes:
        names.add(threading.current_thread().name)
        return request

    pool = ThreadPoolExecutor(2, "mine", lambda: begun.append(threading.current_thread().name))
    server = lrpc.server(pool)
    server.add_registered_method_handlers(SERVICE, {"name": grpc.unary_unary_rpc_method_handler(name)})
    target = f"unix:{tmp_path / 'grpc.sock'}"
    server.add_insecure_port(target)
    server.start()
    with lrpc.insecure_channel(target) as channel, ThreadPoolExecutor(12) as callers:
        method: Any = channel.unary_unary(f"/{SERVICE}/name")
        assert list(callers.map(method, [b"a"] * 96)) == [b"a"] * 96
        assert isinstance(channel, Channel)
        assert channel.grpc_calls == 0
    server.stop(0).wait()
    assert names <= {"mine_0", "mine_1"}
    assert sorted(begun) == sorted(names)


def test_a_pool_that_two_servers_share_bounds_both(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with (
        serving(tmp_path / "one", thread_pool=pool) as (service, one, _),
        serving(tmp_path / "other", thread_pool=pool) as (_, other, _),
        lrpc.insecure_channel(one) as first,
        lrpc.insecure_channel(other) as second,
    ):
        assert seen(second, "echo", "a").response == "a"
        waiting, _ = begin_waiting(first, service)
        assert seen(second, "echo", "a", timeout=0.1).code is grpc.StatusCode.DEADLINE_EXCEEDED
        service.release.set()
        waiting.join()
        assert seen(second, "echo", "a").response == "a"


def test_a_call_that_comes_while_a_server_stops_is_sent_on_though_all_threads_are_taken(tmp_path: Path) -> None:
    with (
        serving(tmp_path, thread_pool=ThreadPoolExecutor(1)) as (service, target, server),
        lrpc.insecure_channel(target) as channel,
    ):
        waiting, _ = begin_waiting(channel, service)
        server.stop(20)
        assert seen(channel, "echo", "a", timeout=20).code is grpc.StatusCode.UNAVAILABLE
        service.release.set()
        waiting.join()


@pytest.mark.parametrize("ends", ["pool.shutdown()", "bad.append(1)"])
def test_a_pool_that_runs_nothing_runs_no_handlers_on_a_stacks_either(tmp_path: Path, ends: str) -> None:
    code = f"""
import os, threading
import grpc, lrpc
from concurrent.futures import ThreadPoolExecutor
bad = []
def begin():
    if bad:
        raise ValueError("initializer")
pool = ThreadPoolExecutor(2, initializer=begin)
server = lrpc.server(pool)
ran = []
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: ran.append(1) or request)
server.add_registered_method_handlers("s", {{"m": handler}})
target = "unix:{tmp_path}/s"
server.add_insecure_port(target)
server.start()
{ends}
with lrpc.insecure_channel(target) as channel:
    try:
        channel.unary_unary("/s/m")(b"", timeout=0.5)
    except grpc.RpcError as error:
        print(error.code().name, channel.local_calls, channel.grpc_calls, ran, flush=True)
    os._exit(0)  # gRPC's own server never stops then
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "DEADLINE_EXCEEDED 0 1 []\n", done.stderr
