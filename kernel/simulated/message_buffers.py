"""The buffers of message passing: which memory a message is in, and which domains can reach it."""

from typing import TYPE_CHECKING, Final

from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.disciplines import ARGUMENT_PATHS, KERNEL, RESULT_PATHS, SENDER, SHARED, STUB
from lrpc.kernel.simulated.locks import WaitQueue
from lrpc.kernel.simulated.memory import READ, WRITE, Region

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.message_passing import Message

HEADER: Final = 8  # bytes ahead of arguments and results: the message's number, which a reply presents
_NOWHERE: Final = Region(0, 0)  # the memory of a place where no message of a discipline is


class MessageBuffer:
    """The memory that one message is in on its way: a region at each of its places."""

    __slots__ = ("client", "mapped", "message", "regions", "room")

    def __init__(self, client: "ProtectionDomain") -> None:
        self.client = client
        self.regions: list[Region] = [_NOWHERE] * STUB  # by place
        self.room = 0  # bytes of each region
        self.mapped = True  # until it is dropped from its pool
        self.message: Message | None = None  # that it is the memory of, or was


class MessageBuffers:
    """The pool of a server's message buffers: its clients wait where all are in use.

    A buffer of a client's own memory, or of the server's, is mapped to no other domain. One that is
    shared is mapped to all, as on Taos: any of them can read and corrupt what passes through it.
    """

    def __init__(self, kernel: "Kernel", server: "ProtectionDomain", what: str, most: int) -> None:
        self.kernel = kernel
        self.server = server
        self.most = most
        self.waiting = WaitQueue(kernel, f"a message buffer of {what}")
        self.members: list[MessageBuffer] = []
        self._free: list[MessageBuffer] = []  # the last one is taken first
        paths = (*ARGUMENT_PATHS[kernel.discipline].values(), *RESULT_PATHS[kernel.discipline].values())
        places = [place for path in paths for place in path if place < STUB]
        self._places = list(dict.fromkeys(places))
        self._closed = False

    @property
    def free_count(self) -> int:
        """Return how many buffers are in use by no message."""
        return len(self._free)

    def take(self, client: "ProtectionDomain", size: int) -> MessageBuffer:
        """Take a buffer with room for so many bytes; wait where all are in use.

        Raises the error that `close` gave to those that wait. Once closed, buffers have no memory.
        """
        free = self._free
        if self.has_at_hand(client, size):  # the usual case
            return free.pop()
        if not self._closed and len(free) + self.most - len(self.members) <= self.waiting.woken:
            self.waiting.wait()
        if self._closed:  # perhaps since this thread was woken
            buffer = MessageBuffer(client)
            buffer.mapped = False
            return buffer
        buffer = self._taken(client)
        self.fit(buffer, size)
        return buffer

    def has_at_hand(self, client: "ProtectionDomain", size: int) -> bool:
        """Return whether a message of a client's with so many bytes finds its buffer on top."""
        free = self._free
        return len(free) > self.waiting.woken and free[-1].client is client and HEADER + size <= free[-1].room

    def put_back(self, buffer: MessageBuffer) -> None:
        """Put a buffer back, and wake one thread that waits for one; does nothing once closed."""
        if not buffer.mapped:
            return
        if buffer.client.live:
            self._free.append(buffer)
        else:
            self._drop(buffer)
        if self.waiting.waiting:
            self.waiting.wake_one()

    def fit(self, buffer: MessageBuffer, size: int) -> None:
        """Make room for so many bytes in a buffer; what is in it stays."""
        if HEADER + size <= buffer.room:
            return
        buffer.room = HEADER + size
        for place in self._places:
            region = self.kernel.memory.allocate(buffer.room)
            old = buffer.regions[place]
            for domain in self._domains_of(buffer, place) if buffer.mapped else ():
                if old is not _NOWHERE:
                    domain.memory.unmap(old)
                domain.memory.map(region, READ | WRITE)
            region.bytes[: len(old.bytes)] = old.bytes
            buffer.regions[place] = region

    def share_with(self, domain: "ProtectionDomain") -> None:
        """Map the buffers that are shared to a new domain as well."""
        for region in self.mapped(domain):
            domain.memory.map(region, READ | WRITE)

    def mapped(self, domain: "ProtectionDomain") -> list[Region]:
        """Return the regions that are, or must be, mapped to a domain."""
        return [
            region
            for buffer in self.members
            for place, region in enumerate(buffer.regions)
            if region is not _NOWHERE and domain in self._domains_of(buffer, place)
        ]

    def leave(self, domain: "ProtectionDomain", sent: list[MessageBuffer]) -> None:
        """Unmap all buffers from a domain that is about to terminate.

        Its own are dropped, but those that were `sent` and are at the server.
        """
        self.waiting.leave_all(domain)
        for buffer in [one for one in self.members if one.client is domain and one not in sent]:
            free = buffer in self._free
            if free:
                self._free.remove(buffer)
            self._drop(buffer)
            if not free:  # in its place another can be made
                self.waiting.wake_one()
        for region in self.mapped(domain):
            domain.memory.unmap(region)

    def close(self, fault: CallError) -> None:
        """Unmap all buffers, and fail those that wait for one with `fault`."""
        self._closed = True
        for buffer in list(self.members):
            self._drop(buffer)
        self._free.clear()
        self.waiting.fail_all(fault)

    def _taken(self, client: "ProtectionDomain") -> MessageBuffer:
        """Return a buffer of a client's: a free one, a new one, or another client's free one."""
        for at in range(len(self._free) - 1, -1, -1):
            if self._free[at].client is client:
                return self._free.pop(at)
        if len(self.members) == self.most:
            self._drop(self._free.pop(0))
        buffer = MessageBuffer(client)
        self.members.append(buffer)
        return buffer

    def _drop(self, buffer: MessageBuffer) -> None:
        self.members.remove(buffer)
        buffer.mapped = False
        for place in self._places:
            for domain in self._domains_of(buffer, place):
                domain.memory.unmap(buffer.regions[place])

    def _domains_of(self, buffer: MessageBuffer, place: int) -> "list[ProtectionDomain]":
        """Return the live domains to which a place is mapped."""
        if place == SHARED:
            return list(self.kernel.domains.values())
        if place == KERNEL:
            return []
        owner = buffer.client if place == SENDER else self.server
        return [owner] if owner.live else []
