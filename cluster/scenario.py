"""The tables of a scenario's TOML file: what keys each has, and what types and bounds their values.

pydantic checks each table by itself; `description` checks what concerns several tables.

A small file can describe a great deal. So what preparing it will cost is counted from its tables
(`parts`), and refused above a limit (`check_parts`), before any of it is made.
"""

from collections import defaultdict
from typing import Final, Literal

from pydantic import Field, model_validator

from lrpc.kernel.descriptors import Convention
from lrpc.kernel.documents import Document, name_list
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.disciplines import Discipline
from lrpc.kernel.simulated.kernel import LEAST_QUANTUM_US, MOST_NESTED_CALLS, MOST_QUANTUM_US, NESTED_CALLS

LEAST_MBPS: Final = 0.001  # at less, a byte takes longer than any run
MOST_MACHINES: Final = 100_000
# Preparing so many takes 3 s and 200 MiB. 10,000 workstations of the scenario office are 140,000.
MOST_PARTS: Final = 500_000
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@{}-]*$"


class MachineTable(Document):
    """A machine, or `count` equal machines, whose names then end in numbers."""

    processors: int = Field(default=1, ge=1, le=1024)
    cost_model: str = "cvax-firefly"
    count: int = Field(default=1, ge=1, le=MOST_MACHINES)
    domain_caching: bool = False  # idle processors spin in domain contexts
    most_nested: int = Field(default=NESTED_CALLS, ge=1, le=MOST_NESTED_CALLS)  # a thread's calls in progress
    # How long a thread has a processor while others are ready; None for until it waits.
    quantum_us: float | None = Field(default=None, ge=LEAST_QUANTUM_US, le=MOST_QUANTUM_US, allow_inf_nan=False)
    # The discipline says which copies messages make. None leaves either to the cost model.
    discipline: Discipline | None = None
    tagged_tlb: bool | None = None


class ExportTable(Document):
    """A server that a domain exports, and the server's parameters."""

    server: str
    parameters: dict[str, object] = Field(default={})


class ThreadTable(Document):
    """A program that `count` threads of a domain run, and the program's parameters."""

    program: str
    count: int = Field(default=1, ge=1, le=100_000)
    parameters: dict[str, object] = Field(default={})


class DomainTable(Document):
    """A protection domain on a machine.

    Where `machine` stands for several equal machines, each of them has such a domain.
    """

    machine: str
    convention: Convention = "argument pointer"  # where its procedures find their arguments
    exports: dict[str, ExportTable] = Field(default={})  # by the name under which others import it
    imports: dict[str, str] = Field(default={})  # from the alias in its code to the export's name
    threads: tuple[ThreadTable, ...] = Field(default=(), strict=False)


class LinkTable(Document):
    """A link: the time that a message spends on it, and the share of packets that it loses.

    The processors' work on a message is not part of that time; cost models have it.
    """

    delay_us: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    bandwidth_mbps: float = Field(default=10.0, ge=LEAST_MBPS, le=1e9, allow_inf_nan=False)
    loss: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)


class PairTable(LinkTable):
    """The link between two machines whose link differs from all others."""

    between: tuple[str, str] = Field(strict=False)


class LinksTable(LinkTable):
    """The links of a cluster: one kind for all machines, except the pairs that have their own.

    With the medium "ethernet", all machines but these pairs share one wire. A packet occupies the
    wire for the delay and the time of its bytes. One end of every message on the wire must be the
    machine `hub`.
    """

    medium: Literal["point to point", "ethernet"] = "point to point"
    hub: str | None = None
    pairs: tuple[PairTable, ...] = Field(default=(), strict=False)


class ClusterTable(Document):
    """A whole cluster: the top level of a description."""

    name: str = Field(pattern=NAME)
    description: str = ""
    row: str = ""  # of Table I; by default the name
    machines: dict[str, MachineTable] = Field(min_length=1)
    domains: dict[str, DomainTable] = Field(min_length=1)
    links: LinksTable = LinksTable(delay_us=60.0)

    @model_validator(mode="after")
    def _every_domain_is_on_a_machine(self) -> "ClusterTable":
        for name, domain in self.domains.items():
            if domain.machine not in self.machines:
                known = name_list(list(self.machines))
                raise ValueError(f"domains.{name}.machine: no machine {domain.machine}; there are {known}")
        return self

    @property
    def parts(self) -> int:
        """Return how many things the description stands for, with its counts multiplied out.

        These are machines, processors, domains, exports, imports, threads and links. A name counts
        as one more for each 100 letters.
        """
        on: defaultdict[str, int] = defaultdict(int)
        for domain in self.domains.values():
            names = sum(_length(name, domain.machine) for name in (*domain.exports, *domain.imports.values()))
            threads = sum(thread.count for thread in domain.threads)
            on[domain.machine] += 1 + len(domain.exports) + len(domain.imports) + threads + names // 100
        machines = sum(
            one.count * (1 + one.processors + len(key) // 100 + on[key]) for key, one in self.machines.items()
        )
        return machines + len(self.links.pairs)


def check_parts(parts: int, most: int, document: str) -> None:
    """Raise `Refused`, naming `document`, if it describes more than `most` parts."""
    if parts > most:
        raise Refused(
            f"{document}: describes {parts:,} machines, processors, domains, exports, imports and threads in sum; at "
            f"most {most:,} are prepared; describe fewer, or add --limit {parts}"
        )


def _length(name: str, machine: str) -> int:
    """Return the length of a name after `{machine}` in it has been replaced."""
    return len(name) + name.count("{machine}") * len(machine)
