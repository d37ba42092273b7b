"""E-stacks: execution stacks of a server's domain, on which a client's thread runs its procedures.

An E-stack is a greenlet. For a call, the kernel switches from the client's stack to a greenlet of
the server's domain, and for the return, back. So a client's thread continues in the server's
domain, and procedures stay plain Python methods.

E-stacks are associated with A-stacks on demand and stay with them, so that the pair is ready for
the next call (section 3.2). Above a domain's limit, an A-stack that needs an E-stack gets the idle
one that was used longest ago, taken from another A-stack.
"""

from typing import TYPE_CHECKING, Final

from lrpc.kernel.simulated import transfer
from lrpc.kernel.simulated.threads import Stack

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import AStack, Linkage
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel

MOST_ESTACKS: Final = 64  # a domain's limit by default


class EStack(Stack):
    """An execution stack of one server domain; one call after another runs on it."""

    def __init__(self, kernel: "Kernel", domain: "ProtectionDomain") -> None:
        super().__init__(self._run, kernel.engine.loop)
        self.kernel = kernel
        self.domain = domain
        # The A-stack that it stays with, and whose `estack` is this one.
        self.astack: AStack | None = None
        self.idle = True
        self.used = 0  # the pool's count of uses when it was given back last
        self.dead = False  # dropped: it must not return to a caller

    def _run(self, linkage: "Linkage") -> None:
        while True:
            fault = transfer.upcall(self.domain, linkage)
            if self.dead:
                return
            linkage = transfer.leave(self.kernel, self, linkage, fault)  # of the next call


class EStackPool:
    """The E-stacks of one domain.

    There are at most `limit`, except while more calls than that are in progress.
    """

    def __init__(self, kernel: "Kernel", domain: "ProtectionDomain") -> None:
        self.kernel = kernel
        self.domain = domain
        self.limit = MOST_ESTACKS
        self.made = 0
        self.reclaimed = 0  # times that one was taken from an A-stack for another
        self.members: list[EStack] = []
        self._uses = 0

    def take(self, astack: "AStack") -> EStack:
        """Return the E-stack of an A-stack, for a call; first associate one if there is none."""
        estack = astack.estack
        if estack is None or estack.astack is not astack:
            estack = self._associate(astack)
        estack.idle = False
        return estack

    def keeps(self, astack: "AStack") -> bool:
        """Return whether a call on an A-stack has an E-stack there, which it leaves as it is."""
        estack = astack.estack
        return estack is not None and estack.astack is astack and len(self.members) <= self.limit

    def use(self, astack: "AStack") -> None:
        """Note that the E-stack of an A-stack was used, and is idle again."""
        estack = astack.estack
        assert estack is not None
        self._uses += 1
        estack.used = self._uses

    def give_back(self, estack: EStack) -> None:
        """Make an E-stack idle; it stays with its A-stack.

        Above the limit, the one used longest ago is dropped.
        """
        estack.idle = True
        self._uses += 1
        estack.used = self._uses
        if len(self.members) > self.limit:
            oldest = self._oldest()
            assert oldest is not None  # this one at least is idle
            self.drop(oldest)

    def drop(self, estack: EStack) -> None:
        """Remove an E-stack and reap it. It is idle, or the call on it must not resume."""
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
        """Return the idle E-stack that was used longest ago, None if all are busy."""
        oldest: EStack | None = None
        for estack in self.members:
            if estack.idle and (oldest is None or estack.used < oldest.used):
                oldest = estack
        return oldest
