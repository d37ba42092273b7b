"""Random calls of asyncio down both ways, also cancelled ones: all that either side can see.

What is not compared stands in `EXEMPTIONS`, and on the page.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import ended, told_by
from tests.support.channels import PAIRS, REMOVED, SERVICE, VARYING, Seen

NAMES = ["echo", "large", "metadata", "abort", "raises", "on_thread", "sleeps"]
SLEEPS_S = 10
FORMS: tuple[Callable[[Any], Any], ...] = (tuple, list, iter, lambda pairs: grpc.aio.Metadata(*pairs))


class Notes:
    """Handlers, and what the server's and the client's code has seen of one call, in order."""

    def __init__(self) -> None:
        self.server: list[str] = []
        self.client: list[str] = []
        self.began, self.over = asyncio.Event(), asyncio.Event()

    async def handle(self, name: str, request: StringValue, context: Any) -> StringValue:
        self.server.append(f"handler on {threading.current_thread().name}")
        for number in range(2):
            context.add_done_callback(lambda _, number=number: self.server.append(f"callback {number}"))
        context.add_done_callback(lambda _: self.over.set())
        self.began.set()
        try:
            return await self.end(name, request, context)
        except asyncio.CancelledError:
            self.server.append("cancelled")
            raise
        finally:
            self.server.append("returned")

    async def end(self, name: str, request: StringValue, context: Any) -> StringValue:
        if name == "sleeps":
            await asyncio.sleep(SLEEPS_S)
        elif name == "metadata":
            await context.send_initial_metadata((("first", "1"), ("raw-bin", b"\x00\xff")))
            context.set_trailing_metadata((*told_by(context), ("last", "2")))
        elif name == "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "aborted", (("why", "because"),))
        elif name == "raises":
            raise ValueError("handler raised")
        return StringValue(value="x" * int(request.value)) if name == "large" else request

    def on_thread(self, request: StringValue, context: Any) -> StringValue:
        self.server.append(f"handler on {threading.current_thread().name.rpartition('_')[0]}")
        return request

    def handlers(self) -> dict[str, Any]:
        """Return the handlers by name."""

        def of(name: str) -> Callable[[Any, Any], Any]:
            async def handler(request: Any, context: Any) -> Any:
                return await self.handle(name, request, context)

            return handler

        make: Any = grpc.unary_unary_rpc_method_handler
        behaviours = {**{name: of(name) for name in NAMES}, "on_thread": self.on_thread}
        forms = StringValue.FromString, StringValue.SerializeToString
        return {name: make(one, *forms) for name, one in behaviours.items()}


class Serves(grpc.aio.ServerInterceptor):
    def __init__(self, notes: Notes, name: str) -> None:
        self.notes, self.name = notes, name

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.notes.server.append(f"interceptor {self.name} {handler_call_details.method}")
        return await continuation(handler_call_details)


class Calls(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, notes: Notes, name: str) -> None:
        self.notes, self.name = notes, name

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.notes.client.append(f"interceptor {self.name}")
        return await continuation(client_call_details, request)


@dataclass
class Call:
    """One call as it is drawn."""

    name: str
    size: int  # bytes of the request, or of the response of `large`
    timeout: float | None
    pairs: list[tuple[str, str | bytes]]
    form: Callable[[Any], Any]  # in which the metadata are given
    cancels: bool  # the client does, once the handler runs

    async def made(self, channel: grpc.aio.Channel, notes: Notes) -> tuple[object, ...]:
        """Make the call; return all that was seen of it."""
        notes.__init__()  # type: ignore[misc]  # afresh
        make: Any = channel.unary_unary
        method = make(f"/{SERVICE}/{self.name}", StringValue.SerializeToString, StringValue.FromString)
        metadata = self.form(self.pairs) if self.pairs else None
        call = method(
            StringValue(value=str(self.size) if self.name == "large" else "y" * self.size),
            timeout=self.timeout,
            metadata=metadata,
        )
        call.add_done_callback(lambda _: notes.client.append("done"))
        if self.cancels:
            await notes.began.wait()
            assert call.cancel()
        try:
            response = (await call).value
        except grpc.aio.AioRpcError:
            response = None
        except asyncio.CancelledError:
            response = "cancelled"
        found: Seen = await ended(call, response)
        if notes.began.is_set():
            await notes.over.wait()
        if found.code in VARYING:
            found.details = ""
        found.details = REMOVED.sub(r"\1", found.details)
        return found, call.done(), call.cancelled(), notes.client, notes.server


@st.composite
def calls(draw: st.DrawFn) -> Call:
    name = draw(st.sampled_from(NAMES))
    size = draw(st.sampled_from([0, 10, 2048] + [5 << 20] * (name != "sleeps")))
    cancels = name == "sleeps" and draw(st.booleans())
    timeout = draw(st.sampled_from([None, 10.0, -1.0, float("-inf")]))
    if name == "sleeps":
        timeout = None if cancels else 0.02
    # Each key once: gRPC's own puts equal ones together in some forms, and not in others.
    pairs = {one[0]: one for one in draw(PAIRS) if not one[0].startswith("grpc")}
    form = draw(st.sampled_from(FORMS))
    return Call(name, size, timeout, list(pairs.values()), form, cancels)


@contextlib.asynccontextmanager
async def channels(
    folder: Path, served: int, interceptors: int
) -> AsyncIterator[tuple[Notes, AwaitedChannel, grpc.aio.Channel]]:
    """Serve with so many interceptors; yield a channel of ours and one of gRPC's, with as many."""
    notes = Notes()
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        server = lrpc.aio.server(pool, interceptors=[Serves(notes, f"{number}") for number in range(served)])
        server.add_registered_method_handlers(SERVICE, notes.handlers())
        target = f"unix:{folder / 'grpc.sock'}"
        server.add_insecure_port(target)
        await server.start()
        adds = [Calls(notes, f"{number}") for number in range(interceptors)]
        async with (
            lrpc.aio.insecure_channel(target, interceptors=adds) as ours,
            grpc.aio.insecure_channel(target, interceptors=adds) as theirs,
        ):
            assert isinstance(ours, AwaitedChannel)
            yield notes, ours, theirs
        await server.stop(0)


@pytest.fixture(scope="module", params=[(0, 0), (1, 2), (2, 1)])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, Notes, AwaitedChannel, grpc.aio.Channel]]:
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("LRPC_DOORS", str(folder / "doors"))
        made = channels(folder, *request.param)
        notes, ours, theirs = runner.run(made.__aenter__())
        runner.run(Call("echo", 0, None, [], tuple, False).made(ours, notes))
        yield runner, notes, ours, theirs
        runner.run(made.__aexit__(None, None, None))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(calls())
def test_random_calls_look_the_same(
    both: tuple[asyncio.Runner, Notes, AwaitedChannel, grpc.aio.Channel], call: Call
) -> None:
    runner, notes, ours, theirs = both
    found, expected = (runner.run(asyncio.wait_for(call.made(one, notes), 30)) for one in (ours, theirs))
    if call.name == "sleeps" and not call.cancels:  # its time may pass before a server has it
        assert found[:4] == expected[:4]
    else:
        assert found == expected
    assert ours.grpc_calls == 0, ours.decision
