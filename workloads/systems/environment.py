"""The procedures of Taos: windows, programs, and files on a small local disk or a remote server.

Taos keeps nothing of remote files. A file on the local disk costs disk time; every operation on any
other file is one call of the file server, each time. So the share of calls that cross machines
follows from which files the disk holds.

The same procedures serve every structure that is compared: as one large domain that programs call
through stubs, or as a kernel's own that they reach by traps (`TrappedEnvironment`). The operations
are then identical; only the cost of reaching them differs.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from lrpc.kernel.simulated.costs import COPY_BYTE, COPY_VALUE
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.activity import FileCalls, FileOperations, Library
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.unix import FileService

LINE: Final = bytes(80)  # the text of one `paint`


class TaosOperations(FileOperations, Protocol):
    """The procedures of Taos that programs call, but for those that draw."""

    def next_event(self) -> int:
        """Return the number of the user's next event."""

    def execute(self, program: int) -> int:
        """Create a domain and load a program into it."""


def kept_on_disk(library: Library, blocks: int) -> set[int]:
    """Return the numbers of the files that a user's disk of `blocks` blocks holds.

    Temporary files come first. Then the programs and the user's own files follow in turn, in order
    of popularity, until one does not fit. Shared files always stay with their server.
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
    """The implementation of Taos' procedures; all times are in ns.

    A block of a file on the disk costs `disk_ns`. For any other file, each operation calls the
    server once, except `close`: written data has been sent by then. A program is loaded whole,
    block by block, when its domain is created.
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
        self.server: FileService | None = None  # None until the system has bound it
        self.local = 0  # operations on files served by the disk
        self.remote = 0  # operations on files served by the file server
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
        """Return the number of the user's next event."""
        self.kernel.compute(self._event_ns)
        self._events += 1
        return self._events

    def paint(self, window: int, text: bytes) -> None:
        """Draw a line of text."""
        self.kernel.compute(self._paint_ns)

    def execute(self, program: int) -> int:
        """Create a domain and load a program into it, from the disk or from the server."""
        self.kernel.compute(self._execute_ns)
        for block in range(self._library.programs.size(program)):
            self._fetch(program, block)
        return program

    def status(self, file: int) -> int:
        """Return a file's version."""
        server = self._begin(file)
        return 0 if server is None else server.attributes(file)

    def open(self, file: int) -> int:
        """Look up a file; return its version."""
        server = self._begin(file)
        return 0 if server is None else server.lookup(file)

    def create(self, file: int) -> int:
        """Create an empty file, or truncate an existing one; return its version."""
        server = self._begin(file)
        return 0 if server is None else server.create(file)

    def read(self, file: int, block: int) -> bytes:
        """Return a block."""
        self.kernel.compute(self._file_ns)
        self._fetch(file, block)
        return self._buffer

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a block, on the disk or at the server."""
        server = self._begin(file)
        if server is None:
            self.kernel.sleep(self._disk_ns)
        else:
            server.write(file, block, data)

    def close(self, file: int) -> None:
        """Close a file: no call of the server, since every write has been sent."""
        self.kernel.compute(self._file_ns)

    def remove(self, file: int) -> int:
        """Remove a file; return the version that another file of its name would have."""
        server = self._begin(file)
        return 0 if server is None else server.remove(file)

    def _begin(self, file: int) -> FileService | None:
        """Charge an operation's local time; return the server if the file lies there, else None."""
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


class TrappedEnvironment:
    """Taos' procedures as the kernel's own.

    Each call is a trap. Data is copied once, at LRPC's rate: the paper gives no figure for the copy
    of a trap.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._kernel = environment.kernel

    def next_event(self) -> int:
        """Trap and take an event."""
        self._kernel.system_call(0)
        return self._environment.next_event()

    def paint(self, window: int, text: bytes) -> None:
        """Trap and draw."""
        self._kernel.system_call(0)
        self._copy(text)
        self._environment.paint(window, text)

    def execute(self, program: int) -> int:
        """Trap and create a domain for a program."""
        self._kernel.system_call(0)
        return self._environment.execute(program)

    def status(self, file: int) -> int:
        """Trap and ask for a file's version."""
        self._kernel.system_call(0)
        return self._environment.status(file)

    def open(self, file: int) -> int:
        """Trap and open a file."""
        self._kernel.system_call(0)
        return self._environment.open(file)

    def create(self, file: int) -> int:
        """Trap and create a file."""
        self._kernel.system_call(0)
        return self._environment.create(file)

    def read(self, file: int, block: int) -> bytes:
        """Trap and read a block."""
        self._kernel.system_call(0)
        data = self._environment.read(file, block)
        self._copy(data)
        return data

    def write(self, file: int, block: int, data: bytes) -> None:
        """Trap and write a block."""
        self._kernel.system_call(0)
        self._copy(data)
        self._environment.write(file, block, data)

    def close(self, file: int) -> None:
        """Trap and close a file."""
        self._kernel.system_call(0)
        self._environment.close(file)

    def remove(self, file: int) -> int:
        """Trap and remove a file."""
        self._kernel.system_call(0)
        return self._environment.remove(file)

    def _copy(self, data: bytes) -> None:
        kernel = self._kernel
        kernel.compute(kernel.charges.copy(COPY_VALUE, COPY_BYTE, 1, len(data)))


class TaosCalls(FileCalls):
    """The calls of a user's programs on Taos, through bound stubs or by traps.

    Whatever is drawn is drawn by one of `draws`; `bounds` are the running sums of how often each is
    chosen, by `dice` of their own. `other` calls trap in every structure: threads, memory and
    devices are always the kernel's.
    """

    def __init__(
        self,
        kernel: Kernel,
        taos: TaosOperations,
        draws: Sequence[Callable[[int, bytes], object]],
        bounds: Sequence[int],
        dice: Dice,
        buffer_bytes: int,
    ) -> None:
        super().__init__(kernel, taos, buffer_bytes)
        self._taos = taos
        self._draws = draws
        self._bounds = bounds
        self._dice = dice

    def event(self) -> None:
        """Take the user's next event from the window."""
        self._taos.next_event()

    def paint(self) -> None:
        """Draw a line in the window, or something of that size."""
        self._draws[self._dice.choose(self._bounds)](0, LINE)

    def other(self, count: int) -> None:
        """Trap `count` times."""
        for _ in range(count):
            self.kernel.system_call(0)

    def execute(self, program: int) -> None:
        """Ask Taos to create a domain for a program."""
        self._taos.execute(program)

    def touch(self, program: int, page: int) -> None:
        """Run code: no call, since the program was loaded when its domain was created."""
