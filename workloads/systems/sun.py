"""Sun UNIX with NFS: a workstation without a disk, whose kernel caches what its file server keeps."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import Field

from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.stubs import bind
from lrpc.domains.wires import UInt32, UpTo
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.domain import Domain
from lrpc.workloads.systems.activity import Process
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.files import Kept, block_key
from lrpc.workloads.systems.people import LibraryTable, ProcessTable
from lrpc.workloads.systems.unix import BLOCK_BYTES, UnixCalls, UnixKernel

Time = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, le=10**9)]
Block = Annotated[bytes, UpTo(BLOCK_BYTES)]


class Nfs(Interface):
    """The file server's procedures: see `unix.FileService`."""

    def lookup(self, file: UInt32) -> UInt32:
        """Return a file's version, by its name."""

    def attributes(self, file: UInt32) -> UInt32:
        """Return a file's version."""

    def read(self, file: UInt32, block: UInt32) -> Block:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: Block) -> UInt32:
        """Replace a block; return the file's version."""

    def create(self, file: UInt32) -> UInt32:
        """Make a file; return its version."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file; return the version that another of its name would have."""


@dataclass
class NfsServer(Server, Nfs):
    """Keeps files, as versions: what is in them decides nothing. Blocks come from memory or the disk."""

    blocks: Number = 500  # in memory
    request_us: Time = 500.0
    disk_us: Time = 25_000.0

    def __post_init__(self) -> None:
        """Have files that nobody has written to."""
        self._versions: dict[int, int] = {}
        self._kept = Kept(self.blocks)
        self._requests = dict.fromkeys((one.name for one in Nfs.procedures), 0)
        self._block = bytes(BLOCK_BYTES)

    def lookup(self, file: int) -> int:
        """Find a file's name."""
        self._begin("lookup")
        return self._versions.get(file, 0)

    def attributes(self, file: int) -> int:
        """Look a file's attributes up."""
        self._begin("attributes")
        return self._versions.get(file, 0)

    def read(self, file: int, block: int) -> bytes:
        """Return a block, from memory or from the disk."""
        self._begin("read")
        key = block_key(file, block)
        if not self._kept.has(key, 0):
            self.domain.sleep(us=self.disk_us)
            self._kept.keep(key, 0)
        return self._block

    def write(self, file: int, block: int, data: bytes) -> int:
        """Write a block to the disk, as NFS promises, and keep it."""
        self._begin("write")
        self.domain.sleep(us=self.disk_us)
        self._kept.keep(block_key(file, block), 0)
        return self._change(file)

    def create(self, file: int) -> int:
        """Make a file."""
        self._begin("create")
        return self._change(file)

    def remove(self, file: int) -> int:
        """Remove a file."""
        self._begin("remove")
        return self._change(file)

    def findings(self) -> Findings:
        """Return requests by procedure, and how its memory served."""
        return {**self._requests, "hits": self._kept.hits, "misses": self._kept.misses}

    def _begin(self, procedure: str) -> None:
        self._requests[procedure] += 1
        self.domain.compute(us=self.request_us)

    def _change(self, file: int) -> int:
        version = self._versions[file] = self._versions.get(file, 0) + 1
        return version


@dataclass
class SunWorkstation(Program):
    """One workstation: its kernel, and a thread for each of its processes; imports its server as `nfs`.

    Memory holds the kernel itself, the blocks that it caches, and in what is left pages of programs.
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    memory_kb: Annotated[int, Field(ge=1, le=10**9)]
    kernel_kb: Number
    cache_kb: Number
    data_kb: Number = 0  # of memory, that programs' data take up
    names: Number = 300
    attributes_s: Time = 30.0
    write_delay_s: Time = 0.0
    update_s: Annotated[float, Field(gt=0, le=1e6)] = 30.0  # how often what has waited long enough is sent
    service_us: Time = 100.0

    def __post_init__(self) -> None:
        """Refuse caches that memory cannot hold."""
        taken = self.kernel_kb + self.cache_kb + self.data_kb
        if taken > self.memory_kb:
            raise Refused(
                f"memory_kb: {self.memory_kb}: kernel, cache and data take {taken}; give it more, or them less"
            )

    @property
    def imports(self) -> tuple[str, ...]:
        """Return the file server."""
        return ("nfs",)

    def run(self, domain: Domain) -> None:
        """Start all processes, and be the one that sends what has waited long enough."""
        kernel = domain.kernel
        owner = 0 if kernel.network is None else kernel.network.rank
        free = self.memory_kb - self.kernel_kb - self.cache_kb - self.data_kb
        self._unix = UnixKernel(
            kernel,
            bind(domain, Nfs, "nfs"),
            names=self.names,
            blocks=self.cache_kb * 1024 // BLOCK_BYTES,
            pages=free * 1024 // BLOCK_BYTES,
            attributes_ns=round(self.attributes_s * 1e9),
            write_delay_ns=round(self.write_delay_s * 1e9),
            service_ns=round(self.service_us * 1000),
        )
        library = self.library.library(kernel.seed, owner, BLOCK_BYTES)
        self._processes: dict[str, Process] = {}
        for name, table in self.processes.items():
            process = self._processes[name] = table.process(Dice(domain.random(name)), library, BLOCK_BYTES)
            domain.spawn(partial(process.run, UnixCalls(self._unix), table.end_ms), name)
        self._update(domain, max(table.end_ms for table in self.processes.values()))

    def findings(self) -> Findings:
        """Return what its caches came to, and what its processes did."""
        unix = self._unix
        caches = {"names": unix.names, "blocks": unix.blocks, "pages": unix.pages}
        return {
            **{f"{name}_{what}": getattr(one, what) for name, one in caches.items() for what in ("hits", "misses")},
            "attributes_asked": unix.attributes_asked,
            "attributes_believed": unix.attributes_believed,
            "blocks_written": unix.blocks_written,
            "blocks_dropped": unix.blocks_dropped,
            "faults": unix.faults,
            "tasks": {name: one.done for name, one in self._processes.items()},
        }

    def _update(self, domain: Domain, end_ms: int) -> None:
        if not self.write_delay_s:
            return
        while domain.now_us < end_ms * 1000:
            domain.sleep(us=self.update_s * 1e6)
            self._unix.flush_old()
