"""E-stacks: stacks of the server's domain on which a client's thread runs the procedures it calls."""

from typing import TYPE_CHECKING, Final

from lrpc.kernel.simulated import transfer
from lrpc.kernel.simulated.threads import Stack

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import AStack, Linkage
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel

MOST_ESTACKS: Final = 64  # that a domain keeps, unless it says otherwise


class EStack(Stack):
    """An execution stack of one server domain; it outlives the calls it runs."""

    def __init__(self, kernel: "Kernel", domain: "ProtectionDomain") -> None:
        super().__init__(self._run, kernel.engine.loop)
        self.kernel = kernel
        self.domain = domain
        self.astack: AStack | None = None  # the one it stays with
        self.idle = True
        self.used = 0  # when it was last given back, by the pool's count
        self.dead = False

    def _run(self, linkage: "Linkage") -> None:
        while True:
            fault = transfer.upcall(self.domain, linkage)
            if self.dead:
                return
            linkage = transfer.leave(self.kernel, self, linkage, fault)


class EStackPool:
    """The E-stacks of one domain: associated with A-stacks on demand, reclaimed from those used longest ago.

    There are at most `limit`, but while more calls than that are in progress.
    """

    def __init__(self, kernel: "Kernel", domain: "ProtectionDomain") -> None:
        self.kernel = kernel
        self.domain = domain
        self.limit = MOST_ESTACKS
        self.made = 0
        self.reclaimed = 0  # taken from an A-stack for another
        self.members: list[EStack] = []
        self._uses = 0

    def take(self, astack: "AStack") -> EStack:
        """Return the E-stack that stays with an A-stack, or associate one with it."""
        estack = astack.estack
        if estack is None or estack.astack is not astack:
            estack = self._associate(astack)
        estack.idle = False
        return estack

    def give_back(self, estack: EStack) -> None:
        """Have an E-stack idle again, with its A-stack; drop the one used longest ago where there are too many."""
        estack.idle = True
        self._uses += 1
        estack.used = self._uses
        if len(self.members) > self.limit:
            oldest = self._oldest()
            assert oldest is not None  # this one at least is idle
            self.drop(oldest)

    def drop(self, estack: EStack) -> None:
        """End an E-stack that no call is on, or whose call will not go on."""
        self.members.remove(estack)
        if estack.astack is not None:
            estack.astack.estack = None
        estack.astack = None
        estack.dead = True
        self.kernel.reap_soon(estack)

    def _associate(self, astack: "AStack") -> EStack:
        estack = next((one for one in self.members if one.astack is None and one.idle), None)
        if estack is None and len(self.members) >= self.limit:
            estack = self._oldest()
        if estack is None:
            self.made += 1
            estack = EStack(self.kernel, self.domain)
            self.members.append(estack)
        elif estack.astack is not None:
            self.reclaimed += 1
            estack.astack.estack = None
        estack.astack = astack
        astack.estack = estack
        return estack

    def _oldest(self) -> EStack | None:
        """Return the idle E-stack that was used longest ago."""
        oldest: EStack | None = None
        for estack in self.members:
            if estack.idle and (oldest is None or estack.used < oldest.used):
                oldest = estack
        return oldest
