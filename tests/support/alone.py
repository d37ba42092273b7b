"""Protection domains without any kernel: the least that servers, programs and clerks need.

Calls pass through the kernel-neutral half of the stubs (packed arguments in, packed results out),
in the caller's own Python thread. Time is a counter that `compute` and `sleep` move on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Exhausted, I, Policy, Transfer
from lrpc.domains.interface import Interface, Procedure
from lrpc.domains.stubs import in_order, pack, refer
from lrpc.kernel.descriptors import Authoriser, Convention, ImportRequest, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused
from lrpc.kernel.random import Stream


@dataclass
class World:
    """The state that domains without a kernel share: the time, and the exports."""

    now_ns: int = 0
    exports: dict[str, tuple[str, tuple[ProcedureDescriptor, ...], Authoriser]] = field(default_factory=dict)


class Finished:
    """A thread that ran to its end when it was spawned."""

    def join(self) -> None:
        """Return at once."""


class DomainAlone:
    """A protection domain without a kernel."""

    convention: Convention = "argument pointer"

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.system_calls = 0

    @property
    def now_ns(self) -> int:
        return self.world.now_ns

    @property
    def now_us(self) -> float:
        return self.world.now_ns / 1000

    def bind(self, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait") -> I:
        if name not in self.world.exports:
            raise BindingRefused(f"import {name}: nobody exports it")
        found, descriptors, clerk = self.world.exports[name]
        if found != interface.interface.__name__:
            raise BindingRefused(f"import {name}: it is a {found}")
        reason = clerk.authorise(ImportRequest(self.name, "", name))
        if reason is not None:
            raise BindingRefused(f"import {name}: {reason}")
        made = interface.__new__(interface)
        for procedure, descriptor in zip(interface.procedures, descriptors, strict=True):
            vars(made)[procedure.name] = _caller(procedure, descriptor)
        return made

    def export(self, interface: type[Interface], server: object, name: str, policy: Policy | None = None) -> None:
        Clerk(policy).export(self, interface, server, name)

    def register(
        self,
        name: str,
        interface: str,
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        self.world.exports[name] = (interface, descriptors, clerk)

    def compute(self, us: float) -> None:
        self.world.now_ns += round(us * 1000)

    def sleep(self, us: float) -> None:
        self.world.now_ns += round(us * 1000)

    def system_call(self, us: float = 0.0) -> None:
        self.system_calls += 1
        self.world.now_ns += round(us * 1000)

    def spawn(self, body: Callable[[], None], name: str = "") -> Finished:
        body()
        return Finished()

    def random(self, purpose: str) -> Stream:
        return Stream(0, self.name, purpose)


def _caller(procedure: Procedure, descriptor: ProcedureDescriptor) -> Callable[..., object]:
    def call(*values: object, **named: object) -> object:
        arguments = in_order(procedure.arguments, values, named) if named else values
        data = descriptor.entry(pack(procedure.arguments, arguments), 0)
        results = refer(procedure.arguments, arguments, procedure.results.unpack(data, 0))
        return results[0] if procedure.single else results or None

    return call
