"""UNIX with NFS as programs see it: every call is a trap, and the kernel's caches decide which goes to the server."""

from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.activity import SimulatedTime
from lrpc.workloads.systems.files import BLOCK_BITS, LruCache, block_key

BLOCK_BYTES: Final = 8192
_BLOCK: Final = bytes(BLOCK_BYTES)


class FileService(Protocol):
    """What a client asks of an NFS server. A file's version changes with each write to it."""

    def lookup(self, file: int) -> int:
        """Return a file's version, by its name."""

    def attributes(self, file: int) -> int:
        """Return a file's version."""

    def read(self, file: int, block: int) -> bytes:
        """Return a block."""

    def write(self, file: int, block: int, data: bytes) -> int:
        """Replace a block; return the file's version."""

    def create(self, file: int) -> int:
        """Make a file; return its version."""

    def remove(self, file: int) -> int:
        """Remove a file; return the version that another of its name would have."""


class UnixKernel:
    """One workstation's kernel: names and attributes it knows, blocks of files and pages of programs that it keeps.

    Attributes are believed for `attributes_ns`; written blocks go to the server when their file is closed, or, with a
    `write_delay_ns`, that much later, unless the file has been removed by then. Every call takes `service_ns`.
    """

    def __init__(
        self,
        kernel: Kernel,
        server: FileService,
        *,
        names: int,
        blocks: int,
        pages: int,
        attributes_ns: int,
        write_delay_ns: int,
        service_ns: int,
    ) -> None:
        self.kernel = kernel
        self.names = LruCache(names)
        self.blocks = LruCache(blocks)
        self.pages = LruCache(pages)
        self.service_ns = service_ns
        self.attributes_asked = 0
        self.attributes_believed = 0
        self.blocks_written = 0  # by programs, each once until it is sent or dropped
        self.blocks_dropped = 0  # of these, that no server ever saw
        self.faults = 0  # of pages that had to be fetched, or made
        self.pages_in = 0  # from the server, of programs and of data
        self.pages_out = 0  # of data, to there
        self._server = server
        self._attributes_ns = attributes_ns
        self._write_delay_ns = write_delay_ns
        self._believed: dict[int, int] = {}  # until when a file's attributes are
        self._versions: dict[int, int] = {}  # as last heard of
        self._generations: dict[int, int] = {}  # of what is kept of a file: another one where others have changed it
        self._swapped: set[int] = set()  # pages of data that the server holds
        self._dirty: dict[int, dict[int, int]] = {}  # when each block was written first, by file and block

    def look_up(self, file: int) -> None:
        """Know a file: from memory where its name is there and its attributes are fresh enough."""
        if not self.names.has(file, 0):
            self._hear(file, self._server.lookup(file))
            self.names.keep(file, 0)
        elif self.kernel.now_ns < self._believed.get(file, 0):
            self.attributes_believed += 1
        else:
            self.attributes_asked += 1
            self._hear(file, self._server.attributes(file))

    def create(self, file: int) -> None:
        """Make a file, or make it empty: what had been written to it need not be sent."""
        self._forget(file)
        self._hear(file, self._server.create(file))
        self.names.keep(file, 0)

    def remove(self, file: int) -> None:
        """Remove a file, and with it what had been written and not sent."""
        self._forget(file)
        self._hear(file, self._server.remove(file))
        self.names.drop(file)

    def read(self, file: int, block: int) -> None:
        """Have a block here."""
        key = block_key(file, block)
        generation = self._generations.get(file, 0)
        if not self.blocks.has(key, generation):
            self._server.read(file, block)
            self._keep(key, generation)

    def write(self, file: int, block: int) -> None:
        """Replace a block here; the server gets it later."""
        dirty = self._dirty.get(file)
        if dirty is None:
            dirty = self._dirty[file] = {}
        if block not in dirty:
            dirty[block] = self.kernel.now_ns
            self.blocks_written += 1
        self._keep(block_key(file, block), self._generations.get(file, 0))

    def close(self, file: int) -> None:
        """Send what was written to a file, unless that can wait."""
        if not self._write_delay_ns and file in self._dirty:
            self._flush(file)

    def flush_old(self) -> None:
        """Send what was written long enough ago."""
        since = self.kernel.now_ns - self._write_delay_ns
        for file in [file for file, dirty in self._dirty.items() if next(iter(dirty.values())) <= since]:
            self._flush(file)

    def fetch(self, program: int, page: int) -> None:
        """Have a program's page here: where it is not in memory that is a fault, and the server is asked."""
        key = block_key(program, page)
        if not self.pages.has(key, 0):
            self.faults += 1
            self.trap()
            self.pages_in += 1
            self._server.read(program, page)
            self._make_room(key)

    def use(self, data: int, page: int) -> None:
        """Have a page of programs' data here, to be changed: made when it is first used, fetched when it had to go."""
        key = ~block_key(data, page)  # negative: no page of a program
        if self.pages.has(key, 0):
            return
        self.faults += 1
        self.trap()
        if key in self._swapped:
            self._swapped.discard(key)
            self.pages_in += 1
            self._server.read(data, page)
        self._make_room(key)

    def trap(self) -> None:
        """Be entered by a call, or a fault."""
        self.kernel.system_call(self.service_ns)

    def _make_room(self, key: int) -> None:
        """Keep a page; of data, what has to go for it is sent to the server."""
        gone = self.pages.keep(key, 0)
        if gone < -1:
            self._swapped.add(gone)
            self.pages_out += 1
            self._server.write(~gone >> BLOCK_BITS, ~gone & (1 << BLOCK_BITS) - 1, _BLOCK)

    def _hear(self, file: int, version: int) -> None:
        """Take in what the server says of a file; its version differs from the last where anybody changed it."""
        if version != self._versions.get(file, 0):
            self._generations[file] = self._generations.get(file, 0) + 1
            self._versions[file] = version
        self._believed[file] = self.kernel.now_ns + self._attributes_ns

    def _keep(self, key: int, generation: int) -> None:
        gone = self.blocks.keep(key, generation)
        if gone < 0:
            return
        file, block = gone >> BLOCK_BITS, gone & (1 << BLOCK_BITS) - 1
        dirty = self._dirty.get(file)
        if dirty is not None and block in dirty:  # its place is needed
            del dirty[block]
            if not dirty:
                del self._dirty[file]
            self._send(file, block)

    def _flush(self, file: int) -> None:
        for block in self._dirty.pop(file, {}):
            self._send(file, block)

    def _send(self, file: int, block: int) -> None:
        """Write a block through; what this machine keeps of the file is as good as before, unless another wrote too."""
        version = self._server.write(file, block, _BLOCK)
        if version == self._versions.get(file, 0) + 1:
            self._versions[file] = version
        self._hear(file, version)

    def _forget(self, file: int) -> None:
        self.blocks_dropped += len(self._dirty.pop(file, {}))


class UnixCalls(SimulatedTime):
    """The calls of one process: each traps, and the kernel does it."""

    def __init__(self, unix: UnixKernel) -> None:
        super().__init__(unix.kernel)
        self._system = unix  # not `_unix`: to C compilers that, with the `_` that is put before it, is the number 1

    def event(self) -> None:
        """Read an event from the device that it comes from."""
        self._system.trap()

    def paint(self) -> None:
        """Write to the device that shows it."""
        self._system.trap()

    def other(self, count: int) -> None:
        """Make other calls."""
        kernel, service_ns = self.kernel, self._system.service_ns
        for _ in range(count):
            kernel.system_call(service_ns)

    def execute(self, program: int) -> None:
        """Look a program up and map it."""
        self._system.trap()
        self._system.look_up(program)

    def use(self, data: int, page: int) -> None:
        """Make or fetch a page of data where it is not in memory."""
        self._system.use(data, page)

    def touch(self, program: int, page: int) -> None:
        """Fetch a page where it is not in memory."""
        self._system.fetch(program, page)

    def status(self, file: int) -> None:
        """Ask for a file's attributes."""
        self._system.trap()
        self._system.look_up(file)

    def open(self, file: int) -> None:
        """Look a file up, and see whether it has changed."""
        self._system.trap()
        self._system.look_up(file)

    def create(self, file: int) -> None:
        """Make a file."""
        self._system.trap()
        self._system.create(file)

    def read(self, file: int, block: int) -> None:
        """Read a block, or a part."""
        self._system.trap()
        self._system.read(file, block)

    def write(self, file: int, block: int) -> None:
        """Write a block, or a part."""
        self._system.trap()
        self._system.write(file, block)

    def close(self, file: int) -> None:
        """Close a file."""
        self._system.trap()
        self._system.close(file)

    def remove(self, file: int) -> None:
        """Remove a file."""
        self._system.trap()
        self._system.remove(file)
