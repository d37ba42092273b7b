"""Sun UNIX with NFS: a workstation without a disk, whose kernel caches what its file server keeps."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from lrpc.domains.domain import Domain
from lrpc.domains.residents import Duration, Findings, Program
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.errors import Refused
from lrpc.workloads.systems.people import LibraryTable, Number, ProcessTable, done, owner_of, start
from lrpc.workloads.systems.storage import Storage
from lrpc.workloads.systems.unix import BLOCK_BYTES, UnixCalls, UnixKernel


@dataclass
class SunWorkstation(Program):
    """One workstation: its kernel, and a thread for each of its processes; imports its server as `nfs`.

    Memory holds the kernel itself, the blocks that it caches, and in what is left pages of programs and of their data.
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    memory_kb: Annotated[int, Field(ge=1, le=10**9)]
    kernel_kb: Number
    cache_kb: Number
    names: Number = 300
    attributes_s: Duration = 30.0
    write_delay_s: Duration = 0.0
    update_s: Annotated[float, Field(gt=0, le=1e6)] = 30.0  # how often what has waited long enough is sent
    service_us: Duration = 100.0

    def __post_init__(self) -> None:
        """Refuse caches that memory cannot hold."""
        taken = self.kernel_kb + self.cache_kb
        if taken > self.memory_kb:
            raise Refused(f"memory_kb: {self.memory_kb}: kernel and cache take {taken}; give it more, or them less")

    @property
    def imports(self) -> tuple[str, ...]:
        """Return the file server."""
        return ("nfs",)

    @property
    def planned_calls(self) -> int:
        """Return about how many operations its processes do."""
        return sum(process.planned(self.library, BLOCK_BYTES) for process in self.processes.values())

    def run(self, domain: Domain) -> None:
        """Start all processes, and be the one that sends what has waited long enough."""
        kernel = simulated(domain).kernel
        free = self.memory_kb - self.kernel_kb - self.cache_kb
        self._unix = UnixKernel(
            kernel,
            domain.bind(Storage, "nfs"),
            names=self.names,
            blocks=self.cache_kb * 1024 // BLOCK_BYTES,
            pages=free * 1024 // BLOCK_BYTES,
            attributes_ns=round(self.attributes_s * 1e9),
            write_delay_ns=round(self.write_delay_s * 1e9),
            service_ns=round(self.service_us * 1000),
        )
        library = self.library.library(kernel.seed, owner_of(domain), BLOCK_BYTES)
        self._processes = start(self.processes, library, domain, UnixCalls(self._unix), BLOCK_BYTES)
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
            "pages_in": unix.pages_in,
            "pages_out": unix.pages_out,
            "tasks": done(self._processes),
        }

    def _update(self, domain: Domain, end_ms: int) -> None:
        if not self.write_delay_s:
            return
        while domain.now_us < end_ms * 1000:
            domain.sleep(us=self.update_s * 1e6)
            self._unix.flush_old()
