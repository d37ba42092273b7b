"""`install` and those who wrap gRPC's names, before it or after it: each call passes each once."""

import asyncio
import functools
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel import own
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from lrpc.cluster.channel.aio.server import AwaitedServer
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.server import ChannelServer
from tests.support.channels import seen, serving
from tests.support.host import ROOT

NAMES = "insecure_channel", "secure_channel", "server"
MODULES: tuple[Any, ...] = grpc, grpc.aio


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = {(module, name): getattr(module, name) for module in MODULES for name in NAMES}
    yield
    lrpc.uninstall()
    for (module, name), value in before.items():
        setattr(module, name, value)


class Wraps:
    """Wraps a name as tracers do: what was there stays in an attribute, a closure, or both."""

    def __init__(self, module: Any, name: str, kind: str) -> None:
        self.passed = 0
        self.original = before = getattr(module, name)

        def by_attribute(*arguments: Any, **named: Any) -> Any:
            self.passed += 1
            return self.original(*arguments, **named)

        def by_closure(*arguments: Any, **named: Any) -> Any:
            self.passed += 1
            return before(*arguments, **named)

        wrapped = functools.wraps(before)(by_closure)
        setattr(module, name, {"attribute": by_attribute, "closure": by_closure, "wraps": wrapped}[kind])


@pytest.mark.parametrize("kind", ["attribute", "closure", "wraps"])
@pytest.mark.parametrize("installs_first", [True, False])
def test_a_wrapper_stays_around_lrpcs_in_any_order(tmp_path: Path, kind: str, *, installs_first: bool) -> None:
    def wrap() -> list[Wraps]:
        return [Wraps(module, name, kind) for module in MODULES for name in ("server", "insecure_channel")]

    async def make() -> tuple[Any, Any]:
        return grpc.aio.server(), grpc.aio.insecure_channel(target)

    target = f"unix:{tmp_path / 'nobody.sock'}"
    if installs_first:
        lrpc.install()
    wrappers = wrap()
    if not installs_first:
        lrpc.install()
    server = grpc.server(ThreadPoolExecutor(1))
    assert isinstance(server, ChannelServer)
    with grpc.insecure_channel(target) as channel:
        assert isinstance(channel, Channel)
    for one, ours in zip(asyncio.run(make()), (AwaitedServer, AwaitedChannel), strict=True):
        assert isinstance(one, ours)
    assert [one.passed for one in wrappers] == [1, 1, 1, 1]
    lrpc.uninstall()
    with grpc.insecure_channel(target) as channel:
        assert not isinstance(channel, Channel)  # the wrapper calls gRPC's again
    assert [one.passed for one in wrappers] == [1, 2, 1, 1]


def test_names_that_were_taken_before_are_reached_and_look_as_they_did(tmp_path: Path) -> None:
    taken: list[Callable[..., Any]] = [getattr(module, name) for module in MODULES for name in NAMES]
    before = [(one.__name__, one.__doc__, inspect.signature(one)) for one in taken]
    lrpc.install()
    assert [(one.__name__, one.__doc__, inspect.signature(one)) for one in taken] == before
    with serving(tmp_path) as (_, target, _), taken[0](target) as channel:
        assert isinstance(channel, Channel)
        assert seen(channel, "echo", "a").response == "a"
        assert channel.local_calls == 1
    lrpc.uninstall()
    assert [(one.__name__, one.__doc__, inspect.signature(one)) for one in taken] == before


def test_what_is_in_grpcs_place_and_leads_to_nothing_of_grpcs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "server", object())
    with pytest.raises(LookupError, match=r"^grpc\.server is not gRPC's own"):
        own.OwnFunction(grpc, "server").lend(lrpc.server)


@pytest.mark.parametrize("uses", ["lrpc.server", "lrpc.aio.server"])
def test_lrpc_may_be_read_once_others_have_wrapped_grpcs_names(uses: str) -> None:
    code = f"""
import asyncio, grpc, grpc.aio
from concurrent.futures import ThreadPoolExecutor
class Tracer:
    def wrap(self, module, name):
        self.original = getattr(module, name)
        def traced(*arguments, **named):
            named["interceptors"] = [*named.get("interceptors", ()), object()]
            return self.original(*arguments, **named)
        setattr(module, name, traced)
for module in (grpc, grpc.aio):
    for name in ("insecure_channel", "secure_channel", "server"):
        Tracer().wrap(module, name)
import lrpc
async def main():
    return {uses}(ThreadPoolExecutor(1))
print(type(asyncio.run(main())).__module__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("lrpc.cluster.channel"), done.stderr
