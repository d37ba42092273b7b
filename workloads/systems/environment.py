"""Taos as one large domain: windows, programs, files local and remote, a small disk, no cache of what is remote."""

from collections.abc import Collection
from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.activity import FileCalls, FileOperations, Library
from lrpc.workloads.systems.unix import FileService

LINE: Final = bytes(80)  # that a paint draws


class TaosService(FileOperations, Protocol):
    """What programs ask of Taos."""

    def next_event(self) -> int:
        """Return the number of what the user did next."""

    def paint(self, window: int, text: bytes) -> None:
        """Draw a line."""

    def execute(self, program: int) -> int:
        """Make a domain and load a program into it."""


def kept_on_disk(library: Library, blocks: int) -> set[int]:
    """Return the files that a user's small disk holds, as many blocks as fit: what the user alone needs, by its use.

    Temporary files first; then in turn the program and the file of the user's own that are used most, next to most, and
    so on, until one does not fit. Files that others share are their server's.
    """
    wanted = [(library.temporary, number) for number in range(len(library.temporary))]
    for rank in range(max(len(library.programs), len(library.own))):
        wanted += [(files, rank) for files in (library.programs, library.own) if rank < len(files)]
    held: set[int] = set()
    left = blocks
    for files, number in wanted:
        left -= files.blocks[number]
        if left < 0:
            break
        held.add(files.first + number)
    return held


class Environment:
    """The procedures of Taos. A file on the disk costs `disk_ns` a block; any other one call of the server, each time.

    Opening, looking at, making and removing a file, reading and writing a block each ask the server once; closing asks
    nothing, for what was written has been sent. A program is loaded whole, block by block, when its domain is made.
    """

    def __init__(
        self,
        kernel: Kernel,
        library: Library,
        on_disk: Collection[int],
        *,
        buffer_bytes: int,
        event_ns: int,
        paint_ns: int,
        file_ns: int,
        execute_ns: int,
        disk_ns: int,
    ) -> None:
        self.kernel = kernel
        self.server: FileService | None = None  # until it is bound
        self.local = 0  # operations on files that the disk served
        self.remote = 0  # and that a server did
        self._library = library
        self._on_disk = set(on_disk)
        self._buffer = bytes(buffer_bytes)
        self._event_ns = event_ns
        self._paint_ns = paint_ns
        self._file_ns = file_ns
        self._execute_ns = execute_ns
        self._disk_ns = disk_ns
        self._events = 0

    def next_event(self) -> int:
        """Return the number of what the user did next."""
        self.kernel.compute(self._event_ns)
        self._events += 1
        return self._events

    def paint(self, window: int, text: bytes) -> None:
        """Draw a line."""
        self.kernel.compute(self._paint_ns)

    def execute(self, program: int) -> int:
        """Make a domain and load a program into it, from the disk or from the server."""
        self.kernel.compute(self._execute_ns)
        for block in range(self._library.programs.size(program)):
            self._fetch(program, block)
        return program

    def status(self, file: int) -> int:
        """Return a file's version."""
        server = self._begin(file)
        return 0 if server is None else server.attributes(file)

    def open(self, file: int) -> int:
        """Look a file up; return its version."""
        server = self._begin(file)
        return 0 if server is None else server.lookup(file)

    def create(self, file: int) -> int:
        """Make a file, or make it empty; return its version."""
        server = self._begin(file)
        return 0 if server is None else server.create(file)

    def read(self, file: int, block: int) -> bytes:
        """Return a block."""
        self.kernel.compute(self._file_ns)
        self._fetch(file, block)
        return self._buffer

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a block, where the file lies."""
        server = self._begin(file)
        if server is None:
            self.kernel.sleep(self._disk_ns)
        else:
            server.write(file, block, data)

    def close(self, file: int) -> None:
        """Forget that a file is open."""
        self.kernel.compute(self._file_ns)

    def remove(self, file: int) -> int:
        """Remove a file."""
        server = self._begin(file)
        return 0 if server is None else server.remove(file)

    def _begin(self, file: int) -> FileService | None:
        """Spend what an operation takes here; return the server, where the file is there."""
        self.kernel.compute(self._file_ns)
        return self._where(file)

    def _fetch(self, file: int, block: int) -> None:
        server = self._where(file)
        if server is None:
            self.kernel.sleep(self._disk_ns)
        else:
            server.read(file, block)

    def _where(self, file: int) -> FileService | None:
        if file in self._on_disk:
            self.local += 1
            return None
        self.remote += 1
        assert self.server is not None
        return self.server


class Trapped:
    """Taos' procedures where they are the kernel's own: each call is a trap, and data is copied once, as LRPC does."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._kernel = environment.kernel

    def next_event(self) -> int:
        """Trap, and take an event."""
        self._kernel.system_call(0)
        return self._environment.next_event()

    def paint(self, window: int, text: bytes) -> None:
        """Trap, and draw."""
        self._kernel.system_call(0)
        self._copy(text)
        self._environment.paint(window, text)

    def execute(self, program: int) -> int:
        """Trap, and make a domain."""
        self._kernel.system_call(0)
        return self._environment.execute(program)

    def status(self, file: int) -> int:
        """Trap, and look at a file."""
        self._kernel.system_call(0)
        return self._environment.status(file)

    def open(self, file: int) -> int:
        """Trap, and open a file."""
        self._kernel.system_call(0)
        return self._environment.open(file)

    def create(self, file: int) -> int:
        """Trap, and make a file."""
        self._kernel.system_call(0)
        return self._environment.create(file)

    def read(self, file: int, block: int) -> bytes:
        """Trap, and read a block."""
        self._kernel.system_call(0)
        data = self._environment.read(file, block)
        self._copy(data)
        return data

    def write(self, file: int, block: int, data: bytes) -> None:
        """Trap, and write a block."""
        self._kernel.system_call(0)
        self._copy(data)
        self._environment.write(file, block, data)

    def close(self, file: int) -> None:
        """Trap, and close a file."""
        self._kernel.system_call(0)
        self._environment.close(file)

    def remove(self, file: int) -> int:
        """Trap, and remove a file."""
        self._kernel.system_call(0)
        return self._environment.remove(file)

    def _copy(self, data: bytes) -> None:
        kernel = self._kernel
        kernel.compute(kernel.charges.copy(1, len(data)))


class TaosCalls(FileCalls):
    """The calls of a user's programs, through the stubs that they bound, or as traps; all else traps in any case."""

    def __init__(self, kernel: Kernel, taos: TaosService, buffer_bytes: int) -> None:
        super().__init__(kernel, taos, buffer_bytes)
        self._taos = taos

    def event(self) -> None:
        """Take an event from the window."""
        self._taos.next_event()

    def paint(self) -> None:
        """Draw in the window."""
        self._taos.paint(0, LINE)

    def other(self, count: int) -> None:
        """Trap: threads, memory and devices are the kernel's, whatever the structure."""
        for _ in range(count):
            self.kernel.system_call(0)

    def execute(self, program: int) -> None:
        """Have a domain made for a program."""
        self._taos.execute(program)

    def touch(self, program: int, page: int) -> None:
        """Run code: it was loaded when the domain was made."""
