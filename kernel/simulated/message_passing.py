"""Message-passing RPC, the baseline: SRC RPC on Taos, and the other systems of Tables II and III.

It runs on the same engine as LRPC. Concrete threads are fixed in their domains and signal each
other. One global lock is held over most of the transfer path. A call is validated on its way to the
server and again on its way back. The copies made on the way are those of the kernel's discipline
(Table III): each moves the message's bytes from one domain's memory to the next place, and a call
whose bytes one of them does not move gets what lay there before.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError, CallFailed, ForgedBinding, NoSuchProcedure, raised
from lrpc.kernel.simulated.costs import (
    ARGUMENT_PATHS,
    COPIES,
    KERNEL,
    RECEIVER,
    RESULT_PATHS,
    SENDER,
    SHARED,
    STACK,
    STUB,
)
from lrpc.kernel.simulated.locks import WaitQueue
from lrpc.kernel.simulated.log import MESSAGE, REPLY
from lrpc.kernel.simulated.memory import POISON, READ, WRITE, Region
from lrpc.kernel.simulated.threads import Thread

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import Export, ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel


HEADER: Final = 8  # bytes ahead of arguments and results: the message's number, which a reply presents


class MessageBuffer:
    """The memory that one message is in on its way: a region at each of its places."""

    __slots__ = ("client", "mapped", "regions", "room")

    def __init__(self, client: "ProtectionDomain") -> None:
        self.client = client
        self.regions: dict[str, Region] = {}
        self.room = 0  # bytes of each region
        self.mapped = True  # until it is dropped from its pool


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
        places = [place for path in paths for place in path if place not in (STUB, STACK)]
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
        if self._closed:
            return MessageBuffer(client)
        if len(self._free) <= self.waiting.woken and len(self.members) == self.most:
            self.waiting.wait()
        buffer = self._taken(client)
        self.fit(buffer, size)
        return buffer

    def put_back(self, buffer: MessageBuffer) -> None:
        """Put a buffer back, and wake one thread that waits for one; does nothing once closed."""
        if buffer not in self.members:
            return
        if not buffer.client.live:
            self._drop(buffer)
        else:
            self._free.append(buffer)
        self.waiting.wake_one()

    def fit(self, buffer: MessageBuffer, size: int) -> None:
        """Make room for so many bytes in a buffer; what is in it stays."""
        if HEADER + size <= buffer.room:
            return
        buffer.room = HEADER + size
        for place in self._places:
            region = self.kernel.memory.allocate(buffer.room)
            old = buffer.regions.get(place)
            for domain in self._domains_of(buffer, place) if buffer.mapped else ():
                if old is not None:
                    domain.memory.unmap(old)
                domain.memory.map(region, READ | WRITE)
            if old is not None:
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
            for place, region in buffer.regions.items()
            if domain in self._domains_of(buffer, place)
        ]

    def leave(self, domain: "ProtectionDomain", sent: list[MessageBuffer]) -> None:
        """Unmap all buffers from a domain that is about to terminate.

        Its own are dropped, but those that were `sent` and are at the server.
        """
        for buffer in [one for one in self.members if one.client is domain and one not in sent]:
            if buffer in self._free:
                self._free.remove(buffer)
            self._drop(buffer)
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
        for place, region in buffer.regions.items():
            for domain in self._domains_of(buffer, place):
                domain.memory.unmap(region)

    def _domains_of(self, buffer: MessageBuffer, place: str) -> "list[ProtectionDomain]":
        """Return the live domains to which a place is mapped."""
        if place == SHARED:
            return list(self.kernel.domains.values())
        owner = {SENDER: buffer.client, RECEIVER: self.server}.get(place)
        return [owner] if owner is not None and owner.live else []


def _access(domain: "ProtectionDomain", buffer: MessageBuffer, place: str, right: int) -> bytearray:
    """Return a buffer's bytes as a domain accesses them; raise `AccessFault` where it may not.

    Where the domain or the server has just terminated, nothing is mapped, but threads go on with
    what they have until they are stopped, or have their reply.
    """
    region = buffer.regions[place]
    return domain.memory.access(region, right) if domain.live and buffer.mapped else region.bytes


class Message:
    """A call's arguments and results, on their way, and the thread that waits for the reply."""

    def __init__(self, number: int, procedure: int, packed: bytes, sender: Thread, buffer: MessageBuffer) -> None:
        self.number = number
        self.procedure = procedure
        self.packed = packed  # the arguments, in the client stub
        self.size = len(packed)  # bytes of arguments
        self.stack = bytearray([POISON]) * self.size  # where copy E puts them
        self.result_size = 0
        self.results = b""
        self.sender: Thread | None = sender
        self.abandoned = False
        self.buffer = buffer
        self.fault: CallError | None = None

    def abandon(self) -> None:
        """Stop waiting for the reply; a late one is dropped and counted."""
        self.sender = None
        self.abandoned = True


class Port:
    """The place where messages for one export arrive, and the concrete threads that serve them.

    Raises `Refused` if the cost model has no costs for message passing.
    """

    def __init__(self, kernel: "Kernel", export: "Export") -> None:
        kernel.costs.require("message passing")
        self.kernel = kernel
        self.export = export
        self.descriptors = list(export.descriptors)
        mutable, immutable, _ = COPIES[kernel.discipline]
        self._mutable = mutable
        self._immutable = immutable
        self._argument_path = ARGUMENT_PATHS[kernel.discipline]
        self._result_path = RESULT_PATHS[kernel.discipline]
        # Where the server finds arguments, and puts results.
        self._own_place = SHARED if kernel.discipline == "shared buffers" else RECEIVER
        passing = kernel.costs.file.message_passing
        assert passing is not None
        self.buffers = MessageBuffers(kernel, export.domain, export.name, passing.buffers)
        self._sent = 0
        self.fault: CallError | None = None  # what callers get, once the port is closed
        self._messages: deque[Message] = deque()  # waiting for a concrete thread
        self._idle: deque[Thread] = deque()  # concrete threads waiting for a message
        # The message that each other concrete thread serves, or will find when it resumes.
        self._handed: dict[Thread, Message] = {}
        for number in range(max(descriptor.simultaneous for descriptor in export.descriptors)):
            thread = kernel.new_thread(f"{export.name}/server{number}", export.domain, self._serve)
            thread.serves = True
            thread.port = self
            self._idle.append(thread)

    def call(self, key: BindingObject, procedure: int, arguments: bytes) -> bytes:
        """Send packed arguments to the server, wait for the reply, and return its packed results.

        Raises `ForgedBinding`, `NoSuchProcedure`, `ProcedureRaised`, `CallFailed` or `CallAborted`.
        """
        kernel = self.kernel
        thread = kernel.running_thread()
        if not 0 <= procedure < len(self.descriptors):
            raise NoSuchProcedure(f"{self.export.name}: procedure {procedure}: it has {len(self.descriptors)}, from 0")
        self._sent += 1
        buffer = self.buffers.take(thread.domain, len(arguments))
        message = Message(self._sent, procedure, arguments, thread, buffer)
        try:  # in one function: a call within a call then needs one frame less
            processor = kernel.running_processor()
            charges = processor.charges
            self._copy_arguments(message, "A")
            processor.spend(charges.trap)
            if kernel.check_key(key, thread.domain).export is not self.export:
                raise ForgedBinding(f"Binding Object {key.claimed_number}: it is not for {self.export.name}")
            self._copy_arguments(message, "BD")
            kernel.transfer_lock.hold(processor, charges.message_transfer)
            if self.fault is not None:
                raise self.fault.copy()
            kernel.counts.cross_domain += 1
            kernel.log.add(processor.clock, MESSAGE, thread.number, procedure)
            thread.outstanding = message
            if self._idle:
                server = self._idle.popleft()
                self._handed[server] = message
                kernel.wake(server)
            else:
                self._messages.append(message)
            fault = kernel.block(f"a reply from {self.export.name}") or message.fault
            if fault is not None:
                raise fault
            self._copy_results(message, "CF")
            kernel.running_processor().checkpoint()
            return message.results
        finally:
            if not message.abandoned:  # else the server still has it, and gives its buffer back
                self.buffers.put_back(buffer)

    def caller_of(self, server: Thread) -> Thread | None:
        """Return the thread whose call a concrete thread serves; None if it was released."""
        message = self._handed.get(server)
        return None if message is None else message.sender

    def close(self, fault: CallError) -> None:
        """Close the port: refuse new messages, and fail waiting callers with a copy of `fault`."""
        self.fault = fault
        for message in (*self._handed.values(), *self._messages):
            self._reply(message, fault.copy())
        self._messages.clear()
        self._handed.clear()
        self.buffers.close(fault)

    def leave(self, domain: "ProtectionDomain") -> None:
        """Take a domain that is about to terminate off the buffers."""
        self.buffers.leave(domain, [message.buffer for message in (*self._handed.values(), *self._messages)])

    def pass_message_to(self, captured: Thread, successor: Thread) -> None:
        """Hand the message of a captured concrete thread over to its successor."""
        successor.port = self
        self._handed[successor] = self._handed.pop(captured)

    def _serve(self) -> None:
        """Receive, dispatch and reply, over and over: the body of a concrete thread."""
        kernel = self.kernel
        thread = kernel.running_thread()
        while True:
            message = self._handed[thread]
            self._dispatch(message)
            processor = kernel.running_processor()
            # One system call replies and receives the next message.
            processor.spend(processor.charges.trap)
            self._validate_reply(message)
            self._copy_results(message, "B")
            kernel.transfer_lock.hold(processor, processor.charges.message_transfer)
            thread = kernel.running_thread()  # a successor, if a call by the procedure was aborted
            del self._handed[thread]  # only now: a port that closes earlier must find the message
            kernel.log.add(processor.clock, REPLY, thread.number, message.procedure)
            if self._messages:
                self._handed[thread] = self._messages.popleft()
            else:
                self._idle.append(thread)
            if message.sender is None:
                kernel.counts.replies_dropped += 1
                self.buffers.put_back(message.buffer)
            else:
                self._reply(message, None)
            if thread not in self._handed:
                kernel.block("a message")

    def _reply(self, message: Message, fault: CallError | None) -> None:
        sender = message.sender
        if sender is not None:
            message.sender = None
            sender.outstanding = None
            self.kernel.wake(sender, fault)

    def _dispatch(self, message: Message) -> None:
        self._copy_arguments(message, "C")
        processor = self.kernel.running_processor()
        processor.spend(processor.charges.message_dispatch)
        processor.checkpoint()
        self._copy_arguments(message, "E")
        try:
            results = self.descriptors[message.procedure].entry(self._found(message), 0)
            self._place(message, results)
        except Exception as error:
            message.fault = raised(error)

    def _validate_reply(self, message: Message) -> None:
        """Check that the number which a reply presents is that of the message its thread serves.

        It lies where the server has the message. Another fails the call.
        """
        lies = _access(self.export.domain, message.buffer, self._own_place, READ)
        presented = int.from_bytes(lies[:HEADER], "little")
        if presented != message.number:
            message.fault = CallFailed(
                f"{self.export.name}: its reply was to message {presented}, not to {message.number}, which it serves"
            )

    def _found(self, message: Message) -> bytes:
        """Return the arguments as the procedure finds them: where they lie, or on the stack."""
        domain, end = self.export.domain, HEADER + message.size
        found = _access(domain, message.buffer, self._own_place, READ)[HEADER:end]
        for at, size in self._copied(message, found):
            found[at : at + size] = message.stack[at : at + size]
        return bytes(found)

    def _place(self, message: Message, results: bytes) -> None:
        """Put the results where the server has the message."""
        message.result_size = size = len(results)
        message.results = bytes([POISON]) * size
        self.buffers.fit(message.buffer, size)
        lies = _access(self.export.domain, message.buffer, self._own_place, WRITE)
        lies[HEADER : HEADER + size] = results

    def _copied(self, message: Message, packed: bytearray) -> list[tuple[int, int]]:
        """Return which bytes of packed arguments copy E moves to the stack: (offset, bytes)."""
        if "E" in self._mutable:
            return [(0, message.size)]
        spans = self.descriptors[message.procedure].private_spans(packed, 0)
        return [(at, min(size, message.size - at)) for at, size in spans if at < message.size]

    def _move_arguments(self, message: Message, letter: str) -> None:
        """Move a message, with its number, by the copy of this letter."""
        source, target = self._argument_path[letter]
        regions, end = message.buffer.regions, HEADER + message.size
        if source == STUB:
            memory = _access(message.buffer.client, message.buffer, target, WRITE)
            memory[:HEADER] = message.number.to_bytes(HEADER, "little")
            memory[HEADER:end] = message.packed
        elif target == STACK:
            found = _access(self.export.domain, message.buffer, source, READ)[HEADER:end]
            for at, size in self._copied(message, found):
                message.stack[at : at + size] = found[at : at + size]
        else:
            regions[target].bytes[:end] = regions[source].bytes[:end]

    def _move_results(self, message: Message, letter: str) -> None:
        """Move the results, with the message's number, by the copy of this letter."""
        source, target = self._result_path[letter]
        regions, end = message.buffer.regions, HEADER + message.result_size
        if target != STUB:
            regions[target].bytes[:end] = regions[source].bytes[:end]
        elif source == KERNEL:  # which copies them to where the client wants them
            message.results = bytes(regions[source].bytes[HEADER:end])
        else:
            message.results = bytes(_access(message.buffer.client, message.buffer, source, READ)[HEADER:end])

    def _copy_arguments(self, message: Message, letters: str) -> None:
        """Make the copies of arguments that the discipline makes, of those in `letters`."""
        descriptor = self.descriptors[message.procedure]
        immutable = descriptor.private_values
        private_size = descriptor.private_size(message.packed, 0) if immutable else 0
        for letter in letters:
            if letter not in self._argument_path:
                continue
            if self.fault is None:  # a port that is closed takes no message
                self._move_arguments(message, letter)
            values = size = 0
            if letter in self._mutable:
                values += descriptor.argument_values - immutable
                size += message.size - private_size
            if letter in self._immutable:
                values += immutable
                size += private_size
            if values:
                processor = self.kernel.running_processor()
                processor.clock += processor.charges.copy_arguments(values, size)
                self.kernel.counts.copies[letter] += values

    def _copy_results(self, message: Message, letters: str) -> None:
        """Make the copies of results that the discipline makes, of those in `letters`.

        An error has no results to copy.
        """
        values = self.descriptors[message.procedure].result_values
        if message.fault is not None or not values:
            return
        for letter in letters:
            if letter in self._result_path:
                self._move_results(message, letter)
                processor = self.kernel.running_processor()
                processor.clock += processor.charges.copy_results(values, message.result_size)
                self.kernel.counts.copies[letter] += values
