"""A program whose calls are written in the scenario: which procedures, arguments, counts and pace.

It lets a scenario make calls without a program written for it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Program
from lrpc.domains.servers import Files, Names, Windows
from lrpc.domains.simulated.stubs import repeat
from lrpc.kernel.documents import Document
from lrpc.kernel.errors import ArgumentError
from lrpc.workloads.programs.four_tests import FourTests

INTERFACES: Final[dict[str, type[Interface]]] = {one.__name__: one for one in (Files, FourTests, Names, Windows)}


class Zeros(Document):
    """An argument of `bytes` zero bytes, for procedures whose argument values do not matter."""

    bytes: int = Field(ge=0, le=1 << 20)


class CallTable(Document):
    """Calls of one procedure, repeated `times` times.

    `to` is the name of the import. Each of `arguments` is a whole number, text or `{ bytes = 200
    }`.
    """

    to: str
    interface: str
    procedure: str
    arguments: list[int | str | Zeros] = Field(default=[])
    times: int = Field(default=1, ge=1, le=10**9)

    @model_validator(mode="after")
    def _check_procedure_and_arguments(self) -> "CallTable":
        if self.interface not in INTERFACES:
            raise ValueError(f"interface {self.interface}: unknown; known are {', '.join(INTERFACES)}")
        procedures = {one.name: one for one in INTERFACES[self.interface].procedures}
        if self.procedure not in procedures:
            raise ValueError(f"procedure {self.procedure}: {self.interface} has {', '.join(procedures)}")
        try:
            procedures[self.procedure].arguments.pack(self.values)
        except ArgumentError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def values(self) -> tuple[object, ...]:
        """Return the arguments as Python values that the procedure accepts."""
        return tuple(bytes(one.bytes) if isinstance(one, Zeros) else one for one in self.arguments)


@dataclass
class Caller(Program):
    """A program that makes all its calls in order, once in each round.

    Before each call it waits for an exponential time with mean `every_us`, in microseconds.
    """

    calls: list[CallTable]
    rounds: Annotated[int, Field(ge=1, le=10**9)] = 1
    every_us: Annotated[int, Field(ge=0, le=10**9)] = 0
    transfer: Literal["lrpc", "message passing"] = "lrpc"

    @property
    def imports(self) -> Collection[str]:
        """Return the names of the imports that it calls."""
        return {call.to for call in self.calls}

    def run(self, domain: Domain) -> None:
        """Bind every import, then make the calls of all rounds."""
        chance = domain.random("caller")
        bound = {call.to: domain.bind(INTERFACES[call.interface], call.to, self.transfer) for call in self.calls}
        for _ in range(self.rounds):
            for call in self.calls:
                procedure, values = getattr(bound[call.to], call.procedure), call.values
                if not self.every_us:
                    repeat(procedure, values, call.times)
                    continue
                for _ in range(call.times):
                    domain.sleep(us=chance.exponential(self.every_us))
                    procedure(*values)

    @property
    def planned_calls(self) -> int:
        """Return the number of calls in all rounds."""
        return self.rounds * sum(call.times for call in self.calls)
