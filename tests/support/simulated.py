"""A simulated machine, the interface that most tests call on it, and checks after all calls."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Bytes200, Int32
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.simulated.bindings import Binding
from lrpc.kernel.simulated.costs import STEPS, CostModel, cost_model, load_cost_model
from lrpc.kernel.simulated.disciplines import TRANSFER_STEPS, MessagePassing
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.states import ASTACK_FREE

FIREFLY = load_cost_model("cvax-firefly")
NO_BUS = replace(FIREFLY, file=FIREFLY.file.model_copy(update={"bus": None}))  # processors that share nothing
BIG = bytes(range(200))
TRANSFERS: tuple[Transfer, ...] = ("lrpc", "message passing")


class FourTests(Interface):
    """Table IV's procedures."""

    def null(self) -> None: ...

    def add(self, a: Int32, b: Int32) -> Int32:
        raise NotImplementedError

    def big_in(self, data: Bytes200) -> None: ...

    def big_in_out(self, data: Bytes200) -> Bytes200:
        raise NotImplementedError


class FourTestsServer(FourTests):
    """Does as little as each procedure can; `before` runs first in each Null."""

    domain: ProtectionDomain

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self.before = before

    def null(self) -> None:
        if self.before is not None:
            self.before()

    def add(self, a: int, b: int) -> int:
        return a + b

    def big_in(self, data: bytes) -> None:
        assert data == BIG

    def big_in_out(self, data: bytes) -> bytes:
        return data[::-1]


def costs_of(
    us: int = 1,
    but: Mapping[str, int] | None = None,
    *,
    tagged: bool = False,
    pages: tuple[int, int] = (2, 1),
    lacks: Sequence[str] = (),
) -> CostModel:
    """Return a cost model in which every step costs `us` microseconds, except those in `but`.

    It has no step that it `lacks`.
    """
    each = dict.fromkeys((step for step in STEPS if step not in lacks), us) | dict(but or {})
    named = {step: {"us": float(cost), "origin": "assumed", "source": "a test"} for step, cost in each.items()}
    on_call, on_return = ({"kernel": 0, "domain": count} for count in pages)
    tlb = {"tagged": tagged, "on_call": on_call, "on_return": on_return, "source": "a test"}
    assumed = {"origin": "assumed", "source": "a test"}
    locked, buffers = {"steps": list(TRANSFER_STEPS), **assumed}, {"count": 256, **assumed}
    passing = {"discipline": "shared buffers", "locked": locked, "buffers": buffers, **assumed}
    again = {"us": 2000.0, "backoff": 1, "tries": 40, "origin": "assumed", "source": "a test"}
    tables = {"name": "test", "description": "", "tlb": tlb, "message_passing": passing, "steps": named}
    tables["retransmission"] = again
    return cost_model(tables, "test")


def with_passing(costs: CostModel, change: Callable[[MessagePassing], MessagePassing]) -> CostModel:
    """Return a cost model whose messages travel in another way."""
    passing = costs.file.message_passing
    assert passing is not None
    return replace(costs, file=costs.file.model_copy(update={"message_passing": change(passing)}))


def with_buffers(costs: CostModel, count: int) -> CostModel:
    """Return a cost model with so many message buffers for each server."""
    return with_passing(
        costs, lambda one: one.model_copy(update={"buffers": one.buffers.model_copy(update={"count": count})})
    )


def with_locked(costs: CostModel, steps: Sequence[str]) -> CostModel:
    """Return a cost model with a lock over these steps of a message's transfer."""
    return with_passing(
        costs, lambda one: one.model_copy(update={"locked": one.locked.model_copy(update={"steps": tuple(steps)})})
    )


@dataclass
class Machine:
    """A machine with a server that exports `FourTests` as "tests", and a client."""

    kernel: Kernel
    server: ProtectionDomain
    client: ProtectionDomain

    def run(self, *bodies: Callable[[], None]) -> None:
        """Run each body as a thread of the client's, until nothing more happens."""
        for body in bodies:
            self.client.spawn(body)
        self.kernel.run(FOREVER)

    def tests(self, transfer: Transfer = "lrpc") -> FourTests:
        """Return a new binding of the client to the server."""
        return bind(self.client, FourTests, "tests", transfer)

    def binding(self) -> Binding:
        """Return a new binding, as the kernel's record of it."""
        return self.kernel.bind(self.client, "tests")


def machine(
    costs: CostModel = FIREFLY,
    *,
    processors: int = 1,
    seed: int = 0,
    before: Callable[[], None] | None = None,
    sink: BytesIO | None = None,
) -> Machine:
    """Return a new machine in debug mode whose server does `before` in each Null."""
    kernel = Kernel("m", costs, processors=processors, seed=seed, debug=True, sink=sink)
    made = Machine(kernel, kernel.domain("server"), kernel.domain("client"))
    Clerk().export(made.server, FourTests, FourTestsServer(before), "tests")
    return made


def assert_nothing_held(kernel: Kernel) -> None:
    """Check that no call, linkage, A-stack or thread is left over."""
    assert kernel.calls_in_progress() == 0
    for binding in kernel.bindings.values():
        for group in binding.pools:
            assert group.free_count == len(group.members), group.waiting.what
            assert all(astack.state == ASTACK_FREE for astack in group.members), group.waiting.what
    assert [str(thread) for thread in kernel.waiting()] == []
    assert all(thread.serves for thread in kernel.threads)


def events(sink: BytesIO) -> list[tuple[int, int, int, int]]:
    """Return the events of a log: time in ns, kind, subject and object of each."""
    return list(struct.iter_unpack("<4q", sink.getvalue()))


def charged(kernel: Kernel, work: Callable[[], object]) -> tuple[int, list[int]]:
    """Return the time of `work` in the running thread, in ns, and the charges of each step."""
    since, before = kernel.now_ns, kernel.charges.counts()
    work()
    return kernel.now_ns - since, [now - then for now, then in zip(kernel.charges.counts(), before, strict=True)]


def calls(tests: FourTests) -> Sequence[tuple[str, Callable[[], object]]]:
    """Return one call of each of the four tests, under its name in Table IV."""
    return (
        ("Null", lambda: tests.null()),
        ("Add", lambda: tests.add(2, 3)),
        ("BigIn", lambda: tests.big_in(BIG)),
        ("BigInOut", lambda: tests.big_in_out(BIG)),
    )
