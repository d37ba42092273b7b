"""Random calls down both ways: what client, handler and interceptors can see is the same.

What is not compared stands in `EXEMPTIONS`, and on the page.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
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
from lrpc.cluster.channel.channel import Channel
from tests.support.channels import EXEMPTIONS, PAIRS, REMOVED, SERVICE, VARYING, Seen, Service, seen
from tests.support.host import ROOT, until

ENDED = "callback 2"
FORMS: tuple[Callable[[Any], Any], ...] = (tuple, list, iter)  # of metadata


class Other(ThreadPoolExecutor):
    """An executor of a class of its own."""


class Notes:
    """What the server's and the client's code has seen of one call, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def recorded(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return a handler that writes down when it runs, and on which thread."""

        def run(request: Any, context: Any) -> Any:
            self.log.append(f"handler on {threading.current_thread().name.rpartition('_')[0]}")
            for number in range(3):
                context.add_callback(lambda number=number: self.log.append(f"callback {number}"))
            try:
                return behaviour(request, context)
            finally:
                self.log.append("returned")

        return run

    def sleeps(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        ended = threading.Event()
        context.add_callback(ended.set)
        if request.value == "cancel":
            context.cancel()
        ended.wait(10)
        return request


@dataclass
class Adds(grpc.UnaryUnaryClientInterceptor, grpc.ServerInterceptor):
    """An interceptor for either side."""

    notes: Notes
    name: str

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.notes.log.append(f"client interceptor {self.name}")
        told = (*(details.metadata or ()), ("by", self.name))
        return continuation(details._replace(metadata=told), request)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.notes.log.append(f"server interceptor {self.name} {details.method}")
        return continuation(details)


class Way:
    """One of the two ways to a server, with interceptors before it."""

    def __init__(self, channel: grpc.Channel, notes: Notes) -> None:
        self.channel, self.notes = channel, notes
        adds = [Adds(notes, f"{number}") for number in range(2)]
        self.intercepted = [channel, *(grpc.intercept_channel(channel, *adds[:count]) for count in (1, 2))]

    def call(self, name: str, interceptors: int, value: str = "", **given: Any) -> tuple[Seen, list[str]]:
        """Make a call; return what the client sees of it, and what was noted until its end."""
        self.notes.log.clear()
        found = seen(self.intercepted[interceptors], name, value, **given)
        if any(one.startswith("handler") for one in self.notes.log):
            until(lambda: ENDED in self.notes.log and "returned" in self.notes.log)
        if found.code in VARYING:
            found.details = ""
        found.details, found.debug = (REMOVED.sub(r"\1", one) for one in (found.details, found.debug))
        return found, list(self.notes.log)


@contextlib.contextmanager
def ways(folder: Path, pool: ThreadPoolExecutor, interceptors: int) -> Iterator[tuple[Way, Way]]:
    """Serve, and yield ours and gRPC's way there."""
    notes, service = Notes(), Service()
    forms = StringValue.FromString, StringValue.SerializeToString
    behaviours: dict[str, Any] = {name: getattr(service, name) for name in NAMES if name != "sleeps"}
    behaviours["sleeps"] = notes.sleeps  # until its time has passed, or it cancels itself
    make: Any = grpc.unary_unary_rpc_method_handler
    handlers = {name: make(notes.recorded(one), *forms) for name, one in behaviours.items()}
    server = lrpc.server(pool, interceptors=[Adds(notes, f"{number}") for number in range(interceptors)])
    server.add_registered_method_handlers(SERVICE, handlers)
    target = f"unix:{folder / 'grpc.sock'}"
    server.add_insecure_port(target)
    server.start()
    with lrpc.insecure_channel(target) as ours, grpc.insecure_channel(target) as theirs:
        found = Way(ours, notes), Way(theirs, notes)
        for way in found:
            way.call("echo", 0, "bind while the doors are set")
        yield found
    server.stop(0).wait()


NAMES = ["echo", "metadata", "status", "abort", "raises", "none", "large", "agent", "sleeps"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[int, int], tuple[Way, Way]]]:
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("LRPC_DOORS", str(tmp_path_factory.mktemp("doors")))
        yield {
            (kind, count): stack.enter_context(
                ways(tmp_path_factory.mktemp("served"), executor(4, thread_name_prefix="mine"), count)
            )
            for (kind, executor), count in itertools.product(enumerate((ThreadPoolExecutor, Other)), range(3))
        }


@dataclass
class Call:
    """One call as it is drawn."""

    name: str
    value: str
    size: int  # bytes of the request
    timeout: float | None
    pairs: list[tuple[str, str | bytes]]
    form: Callable[[Any], Any]  # in which the metadata are given

    def given(self) -> dict[str, Any]:
        """Return what goes with the call, anew for each way."""
        return {
            "value": self.value or "y" * self.size,
            "timeout": self.timeout,
            "metadata": self.form(self.pairs) if self.pairs else None,
        }


@st.composite
def calls(draw: st.DrawFn) -> Call:
    name = draw(st.sampled_from(NAMES))
    size = draw(st.sampled_from([0, 10, 2048, 5 << 20]))
    value = {"status": "5", "abort": "7", "large": str(size)}.get(name, "")
    timeout = draw(st.sampled_from([None, 10.0, -1.0, float("-inf")]))
    if name == "sleeps":
        timeout, value = draw(st.sampled_from([(0.02, "waits"), (10.0, "cancel")]))
    pairs: list[tuple[str, str | bytes]] = [one for one in draw(PAIRS) if not one[0].startswith("grpc")]
    form = draw(st.sampled_from(FORMS))
    return Call(name, value, size, timeout, pairs, form)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(calls(), st.sampled_from([0, 1]), st.integers(0, 2), st.integers(0, 2))
def test_random_calls_look_the_same(
    servers: dict[tuple[int, int], tuple[Way, Way]], call: Call, kind: int, served: int, interceptors: int
) -> None:
    ours, theirs = servers[kind, served]
    assert isinstance(ours.channel, Channel)
    before = ours.channel.local_calls
    found, log = ours.call(call.name, interceptors, **call.given())
    expected, expected_log = theirs.call(call.name, interceptors, **call.given())
    assert found == expected
    if call.timeout is None or call.timeout == 10:  # else it may pass before a server has the call
        assert log == expected_log
        assert ours.channel.local_calls == before + 1, ours.channel.decision
    elif call.name == "sleeps" and "returned" in log and "returned" in expected_log:
        assert log == expected_log


def test_what_is_not_compared_stands_on_the_page() -> None:
    page = " ".join((ROOT / "docs" / "grpc.md").read_text().partition("## What differs")[2].split())
    for said in EXEMPTIONS.values():
        assert said in page
