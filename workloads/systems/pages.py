"""V as its programs see it: messages to servers in the kernel and beside it, and its page cache.

V's memory server keeps pages of files and pages of programs in one cache, which has all the memory
that is left. It is therefore a `UnixKernel` whose block cache is that memory, with no separate
pages: a fault reads the page like a block of a file. Leases take the place of NFS's attribute
times.
"""

from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.activity import FileCalls, FileOperations
from lrpc.workloads.systems.files import block_key
from lrpc.workloads.systems.unix import FileService, UnixKernel

LINE: Final = bytes(80)  # the text of one `paint`


class PageCache(UnixKernel):
    """The cache of V's memory server, of `pages` pages of files and programs together.

    As in `UnixKernel`, names are kept, and a file's version is trusted for a while: for the lease,
    `lease_ns`. Calls charge no service time here, since the memory server charges its own.
    """

    def __init__(
        self, kernel: Kernel, server: FileService, *, names: int, pages: int, lease_ns: int, write_delay_ns: int
    ) -> None:
        super().__init__(
            kernel,
            server,
            names=names,
            blocks=pages,
            pages=0,
            attributes_ns=lease_ns,
            write_delay_ns=write_delay_ns,
            service_ns=0,
        )

    def resident(self, program: int, page: int) -> bool:
        """Return whether a page of a program is in memory, as the hardware sees at no cost."""
        return self.blocks.peek(block_key(program, page)) >= 0

    def fault(self, program: int, page: int) -> None:
        """Bring a page of a program into memory."""
        self.faults += 1
        self.read(program, page)


class DisplayCalls(Protocol):
    """The display server's procedures."""

    def next_event(self) -> int:
        """Return the number of the user's next event."""

    def paint(self, window: int, text: bytes) -> None:
        """Draw a line of text."""


class KernelOperations(Protocol):
    """The procedure of a server in the kernel."""

    def operate(self, operation: int) -> int:
        """Perform the operation with the given number."""


class ProgramCalls(Protocol):
    """The program manager's procedure."""

    def execute(self, program: int) -> int:
        """Start a program."""


class PageCalls(FileOperations, Protocol):
    """The memory server's procedures, through which files are read and written too."""

    def fault(self, program: int, page: int) -> int:
        """Bring a page of a program into memory."""


class VCalls(FileCalls):
    """The messages of a user's programs on V; the kernel sends those for faults on their behalf."""

    def __init__(
        self,
        kernel: Kernel,
        display: DisplayCalls,
        processes: KernelOperations,
        programs: ProgramCalls,
        pages: PageCalls,
        cache: PageCache,
        data_bytes: int,
    ) -> None:
        super().__init__(kernel, pages, data_bytes)
        self._display = display
        self._processes = processes
        self._programs = programs
        self._pages = pages
        self._cache = cache

    def event(self) -> None:
        """Ask the display server for the user's next event."""
        self._display.next_event()

    def paint(self) -> None:
        """Ask the display server to draw a line."""
        self._display.paint(0, LINE)

    def other(self, count: int) -> None:
        """Send `count` messages to the kernel's process server: time, priorities, processes."""
        for _ in range(count):
            self._processes.operate(0)

    def execute(self, program: int) -> None:
        """Ask the program manager to start a program."""
        self._programs.execute(program)

    def touch(self, program: int, page: int) -> None:
        """Run code on a page; if it is not in memory, the kernel asks the memory server for it."""
        if not self._cache.resident(program, page):
            self._pages.fault(program, page)
