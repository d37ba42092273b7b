"""Sun UNIX with NFS: a diskless workstation whose kernel caches files of its file server."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from lrpc.domains.domain import Domain
from lrpc.domains.residents import Duration, Findings, Program
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.errors import Refused
from lrpc.workloads.systems.people import LibraryTable, Number, ProcessTable, start_processes, tasks_done
from lrpc.workloads.systems.storage import Storage
from lrpc.workloads.systems.unix import BLOCK_BYTES, UnixCalls, UnixKernel


@dataclass
class SunWorkstation(Program):
    """One workstation: its kernel, and a thread for each of its processes.

    It imports its file server as `nfs`. Memory holds the kernel itself (`kernel_kb`) and its block
    cache (`cache_kb`). The rest holds pages of programs and of their data.
    """

    processes: dict[str, ProcessTable]
    library: LibraryTable
    memory_kb: Annotated[int, Field(ge=1, le=10**9)]
    kernel_kb: Number
    cache_kb: Number
    names: Number = 300
    attributes_s: Duration = 30.0
    write_delay_s: Duration = 0.0
    # The interval at which delayed writes that are old enough are sent.
    update_s: Annotated[float, Field(gt=0, le=1e6)] = 30.0
    service_us: Duration = 100.0

    def __post_init__(self) -> None:
        """Refuse a kernel and a cache that do not fit into memory."""
        taken = self.kernel_kb + self.cache_kb
        if taken > self.memory_kb:
            raise Refused(f"memory_kb: {self.memory_kb}: kernel and cache take {taken}; give it more, or them less")

    @property
    def imports(self) -> tuple[str, ...]:
        """Return the name under which the file server is imported."""
        return ("nfs",)

    @property
    def planned_calls(self) -> int:
        """Return about how many operations its processes make."""
        return sum(process.planned(self.library, BLOCK_BYTES) for process in self.processes.values())

    def run(self, domain: Domain) -> None:
        """Start all processes, then send delayed writes at intervals until the processes end."""
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
        self._processes = start_processes(self.processes, self.library, domain, UnixCalls(self._unix), BLOCK_BYTES)
        self._flush_at_intervals(domain, max(table.end_ms for table in self.processes.values()))

    def findings(self) -> Findings:
        """Return the counts of its caches and faults, and of the tasks performed."""
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
            "opens": unix.opens,
            "changed_by_others": unix.changed_by_others,
            "tasks": tasks_done(self._processes),
        }

    def _flush_at_intervals(self, domain: Domain, end_ms: int) -> None:
        if not self.write_delay_s:
            return
        while domain.now_us < end_ms * 1000:
            domain.sleep(us=self.update_s * 1e6)
            self._unix.flush_old()
