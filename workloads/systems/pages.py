"""V as programs see it: nothing but messages, to servers in the kernel or beside it; and the pages that it keeps."""

from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.activity import FileCalls, FileOperations
from lrpc.workloads.systems.files import block_key
from lrpc.workloads.systems.unix import FileService, UnixKernel

LINE: Final = bytes(80)  # that a paint draws


class PageCache(UnixKernel):
    """What V's memory server keeps of remote files. Pages of files and of programs share the memory that there is.

    As with UNIX, what a file's version says may be believed for a while (V's leases), and names are kept.
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
        """Return whether a page of a program is in memory, as the hardware finds it in its tables."""
        return self.blocks.peek(block_key(program, page)) >= 0

    def fault(self, program: int, page: int) -> None:
        """Have a page of a program here."""
        self.faults += 1
        self.read(program, page)


class DisplayCalls(Protocol):
    """The display server."""

    def next_event(self) -> int:
        """Return the number of what the user did next."""

    def paint(self, window: int, text: bytes) -> None:
        """Draw a line."""


class KernelOperations(Protocol):
    """A server in the kernel."""

    def operate(self, operation: int) -> int:
        """Do one of its operations."""


class ProgramCalls(Protocol):
    """The program manager."""

    def execute(self, program: int) -> int:
        """Begin to run a program."""


class PageCalls(FileOperations, Protocol):
    """The memory server, through which files are read and written."""

    def fault(self, program: int, page: int) -> int:
        """Have a page of a program in memory."""


class VCalls(FileCalls):
    """The messages of a user's programs; a fault is one that the kernel sends for them."""

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
        """Take an event from the display server."""
        self._display.next_event()

    def paint(self) -> None:
        """Have the display server draw."""
        self._display.paint(0, LINE)

    def other(self, count: int) -> None:
        """Ask the kernel's process server: for the time, priorities, memory, processes."""
        for _ in range(count):
            self._processes.operate(0)

    def execute(self, program: int) -> None:
        """Have the program manager begin a program."""
        self._programs.execute(program)

    def touch(self, program: int, page: int) -> None:
        """Run code on a page: where it is not in memory, the kernel asks the memory server for it."""
        if not self._cache.resident(program, page):
            self._pages.fault(program, page)
