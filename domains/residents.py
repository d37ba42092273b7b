"""What lives in a domain: servers, whose procedures are called, and programs, whose threads call them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

from pydantic import Field

from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface

Findings = Mapping[str, object]  # what JSON can hold
# Types of parameters. The parameter's name says the unit.
Duration = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class Server:
    """Base of servers that a description may name. Its parameters are the fields of a dataclass.

    A server also derives from the interface it implements, or says in `module` what does. It is given `domain` when
    it is exported.

    One that is `independent` promises that no call of it waits for what another call does, or is ended by that: then
    machines that call it need not wait for each other as often. A broken promise ends a run with a panic.
    """

    independent: ClassVar[bool] = False
    domain: Domain

    @property
    def imports(self) -> Collection[str]:
        """Return the imports that it needs, by the names that its domain's description gives them."""
        return ()

    def module(self) -> tuple[type[Interface], object]:
        """Return what is exported: its interface and the object that implements it."""
        return cast(type[Interface], type(self)), self  # where it derives from none, the clerk says so

    @property
    def planned_calls(self) -> int:
        """Return about how many calls threads of its own will make, for progress; most servers have none."""
        return 0

    def start(self) -> None:
        """Bind what the server itself imports; every export of this machine is there by now."""

    def findings(self) -> Findings:
        """Return what the server has counted, for the record."""
        return {}


class Program:
    """Base of programs that a description may name. Its parameters are the fields of a dataclass."""

    @property
    def imports(self) -> Collection[str]:
        """Return the imports that it needs, by the names that its domain's description gives them."""
        return ()

    def run(self, domain: Domain) -> None:
        """Be the body of one thread of `domain`."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    @property
    def planned_calls(self) -> int:
        """Return about how many calls one thread will make, for progress; 0 where that is not known."""
        return 0

    def findings(self) -> Findings:
        """Return what the program has measured, for the record."""
        return {}


@dataclass(frozen=True)
class Registry:
    """The servers and programs that descriptions may name."""

    servers: Mapping[str, type[Server]]
    programs: Mapping[str, type[Program]]
