"""UNIX with NFS: every call is a trap, and the kernel's caches decide which calls go to the server.

The kernel keeps names, attributes, blocks of files, and pages of programs and their data. A version
represents a file's attributes and contents; its server raises it with every change. The kernel
trusts a version for a fixed time, as NFS does, and asks again afterwards. If the version has
changed, the file gets a new generation, and blocks cached under an older one are out of date. A
write of this machine alone raises the version by exactly one: then its cached blocks stay valid.

Written blocks wait for the close of their file, or for a delay. Those of a file that is removed or
re-created before that never reach the server. `pages.PageCache` uses the same rules for V.
"""

from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.activity import SimulatedTime
from lrpc.workloads.systems.files import BLOCK_BITS, LruCache, block_key

BLOCK_BYTES: Final = 8192
_BLOCK: Final = bytes(BLOCK_BYTES)


class FileService(Protocol):
    """The procedures of an NFS server; a file's version changes with each write to it."""

    def lookup(self, file: int) -> int:
        """Look up a file by its name; return its version."""

    def attributes(self, file: int) -> int:
        """Return a file's version."""

    def read(self, file: int, block: int) -> bytes:
        """Return a block."""

    def write(self, file: int, block: int, data: bytes) -> int:
        """Replace a block; return the file's version."""

    def create(self, file: int) -> int:
        """Create a file; return its version."""

    def remove(self, file: int) -> int:
        """Remove a file; return the version that another file of its name would have."""


class UnixKernel:
    """One workstation's kernel, with caches of `names`, `blocks` and `pages` entries.

    Attributes are trusted for `attributes_ns`. Written blocks go to the server when their file is
    closed. With a `write_delay_ns`, they go that much later, unless the file has been removed by
    then. Every call takes `service_ns` beyond its trap.
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
        self.attributes_asked = 0  # look-ups that asked the server for attributes
        self.attributes_believed = 0  # look-ups that trusted the attributes at hand
        self.blocks_written = 0  # blocks that became unsent; rewriting an unsent one does not count
        self.blocks_dropped = 0  # unsent blocks that were dropped and never reached the server
        self.faults = 0  # faults of pages that were fetched or created
        self.pages_in = 0  # pages of programs and data fetched from the server
        self.pages_out = 0  # pages of data written to the server
        self.opens = 0  # files opened or created
        self.changed_by_others = 0  # look-ups that found a known file changed by another machine
        self._server = server
        self._attributes_ns = attributes_ns
        self._write_delay_ns = write_delay_ns
        self._trusted_until: dict[int, int] = {}  # in ns, for each file's attributes
        self._versions: dict[int, int] = {}  # each file's version as the server last told it
        # Each file's generation, raised when another machine has changed it: blocks cached with an
        # older one are out of date.
        self._generations: dict[int, int] = {}
        self._swapped: set[int] = set()  # pages of data that the server holds
        # The unsent blocks by file and block, with the time in ns of each one's first write. A
        # file's first entry is its oldest.
        self._dirty: dict[int, dict[int, int]] = {}

    def look_up(self, file: int) -> None:
        """Look up a file: ask the server unless its name is kept and its attributes are trusted."""
        if not self.names.has(file, 0):
            self._compare_version(file, self._server.lookup(file))
            self.names.keep(file, 0)
        elif self.kernel.now_ns < self._trusted_until.get(file, 0):
            self.attributes_believed += 1
        else:
            self.attributes_asked += 1
            self._compare_version(file, self._server.attributes(file))

    def open(self, file: int) -> None:
        """Look up a file that is going to be read."""
        self.opens += 1
        self.look_up(file)

    def create(self, file: int) -> None:
        """Create an empty file, or truncate an existing one, and drop its unsent blocks."""
        self.opens += 1
        self._drop_unsent(file)
        self._note_version(file, self._server.create(file))
        self.names.keep(file, 0)

    def remove(self, file: int) -> None:
        """Remove a file, and drop its unsent blocks."""
        self._drop_unsent(file)
        self._note_version(file, self._server.remove(file))
        self.names.drop(file)

    def read(self, file: int, block: int) -> None:
        """Bring a block into the cache, from the server if it is absent or out of date."""
        key = block_key(file, block)
        generation = self._generations.get(file, 0)
        if not self.blocks.has(key, generation):
            self._server.read(file, block)
            self._keep(key, generation)

    def write(self, file: int, block: int) -> None:
        """Replace a block in the cache; the server gets it later."""
        dirty = self._dirty.get(file)
        if dirty is None:
            dirty = self._dirty[file] = {}
        if block not in dirty:
            dirty[block] = self.kernel.now_ns
            self.blocks_written += 1
        self._keep(block_key(file, block), self._generations.get(file, 0))

    def close(self, file: int) -> None:
        """Send a file's unsent blocks, unless writes are delayed."""
        if not self._write_delay_ns and file in self._dirty:
            self._flush(file)

    def flush_old(self) -> None:
        """Send all unsent blocks of every file whose oldest one has waited for the write delay."""
        since = self.kernel.now_ns - self._write_delay_ns
        for file in [file for file, dirty in self._dirty.items() if next(iter(dirty.values())) <= since]:
            self._flush(file)

    def fetch(self, program: int, page: int) -> None:
        """Bring a program's page into memory; an absent one faults and is read from the server."""
        key = block_key(program, page)
        if not self.pages.has(key, 0):
            self.faults += 1
            self.trap()
            self.pages_in += 1
            self._server.read(program, page)
            self._make_room(key)

    def use(self, data: int, page: int) -> None:
        """Bring a page of programs' data into memory to change it.

        A page that is absent is a fault: it is created at its first use, and fetched if it had been
        written to the server.
        """
        key = ~block_key(data, page)  # negative, unlike the key of a program's page
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
        """Charge one entry into the kernel, by a call or a fault."""
        self.kernel.system_call(self.service_ns)

    def _make_room(self, key: int) -> None:
        """Keep a page in memory; if a page of data is evicted for it, write that to the server."""
        evicted = self.pages.keep(key, 0)
        if evicted < -1:  # -1: no page was evicted; a key from 0: a page of a program, never changed
            self._swapped.add(evicted)
            self.pages_out += 1
            self._server.write(~evicted >> BLOCK_BITS, ~evicted & (1 << BLOCK_BITS) - 1, _BLOCK)

    def _compare_version(self, file: int, version: int) -> None:
        """Take in a looked-up version; if the file was known, another machine has changed it."""
        if file in self._trusted_until and version != self._versions.get(file, 0):
            self.changed_by_others += 1
        self._note_version(file, version)

    def _note_version(self, file: int, version: int) -> None:
        """Take in a file's version from the server; a changed one starts a new generation."""
        if version != self._versions.get(file, 0):
            self._generations[file] = self._generations.get(file, 0) + 1
            self._versions[file] = version
        self._trusted_until[file] = self.kernel.now_ns + self._attributes_ns

    def _keep(self, key: int, generation: int) -> None:
        """Keep a block in the cache; if an unsent block is evicted for it, send that."""
        evicted = self.blocks.keep(key, generation)
        if evicted < 0:
            return
        file, block = evicted >> BLOCK_BITS, evicted & (1 << BLOCK_BITS) - 1
        dirty = self._dirty.get(file)
        if dirty is not None and block in dirty:
            del dirty[block]
            if not dirty:
                del self._dirty[file]
            self._send(file, block)

    def _flush(self, file: int) -> None:
        for block in self._dirty.pop(file, {}):
            self._send(file, block)

    def _send(self, file: int, block: int) -> None:
        """Send a block to the server; cached blocks stay valid unless others wrote the file too."""
        version = self._server.write(file, block, _BLOCK)
        if version == self._versions.get(file, 0) + 1:  # this write is the only change since
            self._versions[file] = version
        self._note_version(file, version)

    def _drop_unsent(self, file: int) -> None:
        self.blocks_dropped += len(self._dirty.pop(file, {}))


class UnixCalls(SimulatedTime):
    """The calls of a workstation's processes: each traps into its `UnixKernel`."""

    def __init__(self, unix: UnixKernel) -> None:
        super().__init__(unix.kernel)
        # Not `_unix`: mypyc puts a `_` before names, and C compilers predefine `__unix` as 1.
        self._system = unix

    def event(self) -> None:
        """Read an event from its device."""
        self._system.trap()

    def paint(self) -> None:
        """Write to the display's device."""
        self._system.trap()

    def other(self, count: int) -> None:
        """Make `count` other calls."""
        kernel, service_ns = self.kernel, self._system.service_ns
        for _ in range(count):
            kernel.system_call(service_ns)

    def execute(self, program: int) -> None:
        """Look up a program, and map it."""
        self._system.trap()
        self._system.look_up(program)

    def use(self, data: int, page: int) -> None:
        """Create or fetch a page of data if it is not in memory."""
        self._system.use(data, page)

    def touch(self, program: int, page: int) -> None:
        """Fetch a page of a program if it is not in memory."""
        self._system.fetch(program, page)

    def status(self, file: int) -> None:
        """Ask for a file's attributes."""
        self._system.trap()
        self._system.look_up(file)

    def open(self, file: int) -> None:
        """Look up a file, and check whether it has changed."""
        self._system.trap()
        self._system.open(file)

    def create(self, file: int) -> None:
        """Create a file."""
        self._system.trap()
        self._system.create(file)

    def read(self, file: int, block: int) -> None:
        """Read a block, or a part of one."""
        self._system.trap()
        self._system.read(file, block)

    def write(self, file: int, block: int) -> None:
        """Write a block, or a part of one."""
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
