"""Taos: users' programs, one large domain that they reach by RPC, and file servers on other machines."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from lrpc.domains.codecs import UInt32, UpTo
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Duration, Findings, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.errors import Refused
from lrpc.workloads.systems.environment import LINE, Environment, TaosCalls, TaosService, Trapped, kept_on_disk
from lrpc.workloads.systems.people import LibraryTable, Number, ProcessTable, done, owner_of, start
from lrpc.workloads.systems.storage import LARGEST_BLOCK, Storage, StoredBlock

# What an operation crosses on its way to the system: nothing but a trap, or a boundary between domains.
Structure = Literal["traps", "message passing", "lrpc"]


class Taos(Interface):
    """The procedures of Taos that users' programs call: see `environment.TaosService`."""

    def next_event(self) -> UInt32:
        """Return the number of what the user did next."""

    def paint(self, window: UInt32, text: Annotated[bytes, UpTo(len(LINE))]) -> None:
        """Draw a line."""

    def execute(self, program: UInt32) -> UInt32:
        """Make a domain and load a program into it."""

    def status(self, file: UInt32) -> UInt32:
        """Return a file's version."""

    def open(self, file: UInt32) -> UInt32:
        """Look a file up; return its version."""

    def create(self, file: UInt32) -> UInt32:
        """Make a file, or make it empty; return its version."""

    def read(self, file: UInt32, block: UInt32) -> StoredBlock:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: StoredBlock) -> None:
        """Replace a block."""

    def close(self, file: UInt32) -> None:
        """Forget that a file is open."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file; return the version that another of its name would have."""


@dataclass
class TaosSystem(Server):
    """One machine's Taos. It imports its file server as `files`, and starts users' programs in the domain `users`.

    With `structure` "traps" the same operations are a kernel's, and programs run where the system does. The drive holds
    the system with its paging space, and `files_kb` of the user's files; see `environment.kept_on_disk`.
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    structure: Structure
    drive_kb: Number
    paging_kb: Number
    files_kb: Number
    buffer_bytes: Annotated[int, Field(ge=1, le=LARGEST_BLOCK)] = 4096  # of a stream: what one call reads or writes
    event_us: Duration = 100.0
    paint_us: Duration = 300.0
    file_us: Duration = 200.0
    execute_us: Duration = 20_000.0
    disk_us: Duration = 25_000.0
    users: str = "user"

    def __post_init__(self) -> None:
        """Refuse files that the drive cannot hold."""
        taken = self.paging_kb + self.files_kb
        if taken > self.drive_kb:
            raise Refused(f"drive_kb: {self.drive_kb}: system and files take {taken}; give it more, or them less")

    @property
    def imports(self) -> tuple[str, ...]:
        """Return the file server."""
        return ("files",)

    @property
    def planned_calls(self) -> int:
        """Return about how many operations users' programs do."""
        return sum(process.planned(self.library, self.buffer_bytes) for process in self.processes.values())

    def module(self) -> tuple[type[Interface], object]:
        """Return Taos' procedures."""
        kernel = simulated(self.domain).kernel
        self._library = self.library.library(kernel.seed, owner_of(self.domain), self.buffer_bytes)
        self._environment = Environment(
            kernel,
            self._library,
            kept_on_disk(self._library, self.files_kb * 1024 // self.buffer_bytes),
            buffer_bytes=self.buffer_bytes,
            event_ns=round(self.event_us * 1000),
            paint_ns=round(self.paint_us * 1000),
            file_ns=round(self.file_us * 1000),
            execute_ns=round(self.execute_us * 1000),
            disk_ns=round(self.disk_us * 1000),
        )
        return Taos, self._environment

    def start(self) -> None:
        """Bind the file server, and start users' programs."""
        domain = simulated(self.domain)
        kernel = domain.kernel
        people = simulated(kernel.domain(self.users))
        self._environment.server = domain.bind(Storage, "files")
        taos: TaosService = Trapped(self._environment)
        if self.structure != "traps":
            domain = people
            taos = domain.bind(Taos, "taos", self.structure)
        calls = TaosCalls(kernel, taos, self.buffer_bytes)
        self._processes = start(self.processes, self._library, domain, calls, self.buffer_bytes, people=people)

    def findings(self) -> Findings:
        """Return how many operations on files were local and remote, and what processes did."""
        environment = self._environment
        return {"local": environment.local, "remote": environment.remote, "tasks": done(self._processes)}
