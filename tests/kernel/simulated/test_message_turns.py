"""Calls by message without stacks show what those show that are made and served on stacks.

A concrete thread serves leaves without its stack, and a client's stub repeats calls without the
client's. What a run shows is the same, whoever yields, gives up or ends in between.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

import greenlet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrpc
from lrpc.domains.clerk import Clerk
from lrpc.domains.simulated.binding import bind
from lrpc.domains.simulated.stubs import ClientStub
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.simulated import FIREFLY, NO_BUS, with_buffers, with_locked, with_passing

COPIED: Final = with_passing(NO_BUS, lambda one: one.model_copy(update={"discipline": "message passing"}))
RESTRICTED: Final = with_passing(
    NO_BUS, lambda one: one.model_copy(update={"discipline": "restricted message passing"})
)
COSTS: Final = (
    FIREFLY,
    NO_BUS,
    COPIED,
    RESTRICTED,
    with_buffers(NO_BUS, 1),
    with_locked(NO_BUS, []),
    with_locked(NO_BUS, ["message_transfer"]),
)
PROCEDURES: Final = ("null", "add", "turned", "sometimes")


class Post(lrpc.Interface):
    """Procedures of few arguments or many, and one that raises now and then."""

    def null(self) -> None: ...

    @lrpc.procedure(simultaneous=2)
    def add(self, amount: lrpc.Int32) -> lrpc.Int32: ...

    def turned(self, letter: bytes) -> bytes: ...

    def sometimes(self, amount: lrpc.Int32) -> lrpc.Int32: ...


class PostServer(Post):
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def null(self) -> None:
        self.calls.append("null")

    def add(self, amount: int) -> int:
        self.calls.append(f"add {amount}")
        return amount + 1

    def turned(self, letter: bytes) -> bytes:
        self.calls.append(f"turned {len(letter)}")
        return letter[::-1]

    def sometimes(self, amount: int) -> int:
        self.calls.append(f"sometimes {amount}")
        if len(self.calls) % 4 == 0:
            raise KeyError("fourth")
        return amount


class LeafPost(PostServer):
    """The same, each procedure declared a leaf."""

    null = lrpc.leaf(lambda self: PostServer.null(self))
    add = lrpc.leaf(lambda self, amount: PostServer.add(self, amount))
    turned = lrpc.leaf(lambda self, letter: PostServer.turned(self, letter))
    sometimes = lrpc.leaf(lambda self, amount: PostServer.sometimes(self, amount))


@dataclass(frozen=True)
class Client:
    """A thread: of which domain, when it begins, what it calls how often, and when it gives up."""

    domain: int
    begins_us: int
    procedure: str
    size: int
    times: int
    released_us: int

    @property
    def values(self) -> tuple[object, ...]:
        """Return the arguments of each of its calls."""
        given: dict[str, tuple[object, ...]] = {"null": (), "turned": (bytes(range(256)) * self.size,)}
        return given.get(self.procedure, (self.size,))


@dataclass
class Outcome:
    """All that a run shows."""

    events: bytes
    charges: list[int]
    counts: object
    clocks: list[int]
    waits: list[tuple[int, int, int]]
    latencies: Sequence[tuple[object, ...]]
    calls: list[str]
    told: list[str] = field(default_factory=list)


def run(post: PostServer, clients: list[Client], ends: dict[str, int], *, repeats: bool, **machine: object) -> Outcome:
    """Run clients of a post, of which domains terminate at the times that `ends` gives in us."""
    sink, told = BytesIO(), []
    kernel = Kernel("m", sink=sink, debug=True, **machine)  # type: ignore[arg-type]
    server = kernel.domain("post")
    homes = [kernel.domain(f"client{number}") for number in range(2)]
    Clerk().export(server, Post, post, "post")
    stubs = [bind(home, Post, "post", "message passing") for home in homes]
    for number, client in enumerate(clients):
        stub = getattr(stubs[client.domain], client.procedure)
        assert isinstance(stub, ClientStub)

        def body(number: int = number, client: Client = client, stub: ClientStub = stub) -> None:
            for _ in range(2):
                try:
                    if repeats:
                        stub.repeat(client.values, client.times)
                    else:
                        for _ in range(client.times):
                            stub(*client.values)
                except lrpc.CallError as error:
                    told.append(f"{number} {type(error).__name__} {error} at {kernel.now_ns}")

        home = homes[client.domain]
        thread = kernel.spawn(home, body, f"c{number}", at_ns=client.begins_us * 1000)

        def release(thread: object = thread, number: int = number) -> None:
            try:
                server.abort(thread)  # type: ignore[arg-type]
            except lrpc.CallError:
                told.append(f"{number} has no call to be released from")

        kernel.spawn(kernel.domain(f"releaser{number}"), release, f"r{number}", at_ns=client.released_us * 1000)
    other = kernel.domain("other")
    for name, at_us in ends.items():
        domain = kernel.domains[name]
        kernel.spawn(other, domain.terminate, f"end of {name}", at_ns=at_us * 1000)
    kernel.run(FOREVER)
    assert_sound(kernel)
    assert_nothing_left(kernel)
    latencies = [(route, one.count, one.total, one.buckets) for route, one in kernel.latencies.items()]
    processors = kernel.processors
    return Outcome(
        sink.getvalue(),
        kernel.charges.counts(),
        kernel.counts,
        [one.clock for one in processors],
        [(one.lock_wait_ns, one.bus_wait_ns, one.busy_ns) for one in processors],
        latencies,
        post.calls,
        told,
    )


CLIENTS: Final = st.builds(
    Client,
    domain=st.integers(0, 1),
    begins_us=st.integers(0, 600),
    procedure=st.sampled_from(PROCEDURES),
    size=st.integers(0, 4),
    times=st.integers(1, 5),
    released_us=st.integers(0, 2500),
)


@given(
    clients=st.lists(CLIENTS, min_size=1, max_size=6),
    ends=st.dictionaries(st.sampled_from(["post", "client0"]), st.integers(0, 3000)),
    processors=st.integers(1, 4),
    costs=st.sampled_from(COSTS),
    quantum=st.sampled_from([None, 100.0]),
)
def test_neither_leaves_nor_repeated_calls_change_what_a_run_shows(
    clients: list[Client], ends: dict[str, int], processors: int, costs: CostModel, quantum: float | None
) -> None:
    machine = {"costs": costs, "processors": processors, "quantum_us": quantum}
    on_stacks = run(PostServer(), clients, ends, repeats=False, **machine)
    assert run(LeafPost(), clients, ends, repeats=False, **machine) == on_stacks
    assert run(PostServer(), clients, ends, repeats=True, **machine) == on_stacks
    assert run(LeafPost(), clients, ends, repeats=True, **machine) == on_stacks


@contextmanager
def switches() -> Iterator[list[str]]:
    """Note each switch of greenlets."""
    seen: list[str] = []
    before = greenlet.settrace(lambda event, _: seen.append(event))
    try:
        yield seen
    finally:
        greenlet.settrace(before)


@pytest.mark.parametrize(
    ("post", "repeats", "costs", "most"),
    [
        (LeafPost(), True, NO_BUS, 0.1),
        (LeafPost(), False, NO_BUS, 1.1),
        (PostServer(), False, NO_BUS, 2.1),
        (LeafPost(), True, FIREFLY, 9.0),  # where they wait for the bus, on their stacks
    ],
)
@pytest.mark.parametrize("clients", [1, 4])
def test_calls_by_message_switch_stacks_as_seldom_as_they_can(
    post: PostServer, repeats: bool, costs: CostModel, most: float, clients: int
) -> None:
    callers = [Client(number % 2, 0, "null", 0, 100, 10**6) for number in range(clients)]
    with switches() as seen:
        run(post, callers, {}, repeats=repeats, costs=costs, processors=4)
    calls = 2 * 100 * clients
    assert len(post.calls) >= calls
    post.calls.clear()
    assert len(seen) <= most * calls + 60


class Hasty(lrpc.Interface):
    def enter(self) -> None: ...


class HastyServer(Hasty):
    """Does what it was made with, and is declared a leaf."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what
        self.calls = 0

    @lrpc.leaf
    def enter(self) -> None:
        self.calls += 1
        if self.calls == 3:
            self.what()


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("what", ["enters", "exits"])
def test_what_ends_the_run_is_not_seen_by_whose_stack_it_is_on(what: str, repeats: bool) -> None:
    kernel = Kernel("m", NO_BUS, processors=2)
    server, client = kernel.domain("server"), kernel.domain("client")
    hasty = HastyServer((lambda: server.sleep(1)) if what == "enters" else leave)
    Clerk().export(server, Hasty, hasty, "hasty")
    stub = bind(client, Hasty, "hasty", "message passing").enter
    assert isinstance(stub, ClientStub)
    seen: list[BaseException] = []

    def body() -> None:
        try:
            if repeats:
                stub.repeat((), 5)
            for _ in range(5):
                stub()
        except greenlet.GreenletExit:
            raise
        except BaseException as error:
            seen.append(error)
            raise

    client.spawn(body)
    client.spawn(lambda: client.compute(10_000_000))
    with pytest.raises(lrpc.RunFailed, match="declared a leaf, but enters" if what == "enters" else "may not end the"):
        kernel.run(FOREVER)
    assert (hasty.calls, seen) == (3, [])
