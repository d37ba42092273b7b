"""E-stacks: greenlets of the server's domain on which a client's thread runs the procedures it calls."""

from typing import TYPE_CHECKING

from greenlet import greenlet

from lrpc.kernel.errors import CallError, ProcedureRaised
from lrpc.kernel.simulated import transfer
from lrpc.kernel.simulated.astacks import AStack, Linkage
from lrpc.kernel.simulated.costs import COPY_BYTE, COPY_VALUE
from lrpc.kernel.simulated.memory import READ, WRITE

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Domain, Kernel


class EStack:
    """An execution stack of one server domain; it outlives the calls it runs."""

    def __init__(self, kernel: "Kernel", domain: "Domain") -> None:
        self.kernel = kernel
        self.domain = domain
        self.astack: AStack | None = None  # the one it was last used with
        self.greenlet = greenlet(self._run, kernel.engine.loop)

    def _run(self, linkage: Linkage) -> None:
        while True:
            fault = upcall(self.domain, linkage)
            linkage = transfer.leave(self.kernel, self, linkage, fault)


def upcall(server: "Domain", linkage: Linkage) -> CallError | None:
    """Enter the server's stub with the A-stack as the server sees it; return what the procedure raised."""
    astack = linkage.astack
    descriptor = linkage.binding.export.descriptors[linkage.procedure]
    processor = server.kernel.running_processor()
    processor.checkpoint()
    processor.spend(server.kernel.charges.server_stub)
    if descriptor.immutable_values:
        server.kernel.counts.copies["E"] += descriptor.immutable_values
        size = descriptor.immutable_size(astack.group.region.bytes, astack.offset)
        processor.copy(COPY_VALUE, COPY_BYTE, descriptor.immutable_values, size)
    try:
        buffer = server.memory.access(astack.group.region, READ | WRITE)
        descriptor.entry(buffer, astack.offset)
    except Exception as error:
        return raised(error)
    return None


def raised(error: Exception) -> ProcedureRaised:
    """Return what of a server's exception may cross a boundary: its name and its text."""
    try:
        text = str(error)
    except Exception as other:  # the server's code as well
        text = f"(it cannot say what: {type(other).__name__})"
    return ProcedureRaised(type(error).__name__, text)
