"""Taos: one large domain that users' programs reach by RPC, with file servers on other machines."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import new_class
from typing import Annotated, Final, Literal, cast

from pydantic import Field

from lrpc.domains.codecs import UInt32, UpTo
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Duration, Findings, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.errors import Refused
from lrpc.kernel.random import zipf_bounds
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.environment import (
    LINE,
    Environment,
    TaosCalls,
    TaosOperations,
    TrappedEnvironment,
    kept_on_disk,
)
from lrpc.workloads.systems.people import LibraryTable, Number, ProcessTable, owner_of, start_processes, tasks_done
from lrpc.workloads.systems.storage import LARGEST_BLOCK, Storage, StoredBlock

# How an operation reaches the system: by a trap into the kernel, or across a domain boundary by
# message passing (SRC RPC) or LRPC.
Structure = Literal["traps", "message passing", "lrpc"]


class Taos(Interface):
    """The procedures of Taos that users' programs call by a name of their own.

    They are those of `environment.Environment` without `paint`, which stands for many procedures.
    `whole_interface` has these too.
    """

    def next_event(self) -> UInt32:
        """Return the number of the user's next event."""

    def execute(self, program: UInt32) -> UInt32:
        """Create a domain and load a program into it."""

    def status(self, file: UInt32) -> UInt32:
        """Return a file's version."""

    def open(self, file: UInt32) -> UInt32:
        """Look up a file; return its version."""

    def create(self, file: UInt32) -> UInt32:
        """Create an empty file, or truncate an existing one; return its version."""

    def read(self, file: UInt32, block: UInt32) -> StoredBlock:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: StoredBlock) -> None:
        """Replace a block."""

    def close(self, file: UInt32) -> None:
        """Close a file."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file; return the version that another file of its name would have."""


class Drawing(Interface):
    """What the procedures that draw look like."""

    def draw(self, window: UInt32, text: Annotated[bytes, UpTo(len(LINE))]) -> None:
        """Draw a line of text, or something of that size."""


# The weight of the procedure that draws most, in `choose`.
_MOST_DRAWN: Final = 1 << 28


def whole_interface(drawing: int) -> type[Interface]:
    """Return the interface of Taos with that many procedures that draw."""
    (draw,) = Drawing.procedures
    drawn = [replace(draw, name=f"draw_{number}") for number in range(drawing)]
    space = {"procedures": (*Taos.procedures, *drawn), "__doc__": Taos.__doc__}
    made: type[Interface] = new_class("Taos", (Interface,), exec_body=lambda body: body.update(space))
    return made


class TaosProcedures:
    """The implementation of `whole_interface`: every procedure is one of an environment's."""

    def __init__(self, interface: type[Interface], environment: Environment) -> None:
        own = {procedure.name for procedure in Taos.procedures}
        for one in interface.procedures:
            vars(self)[one.name] = getattr(environment, one.name) if one.name in own else environment.paint


@dataclass
class TaosSystem(Server):
    """One machine's Taos, which imports its file server as `files`.

    It starts users' programs in the domain named by `users`. With `structure` "traps", the
    operations are the kernel's own instead, and the programs run in this domain. The drive holds
    the system with its paging space (`paging_kb`), and `files_kb` of the user's files (see
    `environment.kept_on_disk`).
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    structure: Structure
    drive_kb: Number
    paging_kb: Number
    files_kb: Number
    drawing: Annotated[int, Field(ge=1, le=1000)] = 1  # procedures that draw
    # The n-th of these is called 1 / n ** unevenness as often as the first.
    unevenness: Annotated[float, Field(ge=0, le=3, allow_inf_nan=False)] = 1.0
    # The buffer of a stream: the bytes that one call reads or writes.
    buffer_bytes: Annotated[int, Field(ge=1, le=LARGEST_BLOCK)] = 4096
    event_us: Duration = 100.0
    paint_us: Duration = 300.0
    file_us: Duration = 200.0
    execute_us: Duration = 20_000.0
    disk_us: Duration = 25_000.0
    users: str = "user"

    def __post_init__(self) -> None:
        """Refuse a system and files that do not fit on the drive."""
        taken = self.paging_kb + self.files_kb
        if taken > self.drive_kb:
            raise Refused(f"drive_kb: {self.drive_kb}: system and files take {taken}; give it more, or them less")

    @property
    def imports(self) -> tuple[str, ...]:
        """Return the name under which the file server is imported."""
        return ("files",)

    @property
    def planned_calls(self) -> int:
        """Return about how many operations users' programs make."""
        return sum(process.planned(self.library, self.buffer_bytes) for process in self.processes.values())

    def module(self) -> tuple[type[Interface], object]:
        """Return the interface of Taos and the environment that implements it."""
        kernel = simulated(self.domain).kernel
        library = self.library.library(kernel.seed, owner_of(self.domain), self.buffer_bytes)
        self._environment = Environment(
            kernel,
            library,
            kept_on_disk(library, self.files_kb * 1024 // self.buffer_bytes),
            buffer_bytes=self.buffer_bytes,
            event_ns=round(self.event_us * 1000),
            paint_ns=round(self.paint_us * 1000),
            file_ns=round(self.file_us * 1000),
            execute_ns=round(self.execute_us * 1000),
            disk_ns=round(self.disk_us * 1000),
        )
        self._interface = whole_interface(self.drawing)
        return self._interface, TaosProcedures(self._interface, self._environment)

    def start(self) -> None:
        """Bind the file server, then start users' programs."""
        domain = simulated(self.domain)
        kernel = domain.kernel
        people = simulated(kernel.domain(self.users))
        self._environment.server = domain.bind(Storage, "files")
        trapped = TrappedEnvironment(self._environment)
        taos: TaosOperations = trapped
        draws: list[Callable[[int, bytes], object]] = [trapped.paint] * self.drawing
        if self.structure != "traps":
            domain = people
            bound = domain.bind(self._interface, "taos", self.structure)
            taos = cast(TaosOperations, bound)
            draws = [getattr(bound, f"draw_{number}") for number in range(self.drawing)]
        bounds = zipf_bounds(self.drawing, self.unevenness, _MOST_DRAWN)
        calls = TaosCalls(kernel, taos, draws, bounds, Dice(people.random("what is drawn")), self.buffer_bytes)
        self._processes = start_processes(self.processes, self.library, domain, calls, self.buffer_bytes, people=people)

    def findings(self) -> Findings:
        """Return the counts of local and remote file operations, and of the tasks performed."""
        environment = self._environment
        return {"local": environment.local, "remote": environment.remote, "tasks": tasks_done(self._processes)}
