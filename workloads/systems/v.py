"""V: a diskless workstation on which every operation is a message to a server.

Servers stand in the kernel (processes, devices, memory) or beside it (display, programs); the
storage server is on another machine. Each is a domain of its own, and a message to it costs the
same wherever it stands on the workstation.
"""

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
from lrpc.workloads.systems.people import LibraryTable, Number, ProcessTable, start_processes, tasks_done
from lrpc.workloads.systems.storage import LARGEST_BLOCK, Storage, StoredBlock

MESSAGES: Final[Transfer] = "message passing"
Bytes = Annotated[int, Field(ge=1, le=LARGEST_BLOCK)]


class Operations(Interface):
    """The procedure of a server in the kernel."""

    def operate(self, operation: UInt32) -> UInt32:
        """Perform the operation with the given number."""


class Display(Interface):
    """The display server's procedures."""

    def next_event(self) -> UInt32:
        """Return the number of the user's next event."""

    def paint(self, window: UInt32, text: Annotated[bytes, UpTo(len(LINE))]) -> None:
        """Draw a line of text."""


class Programs(Interface):
    """The program manager's procedures."""

    def execute(self, program: UInt32) -> UInt32:
        """Start a program."""


class Memory(Interface):
    """The memory server's procedures, as in `pages.PageCalls`."""

    def fault(self, program: UInt32, page: UInt32) -> UInt32:
        """Bring a page of a program into memory."""

    def status(self, file: UInt32) -> UInt32:
        """Look at a file's attributes."""

    def open(self, file: UInt32) -> UInt32:
        """Look up a file by its name."""

    def create(self, file: UInt32) -> UInt32:
        """Create an empty file, or truncate an existing one."""

    def read(self, file: UInt32, block: UInt32) -> StoredBlock:
        """Return a part of a block."""

    def write(self, file: UInt32, block: UInt32, data: StoredBlock) -> None:
        """Replace a part of a block."""

    def close(self, file: UInt32) -> None:
        """Close a file."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file."""


@dataclass
class KernelServer(Server, Operations):
    """One of the servers that V moved into its kernel: the process server or the device server."""

    service_us: Duration = 100.0

    def operate(self, operation: int) -> int:
        """Compute for `service_us`."""
        self.domain.compute(us=self.service_us)
        return operation


@dataclass
class DisplayServer(Server, Display):
    """The display server, which draws, and asks the device server for each event.

    It imports the device server as `device`.
    """

    event_us: Duration = 100.0
    paint_us: Duration = 500.0

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("device",)

    def start(self) -> None:
        """Bind the device server."""
        self._device = self.domain.bind(Operations, "device", MESSAGES)

    def next_event(self) -> int:
        """Ask the device server for an event of the keyboard or the mouse."""
        self.domain.compute(us=self.event_us)
        return self._device.operate(0)

    def paint(self, window: int, text: bytes) -> None:
        """Draw into the mapped frame buffer, without another message."""
        self.domain.compute(us=self.paint_us)


@dataclass
class MemoryServer(Server, Memory):
    """The memory server, which caches pages of files and programs in all memory that is left.

    It imports the storage server as `storage`.
    """

    memory_kb: Annotated[int, Field(ge=1, le=10**9)]
    kernel_kb: Number
    data_kb: Number  # memory of programs' data, which holds no pages of files
    names: Number
    lease_s: Duration
    write_delay_s: Duration = 0.0
    data_bytes: Bytes = 1024  # the bytes that one message reads
    service_us: Duration = 200.0

    def __post_init__(self) -> None:
        """Refuse a kernel and data that do not fit into memory."""
        taken = self.kernel_kb + self.data_kb
        if taken > self.memory_kb:
            raise Refused(f"memory_kb: {self.memory_kb}: kernel and data take {taken}; give it more, or them less")
        self._data = bytes(self.data_bytes)

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("storage",)

    def start(self) -> None:
        """Bind the storage server, and create an empty cache."""
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
        """Bring a page of a program into memory."""
        self._begin()
        self.cache.fault(program, page)
        return page

    def status(self, file: int) -> int:
        """Look at a file's attributes, under a lease or from the storage server."""
        return self._look_up(file)

    def open(self, file: int) -> int:
        """Look up a file, under a lease or from the storage server."""
        return self._look_up(file)

    def create(self, file: int) -> int:
        """Create an empty file, or truncate an existing one."""
        self._begin()
        self.cache.create(file)
        return file

    def read(self, file: int, block: int) -> bytes:
        """Return a part of a block, and keep the block in the cache."""
        self._begin()
        self.cache.read(file, block)
        return self._data

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a part of a block in the cache; it is sent when the file is closed."""
        self._begin()
        self.cache.write(file, block)

    def close(self, file: int) -> None:
        """Send the file's unsent blocks to the storage server."""
        self._begin()
        self.cache.close(file)

    def remove(self, file: int) -> int:
        """Remove a file."""
        self._begin()
        self.cache.remove(file)
        return file

    def findings(self) -> Findings:
        """Return the counts of the cache."""
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
    """The program manager, which also starts the users' processes when the machine boots.

    To start a program it asks the process server for a process and the memory server for the
    program's file. It imports them as `process` and `memory`. The domain named by `users` must
    import these two, `display` and `programs`.
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    execute_us: Duration = 5_000.0
    data_bytes: Bytes = 1024  # the bytes that one message writes
    users: str = "user"

    @property
    def imports(self) -> Collection[str]:
        """Return the names of its imports."""
        return ("process", "memory")

    @property
    def planned_calls(self) -> int:
        """Return about how many operations users' programs make; some take several messages."""
        return sum(process.planned(self.library, LARGEST_BLOCK) for process in self.processes.values())

    def start(self) -> None:
        """Bind its servers and those of the users, and start the users' processes."""
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
            calls = VCalls(kernel, display, process, programs, memory, server.cache, self.data_bytes)
            self._processes = start_processes(self.processes, self.library, user, calls, LARGEST_BLOCK)

        # In a thread of its own, which runs once all servers have started: the memory server's
        # cache exists only then.
        self.domain.spawn(boot, "boot")

    def execute(self, program: int) -> int:
        """Ask the process server for a process, and the memory server for the program's file."""
        self.domain.compute(us=self.execute_us)
        self._process.operate(1)
        return self._memory.open(program)

    def findings(self) -> Findings:
        """Return the counts of the tasks that processes performed."""
        return {"tasks": tasks_done(self._processes)}
