"""A procedure that is declared a leaf runs without a change of stacks, and to the same results.

One that enters the kernel all the same fails its run.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated

import pytest
from greenlet import getcurrent
from hypothesis import given
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.description import describe
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Transfer
from lrpc.domains.residents import Registry
from lrpc.domains.simulated.binding import bind
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.documents import validate
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from tests.support.clusters import LedgerServer, Teller, in_memory, pair
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.simulated import FIREFLY, NO_BUS


class Desk(lrpc.Interface):
    """Procedures of several kinds of arguments and results."""

    def null(self) -> None: ...

    def add(self, a: lrpc.Int32, b: Annotated[lrpc.Int32, lrpc.Immutable]) -> lrpc.Int32: ...

    def long(self, size: lrpc.Int32) -> bytes: ...

    def refuse(self) -> None: ...


class DeskServer(Desk):
    """Counts its calls, and notes the stacks that they ran on."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.stacks: list[object] = []

    def null(self) -> None:
        self.order.append("null")
        self.stacks.append(getcurrent())

    def add(self, a: int, b: int) -> int:
        self.order.append(f"add {a}")
        return a + b

    def long(self, size: int) -> bytes:
        return bytes(size)

    def refuse(self) -> None:
        raise KeyError("desk")


class LeafDesk(DeskServer):
    """The same, each procedure declared a leaf."""

    null = lrpc.leaf(lambda self: DeskServer.null(self))
    add = lrpc.leaf(lambda self, a, b: DeskServer.add(self, a, b))
    long = lrpc.leaf(lambda self, size: DeskServer.long(self, size))
    refuse = lrpc.leaf(lambda self: DeskServer.refuse(self))


@dataclass(frozen=True)
class Client:
    """A client's thread: when it begins, what it calls how often, and when it is released."""

    begins_us: int
    procedure: str
    calls: int
    released_us: int
    transfer: Transfer = "lrpc"


@dataclass
class Outcome:
    """All that a run shows."""

    events: bytes
    charges: list[int]
    counts: object
    clocks: list[int]
    order: list[str]
    told: list[str] = field(default_factory=list)


def run(desk: DeskServer, clients: list[Client], ends_us: int, **machine: object) -> Outcome:
    """Run clients of a desk, whose domain terminates at `ends_us`."""
    sink, told = BytesIO(), []
    kernel = Kernel("m", sink=sink, debug=True, **machine)  # type: ignore[arg-type]
    server, home = kernel.domain("server"), kernel.domain("client")
    Clerk().export(server, Desk, desk, "desk")

    def body(number: int, client: Client, stub: Desk) -> Callable[[], None]:
        calls: dict[str, Callable[[], object]] = {
            "null": stub.null,
            "add": lambda: stub.add(number, 1),
            "long": lambda: len(stub.long(number * 1000)),
            "refuse": stub.refuse,
        }

        def work() -> None:
            for _ in range(client.calls):
                try:
                    told.append(f"{number} {calls[client.procedure]()}")
                except lrpc.CallError as error:
                    told.append(f"{number} {type(error).__name__} {error} at {kernel.now_ns}")

        return work

    for number, client in enumerate(clients):
        stub = bind(home, Desk, "desk", client.transfer)
        thread = kernel.spawn(home, body(number, client, stub), f"c{number}", at_ns=client.begins_us * 1000)

        def release(thread: object = thread) -> None:
            try:
                home.abort(thread)  # type: ignore[arg-type]
            except lrpc.CallError:
                told.append("no call to release from")

        kernel.spawn(home, release, f"r{number}", at_ns=client.released_us * 1000)
    kernel.spawn(server, server.terminate, "end", at_ns=ends_us * 1000)
    kernel.run(FOREVER)
    assert_sound(kernel)
    assert_nothing_left(kernel)
    clocks = [processor.clock for processor in kernel.processors]
    return Outcome(sink.getvalue(), kernel.charges.counts(), kernel.counts, clocks, desk.order, told)


CLIENTS = st.builds(
    Client,
    begins_us=st.integers(0, 300),
    procedure=st.sampled_from(["null", "add", "long", "refuse"]),
    calls=st.integers(1, 4),
    released_us=st.integers(0, 900),
    transfer=st.sampled_from(["lrpc", "lrpc", "message passing"]),
)


@given(
    clients=st.lists(CLIENTS, min_size=1, max_size=6),
    processors=st.integers(1, 4),
    costs=st.sampled_from([FIREFLY, NO_BUS]),
    caching=st.booleans(),
    quantum=st.sampled_from([None, 100.0]),
    ends_us=st.integers(0, 2000),
)
def test_a_leaf_changes_nothing_that_a_run_shows(
    clients: list[Client], processors: int, costs: object, caching: bool, quantum: float | None, ends_us: int
) -> None:
    shared = {"costs": costs, "processors": processors, "domain_caching": caching, "quantum_us": quantum}
    assert run(LeafDesk(), clients, ends_us, **shared) == run(DeskServer(), clients, ends_us, **shared)


@pytest.mark.parametrize(("desk", "same"), [(LeafDesk(), True), (DeskServer(), False)])
def test_a_leaf_runs_on_its_callers_stack(desk: DeskServer, same: bool) -> None:
    machine = lrpc.Machine(cost_model=NO_BUS)
    machine.domain("server").export(Desk, desk, "desk")
    client = machine.domain("client")
    stub = lrpc.bind(client, Desk, "desk")
    own: list[object] = []

    def body() -> None:
        own.append(getcurrent())
        stub.null()

    client.spawn(body)
    machine.run()
    assert (desk.stacks == own) is same


class Enter(lrpc.Interface):
    def enter(self) -> None: ...


class EnterServer(Enter):
    """Does what it was made with, hides what comes of it, and is declared a leaf."""

    domain: lrpc.Domain

    def __init__(self, what: Callable[["EnterServer"], object]) -> None:
        self.what = what

    @lrpc.leaf
    def enter(self) -> None:
        with suppress(BaseException):
            self.what(self)


ENTRIES: dict[str, Callable[[EnterServer], object]] = {
    "computes": lambda server: server.domain.compute(us=1),
    "sleeps": lambda server: server.domain.sleep(us=1),
    "traps": lambda server: server.domain.system_call(us=1),
    "starts a thread": lambda server: server.domain.spawn(lambda: None),
    "binds": lambda server: server.domain.bind(Desk, "desk"),
    "exports": lambda server: server.domain.export(Desk, DeskServer(), "another"),
    "terminates": lambda server: simulated(server.domain).terminate(),
    "revokes": lambda server: simulated(server.domain).revoke("client", "enter", "no more"),
    "calls": lambda server: vars(server)["desk"].null(),
}


@pytest.mark.parametrize("transfer", ["lrpc", "message passing", "within"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_leaf_that_enters_the_kernel_fails_the_run(entry: str, transfer: str) -> None:
    machine = lrpc.Machine(cost_model=NO_BUS)
    server, client = machine.domain("server"), machine.domain("client")
    enters = EnterServer(ENTRIES[entry])
    machine.domain("other").export(Desk, DeskServer(), "desk")
    server.export(Enter, enters, "enter")
    vars(enters)["desk"] = server.bind(Desk, "desk")
    caller = server if transfer == "within" else client
    stub = caller.bind(Enter, "enter", "message passing" if transfer == "message passing" else "lrpc")

    def body() -> None:
        with suppress(BaseException):
            stub.enter()

    caller.spawn(body, "caller")
    with pytest.raises(lrpc.RunFailed, match=r"enter is declared a leaf, but enters the kernel; take the") as failure:
        machine.run()
    assert "test_leaves.py" in failure.value.raised_at.places


class HastyLedger(LedgerServer):
    """Computes in a procedure that is declared a leaf."""

    @lrpc.leaf
    def post(self, amount: int) -> int:
        return super().post(amount)


def test_a_leaf_called_from_another_machine_fails_the_run_too() -> None:
    registry = Registry({"ledger": HastyLedger}, {"teller": Teller})
    tables = validate(ClusterTable, pair("teller", "drawer", ledgers="drawer"), "tables")
    with pytest.raises(lrpc.RunFailed, match=r"machine server, .*: post is declared a leaf, but enters the kernel"):
        in_memory(describe(tables, registry, "tables"))


def test_a_leaf_may_read_the_time() -> None:
    machine = lrpc.Machine(cost_model=NO_BUS)
    server, client = machine.domain("server"), machine.domain("client")
    times: list[float] = []
    server.export(Enter, EnterServer(lambda own: times.append(own.domain.now_us)), "enter")
    stub = client.bind(Enter, "enter")
    client.spawn(stub.enter)
    machine.run()
    assert 0 < times[0] < machine.now_us


def test_a_leaf_is_declared_on_the_servers_method_not_in_the_interface() -> None:
    with pytest.raises(lrpc.InterfaceRefused, match=r"Wrong.go: a leaf; that is for the server's method"):

        class Wrong(lrpc.Interface):
            @lrpc.leaf
            def go(self) -> None: ...
