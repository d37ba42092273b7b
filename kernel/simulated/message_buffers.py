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
_NO_NUMBER: Final = memoryview(bytearray(HEADER)).cast("Q")


class MessageBuffer:
    """The memory that one message is in on its way: a region at each of its places."""

    __slots__ = ("below", "client", "mapped", "message", "numbers", "regions", "room")

    def __init__(self, client: "ProtectionDomain") -> None:
        self.client = client
        self.regions: list[Region] = [_NOWHERE] * STUB  # by place
        # The first `HEADER` bytes of each region, as the number that they are: compiled code gets
        # at that in a third of the time that bytes of it take.
        self.numbers: list[memoryview] = [_NO_NUMBER] * STUB
        self.room = 0  # bytes of each region
        self.mapped = True  # until it is dropped from its pool
        self.message: Message | None = None  # that it is the memory of, or was
        self.below: MessageBuffer | None = None  # the one that was freed before it, while it is free


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
        self._top: MessageBuffer | None = None  # of those that are free: it is taken first
        self.free_count = 0  # how many are in use by no message
        paths = (*ARGUMENT_PATHS[kernel.discipline].values(), *RESULT_PATHS[kernel.discipline].values())
        places = [place for path in paths for place in path if place < STUB]
        self._places = list(dict.fromkeys(places))
        self._closed = False

    @property
    def free(self) -> list[MessageBuffer]:
        """Return the buffers that are in use by no message; the last one is taken first."""
        found, one = [], self._top
        while one is not None:
            found.append(one)
            one = one.below
        found.reverse()
        return found

    def take(self, client: "ProtectionDomain", size: int) -> MessageBuffer:
        """Take a buffer with room for so many bytes; wait where all are in use.

        Raises the error that `close` gave to those that wait. Once closed, buffers have no memory.
        """
        top = self._top
        if top is not None and self.has_at_hand(client, size):  # the usual case
            self._top = top.below
            self.free_count -= 1
            return top
        if not self._closed and self.free_count + self.most - len(self.members) <= self.waiting.woken:
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
        top = self._top
        if top is None or top.client is not client or HEADER + size > top.room:
            return False
        return self.free_count > self.waiting.woken

    def put_back(self, buffer: MessageBuffer) -> None:
        """Put a buffer back, and wake one thread that waits for one; does nothing once closed."""
        if not buffer.mapped:
            return
        if buffer.client.live:
            buffer.below, self._top = self._top, buffer
            self.free_count += 1
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
            buffer.numbers[place] = memoryview(region.bytes)[:HEADER].cast("Q")

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
            free = buffer in self.free
            if free:
                self._take_off(buffer)
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
        self._top, self.free_count = None, 0
        self.waiting.fail_all(fault)

    def _taken(self, client: "ProtectionDomain") -> MessageBuffer:
        """Return a buffer of a client's: a free one, a new one, or another client's free one."""
        one = self._top
        while one is not None:
            if one.client is client:
                self._take_off(one)
                return one
            one = one.below
        if len(self.members) == self.most:
            first = self.free[0]
            self._take_off(first)
            self._drop(first)
        buffer = MessageBuffer(client)
        self.members.append(buffer)
        return buffer

    def _take_off(self, buffer: MessageBuffer) -> None:
        """Take a free buffer from among the others."""
        above, one = None, self._top
        while one is not None and one is not buffer:
            above, one = one, one.below
        if above is None:
            self._top = buffer.below
        else:
            above.below = buffer.below
        self.free_count -= 1

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
