"""Message-passing RPC, the baseline: SRC RPC on Taos, and the other systems of Tables II and III.

It runs on the same engine as LRPC. Concrete threads are fixed in their domains and signal each
other. In SRC RPC one global lock is held over most of the transfer path; a cost model says over
which steps. A call is validated on its way to the server and again on its way back. The copies made
on the way are those of the kernel's discipline (Table III): each moves the message's bytes from one
domain's memory to the next place, and a call whose bytes one of them does not move gets what lay
there before.
"""

from collections import deque
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError, CallFailed, ForgedBinding, NoSuchProcedure, raised
from lrpc.kernel.simulated.disciplines import (
    ARGUMENT_PATHS,
    COPIES,
    KERNEL,
    RECEIVER,
    RESULT_PATHS,
    SHARED,
    STACK,
    STUB,
)
from lrpc.kernel.simulated.log import MESSAGE
from lrpc.kernel.simulated.memory import POISONED, READ, WRITE, beside, copy_private
from lrpc.kernel.simulated.message_buffers import HEADER, MessageBuffer, MessageBuffers
from lrpc.kernel.simulated.message_turns import ConcreteThread
from lrpc.kernel.simulated.threads import Thread

if TYPE_CHECKING:
    from lrpc.kernel.simulated.bindings import Grant
    from lrpc.kernel.simulated.domain import Export, ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor


class CopyStep:
    """One copy of a discipline's: its letter, from where to where, and what it counts."""

    __slots__ = ("immutable", "letter", "mutable", "source", "target")

    def __init__(self, letter: str, path: tuple[int, int], mutable: bool, immutable: bool) -> None:
        self.letter = letter
        self.source, self.target = path
        self.mutable = mutable
        self.immutable = immutable


def _access(domain: "ProtectionDomain", buffer: MessageBuffer, place: int, right: int) -> bytearray:
    """Return a buffer's bytes as a domain accesses them; raise `AccessFault` where it may not.

    Where the domain or the server has just terminated, nothing is mapped, but threads go on with
    what they have until they are stopped, or have their reply.
    """
    region = buffer.regions[place]
    return domain.memory.access(region, right) if domain.live and buffer.mapped else region.bytes


class Message:
    """A call's arguments and results, on their way, and the thread that waits for the reply.

    It is used for one call after another, of those that have its buffer.
    """

    def __init__(self, buffer: MessageBuffer) -> None:
        self.buffer = buffer
        self.number = 0  # as its header has it
        self.procedure = 0
        self.packed = b""  # the arguments, in the client stub
        self.end = HEADER  # bytes of the header and the arguments
        self.private_size = 0  # bytes of arguments that copy E takes off the message, whatever the discipline
        self.stack = b""  # what copy E has put on the server's stack
        self.result_size = 0
        self.results = b""
        self.sender: Thread | None = None
        self.abandoned = False
        self.fault: CallError | None = None

    def begin(self, number: int, procedure: int, packed: bytes, sender: Thread) -> None:
        """Take up another call, whose message this is from now on."""
        self.number = number
        self.procedure = procedure
        self.packed = packed
        self.end = HEADER + len(packed)
        self.private_size = self.result_size = 0
        self.stack = self.results = b""
        self.sender = sender
        self.fault = None

    def abandon(self) -> None:
        """Stop waiting for the reply; a late one is dropped and counted."""
        self.sender = None
        self.abandoned = True
        self.buffer.message = None  # whose next call is not to be taken for this one


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
        arguments, results = ARGUMENT_PATHS[kernel.discipline], RESULT_PATHS[kernel.discipline]
        steps = [CopyStep(one, path, one in mutable, one in immutable) for one, path in arguments.items()]
        # The copies before the trap, in the kernel, as the server receives, and as it dispatches.
        self._on_call, self._on_trap, self.on_receive, self._on_dispatch = (
            [step for step in steps if step.letter in letters] for letters in ("A", "BD", "C", "E")
        )
        steps = [CopyStep(one, path, True, True) for one, path in results.items()]
        self.on_reply, self._on_return = ([step for step in steps if step.letter in some] for some in ("B", "CF"))
        self._copies_all = "E" in mutable
        # Where the server finds arguments, and puts results.
        self._own_place = SHARED if kernel.discipline == "shared buffers" else RECEIVER
        passing = kernel.costs.file.message_passing
        assert passing is not None
        self.buffers = MessageBuffers(kernel, export.domain, export.name, passing.buffers.count)
        self.awaited = f"a reply from {export.name}"
        self._sent = 0
        self.fault: CallError | None = None  # what callers get, once the port is closed
        self._messages: deque[Message] = deque()  # waiting for a concrete thread
        threads = max(descriptor.simultaneous for descriptor in export.descriptors)
        self.servers = [ConcreteThread(self, f"{export.name}/server{number}") for number in range(threads)]
        # Those that wait for a message, the one that has waited longest first.
        self._next_idle: ConcreteThread | None = None
        self._last_idle = self.servers[0]  # the last of these, if there are any
        for server in self.servers:
            self._add_idle(server)
        self._handed = 0  # messages, to concrete threads

    def call(self, key: BindingObject, procedure: int, arguments: bytes, given: "Grant | None" = None) -> bytes:
        """Send packed arguments to the server, wait for the reply, and return its packed results.

        `given` is the record of the Binding Object that the caller imported, if it knows.
        Raises `ForgedBinding`, `NoSuchProcedure`, `ProcedureRaised`, `CallFailed` or `CallAborted`.
        """
        kernel = self.kernel
        thread = kernel.running_thread()
        if not 0 <= procedure < len(self.descriptors):
            raise NoSuchProcedure(f"{self.export.name}: procedure {procedure}: it has {len(self.descriptors)}, from 0")
        message = self.open(thread, procedure, arguments)
        try:
            processor = kernel.running_processor()
            self.begin(message, key, given)
            processor.settle()
            charges = processor.charges
            if charges.before_lock.steps:
                processor.spend(charges.before_lock)
            if charges.under_lock.steps:
                processor.checkpoint()
            self.take_lock(processor)
            self.send(processor, message)
            results = self.receive(message, kernel.block(self.awaited))
        except Exception:
            self.give_up(message)
            raise
        kernel.running_processor().settle()
        return results

    def would_take(self, given: "Grant", key: BindingObject, thread: Thread, size: int) -> bool:
        """Return whether the running thread's next call, of so many bytes, finds all at hand."""
        return given.admits(key, thread.domain) and self.buffers.has_at_hand(thread.domain, size)

    def open(self, thread: Thread, procedure: int, arguments: bytes) -> Message:
        """Return the message of a call that the running thread begins; wait for a buffer for it."""
        self._sent += 1
        number = self._sent
        buffer = self.buffers.take(thread.domain, len(arguments))
        message = buffer.message
        if message is None:
            message = buffer.message = Message(buffer)
        message.begin(number, procedure, arguments, thread)
        return message

    def begin(self, message: Message, key: BindingObject, given: "Grant | None") -> None:
        """Begin a call: copy its arguments, trap, and validate it."""
        kernel, thread = self.kernel, message.sender
        processor = kernel.running_processor()
        assert thread is not None
        descriptor = self.descriptors[message.procedure]
        if descriptor.private_values:
            message.private_size = descriptor.private_size(message.packed, 0)
        self.copy_arguments(message, self._on_call)
        processor.spend(processor.charges.trap)
        if given is None or not given.admits(key, thread.domain):
            given = kernel.check_key(key, thread.domain)
        if given.export is not self.export:
            raise ForgedBinding(f"Binding Object {key.claimed_number}: it is not for {self.export.name}")
        self.copy_arguments(message, self._on_trap)

    def take_lock(self, processor: "Processor") -> None:
        """Make a transfer from where it takes the machine's lock, if it does; its turn is here."""
        charges = processor.charges
        if charges.under_lock.steps:
            self.kernel.transfer_lock.take(processor, charges.under_lock)
        if charges.after_lock.steps:
            processor.spend(charges.after_lock)

    def send(self, processor: "Processor", message: Message) -> None:
        """Hand a message that was transferred to a concrete thread, or queue it for one."""
        kernel, thread = self.kernel, message.sender
        if self.fault is not None:
            raise self.fault.copy()
        assert thread is not None
        kernel.counts.cross_domain += 1
        kernel.log.add(processor.clock, MESSAGE, thread.number, message.procedure)
        thread.outstanding = message
        server = self._next_idle
        if server is not None:
            self._next_idle = server.next_idle
            self.hand(server, message)
            kernel.wake(server.thread)
        else:
            self._messages.append(message)

    def receive(self, message: Message, fault: CallError | None) -> bytes:
        """Return the results of a call whose thread was woken, and give its message back.

        Raises `fault`, or that of the message.
        """
        fault = fault or message.fault
        if fault is not None:
            raise fault
        self.copy_results(message, self._on_return)
        results = message.results
        self.buffers.put_back(message.buffer)  # the message may be another call's from here on
        return results

    def give_up(self, message: Message) -> None:
        """Give back the message of a call that failed, unless the server still has it."""
        if not message.abandoned:
            self.buffers.put_back(message.buffer)

    def close(self, fault: CallError) -> None:
        """Close the port: refuse new messages, and fail waiting callers with a copy of `fault`."""
        self.fault = fault
        for message in (*self.in_service(), *self._messages):
            self.reply(message, fault.copy())
        self._messages.clear()
        for server in self.servers:
            server.message = None
        self.buffers.close(fault)

    def leave(self, domain: "ProtectionDomain") -> None:
        """Take a domain that is about to terminate off the buffers."""
        self.buffers.leave(domain, [message.buffer for message in (*self.in_service(), *self._messages)])

    def hand(self, server: ConcreteThread, message: "Message | None") -> None:
        """Hand a message over to a concrete thread."""
        self._handed += 1
        server.message = message
        server.received = self._handed

    def serve_next(self, server: ConcreteThread) -> bool:
        """Hand a concrete thread the next message; return whether there is one, else it is idle."""
        if self._messages:
            self.hand(server, self._messages.popleft())
            return True
        self._add_idle(server)
        return False

    def _add_idle(self, server: ConcreteThread) -> None:
        server.next_idle = None
        if self._next_idle is None:
            self._next_idle = server
        else:
            self._last_idle.next_idle = server
        self._last_idle = server

    def in_service(self) -> "list[Message]":
        """Return the messages that concrete threads serve, in the order of handing over."""
        serving = sorted((one for one in self.servers if one.message is not None), key=lambda one: one.received)
        return [one.message for one in serving if one.message is not None]

    def reply(self, message: Message, fault: CallError | None) -> None:
        """Wake the thread that waits for the reply to a message, if one still does."""
        sender = message.sender
        if sender is not None:
            message.sender = None
            sender.outstanding = None
            self.kernel.wake(sender, fault)

    def run(self, message: Message) -> None:
        """Run a message's procedure, and put its results, or what it raised, where the message is.

        Raises `RunFailed` in the loop where a leaf procedure has entered the kernel.
        """
        if self._copies_all or self.descriptors[message.procedure].private_values:
            self.copy_arguments(message, self._on_dispatch)
        try:
            self._place(message, self._run(message))
        except Exception as error:
            if self.kernel.processor is None:  # the run fails
                raise
            message.fault = raised(error)

    def validate_reply(self, message: Message) -> None:
        """Check that the number which a reply presents is that of the message its thread serves.

        It lies where the server has the message. Another fails the call.
        """
        _access(self.export.domain, message.buffer, self._own_place, READ)
        presented: int = message.buffer.numbers[self._own_place][0]
        if presented != message.number:
            text = f"{self.export.name}: its reply was to message {presented}, not to {message.number}, which it serves"
            message.fault = CallFailed(text)

    def _run(self, message: Message) -> bytes:
        """Run the procedure on arguments on the stack or where they lie; return its results."""
        descriptor = self.descriptors[message.procedure]
        if message.end == HEADER or self._copies_all:
            return self.kernel.enter(descriptor, message.stack, 0)
        lies = _access(self.export.domain, message.buffer, self._own_place, READ)
        packed = bytes(lies[HEADER : message.end])
        stack = beside(descriptor, packed, message.stack) if descriptor.private_values else None
        if descriptor.reads_in_place:
            return self.kernel.enter(descriptor, lies, HEADER, stack)
        return self.kernel.enter(descriptor, packed, 0, stack)

    def _place(self, message: Message, results: bytes) -> None:
        """Put the results where the server has the message."""
        message.result_size = size = len(results)
        if not size:
            return
        message.results = POISONED * size
        if HEADER + size > message.buffer.room:
            self.buffers.fit(message.buffer, size)
        _access(self.export.domain, message.buffer, self._own_place, WRITE)[HEADER : HEADER + size] = results

    def _move_arguments(self, message: Message, step: CopyStep) -> None:
        """Move a message, with its number, by one copy."""
        buffer, end = message.buffer, message.end
        if step.source == STUB:
            memory = _access(buffer.client, buffer, step.target, WRITE)
            buffer.numbers[step.target][0] = message.number
            if message.packed:
                memory[HEADER:end] = message.packed
        elif step.target != STACK:
            buffer.regions[step.target].bytes[:end] = buffer.regions[step.source].bytes[:end]
        elif self._copies_all:
            message.stack = bytes(_access(self.export.domain, buffer, step.source, READ)[HEADER:end])
        elif (descriptor := self.descriptors[message.procedure]).private_values:
            packed = _access(self.export.domain, buffer, step.source, READ)[HEADER:end]
            message.stack = copy_private(descriptor, packed)

    def _move_results(self, message: Message, step: CopyStep) -> None:
        """Move the results, with the message's number, by one copy."""
        buffer, end = message.buffer, HEADER + message.result_size
        if step.target != STUB:
            buffer.regions[step.target].bytes[:end] = buffer.regions[step.source].bytes[:end]
        elif step.source == KERNEL:  # which copies them to where the client wants them
            message.results = bytes(buffer.regions[KERNEL].bytes[HEADER:end])
        else:
            message.results = bytes(_access(buffer.client, buffer, step.source, READ)[HEADER:end])

    def copy_arguments(self, message: Message, steps: list[CopyStep]) -> None:
        """Make some of the copies of arguments that the discipline makes.

        A port that is closed takes no message: nothing is moved, counted or charged.
        """
        if not steps or self.fault is not None:
            return
        descriptor = self.descriptors[message.procedure]
        immutable = descriptor.private_values
        for step in steps:
            self._move_arguments(message, step)
            values = size = 0
            if step.mutable:
                values = descriptor.argument_values - immutable
                size = message.end - HEADER - message.private_size
            if step.immutable:
                values += immutable
                size += message.private_size
            if values:
                processor = self.kernel.running_processor()
                processor.copy_arguments(values, size)
                self.kernel.counts.copies[step.letter] += values

    def copy_results(self, message: Message, steps: list[CopyStep]) -> None:
        """Make some of the copies of results that the discipline makes.

        An error has no results to copy.
        """
        values = self.descriptors[message.procedure].result_values
        if message.fault is not None or not values:
            return
        for step in steps:
            self._move_results(message, step)
            processor = self.kernel.running_processor()
            processor.copy_results(values, message.result_size)
            self.kernel.counts.copies[step.letter] += values
