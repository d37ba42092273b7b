"""V: a workstation without a disk, on which all is a message to a server, in the kernel, beside it or far away."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from lrpc.domains.codecs import UInt32, UpTo
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Duration, Findings, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.errors import Refused
from lrpc.workloads.systems.files import LruCache
from lrpc.workloads.systems.pages import LINE, PageCache, VCalls
from lrpc.workloads.systems.people import LibraryTable, Number, ProcessTable, done, owner_of, start
from lrpc.workloads.systems.storage import LARGEST_BLOCK, Storage, StoredBlock

MESSAGES: Final[Transfer] = "message passing"
Bytes = Annotated[int, Field(ge=1, le=LARGEST_BLOCK)]


class Operations(Interface):
    """What a server in the kernel does, by number."""

    def operate(self, operation: UInt32) -> UInt32:
        """Do one of its operations."""


class Display(Interface):
    """The display server's procedures."""

    def next_event(self) -> UInt32:
        """Return the number of what the user did next."""

    def paint(self, window: UInt32, text: Annotated[bytes, UpTo(len(LINE))]) -> None:
        """Draw a line."""


class Programs(Interface):
    """The program manager's procedures."""

    def execute(self, program: UInt32) -> UInt32:
        """Begin to run a program."""


class Memory(Interface):
    """The memory server's procedures: see `pages.Pages`."""

    def fault(self, program: UInt32, page: UInt32) -> UInt32:
        """Have a page of a program in memory."""

    def status(self, file: UInt32) -> UInt32:
        """Know a file's attributes."""

    def open(self, file: UInt32) -> UInt32:
        """Know a file, by its name."""

    def create(self, file: UInt32) -> UInt32:
        """Make a file, or make it empty."""

    def read(self, file: UInt32, block: UInt32) -> StoredBlock:
        """Return a part of a block."""

    def write(self, file: UInt32, block: UInt32, data: StoredBlock) -> None:
        """Replace a part of a block."""

    def close(self, file: UInt32) -> None:
        """Be done with a file."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file."""


@dataclass
class KernelServer(Server, Operations):
    """One of the servers that V moved into its kernel: of processes, or of devices."""

    service_us: Duration = 100.0

    def operate(self, operation: int) -> int:
        """Spend what an operation takes."""
        self.domain.compute(us=self.service_us)
        return operation


@dataclass
class DisplayServer(Server, Display):
    """Draws, and hands on events, each of which it asks the device server for; imports that as `device`."""

    event_us: Duration = 100.0
    paint_us: Duration = 500.0

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("device",)

    def start(self) -> None:
        """Bind the device server."""
        self._device = self.domain.bind(Operations, "device", MESSAGES)

    def next_event(self) -> int:
        """Wait for the keyboard or the mouse."""
        self.domain.compute(us=self.event_us)
        return self._device.operate(0)

    def paint(self, window: int, text: bytes) -> None:
        """Draw into the frame buffer, which is mapped."""
        self.domain.compute(us=self.paint_us)


@dataclass
class MemoryServer(Server, Memory):
    """Keeps pages of files and programs in the memory that is left; imports the storage server as `storage`."""

    memory_kb: Annotated[int, Field(ge=1, le=10**9)]
    kernel_kb: Number
    data_kb: Number  # of programs
    names: Number
    lease_s: Duration
    write_delay_s: Duration = 0.0
    data_bytes: Bytes = 1024  # that one message reads
    service_us: Duration = 200.0

    def __post_init__(self) -> None:
        """Refuse what memory cannot hold."""
        taken = self.kernel_kb + self.data_kb
        if taken > self.memory_kb:
            raise Refused(f"memory_kb: {self.memory_kb}: kernel and data take {taken}; give it more, or them less")
        self._data = bytes(self.data_bytes)

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("storage",)

    def start(self) -> None:
        """Bind the storage server, and keep nothing yet."""
        free_kb = self.memory_kb - self.kernel_kb - self.data_kb
        self.cache = PageCache(
            simulated(self.domain).kernel,
            self.domain.bind(Storage, "storage"),
            names=self.names,
            pages=free_kb * 1024 // LARGEST_BLOCK,
            lease_ns=round(self.lease_s * 1e9),
            write_delay_ns=round(self.write_delay_s * 1e9),
        )

    def fault(self, program: int, page: int) -> int:
        """Fetch a page of a program."""
        self._begin()
        self.cache.fault(program, page)
        return page

    def status(self, file: int) -> int:
        """Know a file's attributes, under a lease or from the server."""
        return self._look_up(file)

    def open(self, file: int) -> int:
        """Know a file, likewise."""
        return self._look_up(file)

    def create(self, file: int) -> int:
        """Make a file."""
        self._begin()
        self.cache.create(file)
        return file

    def read(self, file: int, block: int) -> bytes:
        """Return a part of a block, which is then here."""
        self._begin()
        self.cache.read(file, block)
        return self._data

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a part of a block here; the server gets it when the file is closed."""
        self._begin()
        self.cache.write(file, block)

    def close(self, file: int) -> None:
        """Send what was written."""
        self._begin()
        self.cache.close(file)

    def remove(self, file: int) -> int:
        """Remove a file."""
        self._begin()
        self.cache.remove(file)
        return file

    def findings(self) -> Findings:
        """Return how the cache served."""
        cache = self.cache
        kept: dict[str, LruCache] = {"names": cache.names, "blocks": cache.blocks}
        return {
            **{f"{name}_{what}": getattr(one, what) for name, one in kept.items() for what in ("hits", "misses")},
            "attributes_asked": cache.attributes_asked,
            "attributes_believed": cache.attributes_believed,
            "blocks_written": cache.blocks_written,
            "blocks_dropped": cache.blocks_dropped,
            "faults": cache.faults,
        }

    def _look_up(self, file: int) -> int:
        self._begin()
        self.cache.look_up(file)
        return file

    def _begin(self) -> None:
        self.domain.compute(us=self.service_us)


@dataclass
class ProgramManager(Server, Programs):
    """Begins programs, the users' first; imports `process` and `memory`, and the users' domain all but `device`.

    A program is a process that the process server makes, and a file that the memory server knows.
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    execute_us: Duration = 5_000.0
    data_bytes: Bytes = 1024  # that one message writes
    users: str = "user"

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("process", "memory")

    @property
    def planned_calls(self) -> int:
        """Return about how many operations users' programs do; some are more than one message."""
        return sum(process.planned(self.library, LARGEST_BLOCK) for process in self.processes.values())

    def start(self) -> None:
        """Bind what it calls, and start users' programs."""
        self._process = self.domain.bind(Operations, "process", MESSAGES)
        self._memory = self.domain.bind(Memory, "memory", MESSAGES)
        kernel = simulated(self.domain).kernel
        user = simulated(kernel.domain(self.users))
        display = user.bind(Display, "display", MESSAGES)
        process = user.bind(Operations, "process", MESSAGES)
        programs = user.bind(Programs, "programs", MESSAGES)
        memory = user.bind(Memory, "memory", MESSAGES)

        def boot() -> None:
            server = kernel.exports[simulated(self.domain).imports["memory"]].server
            assert isinstance(server, MemoryServer)
            library = self.library.library(kernel.seed, owner_of(self.domain), LARGEST_BLOCK)
            calls = VCalls(kernel, display, process, programs, memory, server.cache, self.data_bytes)
            self._processes = start(self.processes, library, user, calls, LARGEST_BLOCK)

        self.domain.spawn(boot, "boot")  # when all servers are there

    def execute(self, program: int) -> int:
        """Have a process made, and the program's file opened."""
        self.domain.compute(us=self.execute_us)
        self._process.operate(1)
        return self._memory.open(program)

    def findings(self) -> Findings:
        """Return what processes did."""
        return {"tasks": done(self._processes)}
