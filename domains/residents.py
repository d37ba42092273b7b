"""Base classes of what runs in a domain: servers, and programs, whose threads call servers.

Derive from them to use your own code in the description of a cluster. A `Registry` gives each class
the name by which descriptions refer to it. A class takes its parameters as the fields of a
dataclass, and each value in a description is checked against the field's type before the run
begins.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

from pydantic import Field

from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface

# Results by name; the values are such as JSON can hold.
Findings = Mapping[str, object]
# Types for parameters of servers and programs. The name of a duration ends in its unit: `think_us`.
Duration = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class Server:
    """Base class of servers that a description may name: a dataclass of its parameters.

        @dataclass
        class AdderServer(Server, Adder):
            add_us: Duration = 5.0

            def add(self, a: int, b: int) -> int:
                self.domain.compute(us=self.add_us)
                return a + b

    A server also derives from the interface that it implements, or returns from `module` the object
    that does. `domain` is set when the server is exported.

    A server that sets `independent` promises that none of its calls waits for another of its calls,
    or is ended by one. The machines that call it then need to be synchronised less often. A broken
    promise ends the run with a panic.
    """

    independent: ClassVar[bool] = False
    domain: Domain

    @property
    def imports(self) -> Collection[str]:
        """Return the aliases of the imports that the server binds.

        The description of its domain must define each of them.
        """
        return ()

    def module(self) -> tuple[type[Interface], object]:
        """Return the interface to export and the object that implements it: this server."""
        # The clerk refuses to export a server for which the cast is wrong: one without interface.
        return cast(type[Interface], type(self)), self

    @property
    def planned_calls(self) -> int:
        """Return about how many calls the server's own threads will make; 0 where it has none.

        The progress display adds up these numbers.
        """
        return 0

    def start(self) -> None:
        """Bind the server's own imports.

        Called once, after all exports of this machine have been registered and before its programs'
        threads start.
        """

    def findings(self) -> Findings:
        """Return what the server has counted, by name, for the run's record."""
        return {}


class Program:
    """Base class of programs that a description may name: a dataclass of its parameters.

        @dataclass
        class AddOnce(Program):
            def run(self, domain: Domain) -> None:
                adder = domain.bind(Adder, "adder")
                adder.add(1, 2)

    Each thread of a description runs an instance of its own.
    """

    @property
    def imports(self) -> Collection[str]:
        """Return the aliases of the imports that the program binds.

        The description of its domain must define each of them.
        """
        return ()

    def run(self, domain: Domain) -> None:
        """Run the body of one thread of `domain`; subclasses implement this."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    @property
    def planned_calls(self) -> int:
        """Return about how many calls one thread will make; 0 where that is not known.

        The progress display adds up these numbers.
        """
        return 0

    def findings(self) -> Findings:
        """Return what the program has measured, by name, for the run's record."""
        return {}


@dataclass(frozen=True)
class Registry:
    """The servers and programs that descriptions may name, by these names."""

    servers: Mapping[str, type[Server]]
    programs: Mapping[str, type[Program]]
