"""Message-passing RPC, the baseline: SRC RPC on Taos, and the others of Tables II and III, on the same engine.

Concrete threads are fixed in their domains and signal each other; one global lock is held over most of the transfer
path; a call is validated on its way there and again on its way back. Which copies are made is the discipline's affair.
"""

from collections import deque
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError, ForgedBinding, NoSuchProcedure, raised
from lrpc.kernel.simulated.costs import COPIES
from lrpc.kernel.simulated.log import MESSAGE, REPLY
from lrpc.kernel.simulated.threads import Thread

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import Export
    from lrpc.kernel.simulated.kernel import Kernel


class Message:
    """A call's packed arguments and, later, its results; the thread that waits for its reply."""

    def __init__(self, procedure: int, arguments: bytes, sender: Thread) -> None:
        self.procedure = procedure
        self.arguments = arguments
        self.results = b""
        self.sender: Thread | None = sender
        self.fault: CallError | None = None

    def abandon(self) -> None:
        """Expect no reply."""
        self.sender = None


class Port:
    """Where messages for one export arrive, and its domain's concrete threads, which take them in turn."""

    def __init__(self, kernel: "Kernel", export: "Export") -> None:
        kernel.costs.require("message passing")
        self.kernel = kernel
        self.export = export
        self.descriptors = list(export.descriptors)
        mutable, immutable, results = COPIES[kernel.discipline]
        self._mutable = mutable
        self._immutable = immutable
        self._results = results
        self.fault: CallError | None = None  # why it takes no messages, once it is closed
        self._messages: deque[Message] = deque()
        self._idle: deque[Thread] = deque()
        self._handed: dict[Thread, Message] = {}  # that concrete threads have, or will find when they go on
        for number in range(max(descriptor.simultaneous for descriptor in export.descriptors)):
            thread = kernel.new_thread(f"{export.name}/server{number}", export.domain, self._serve)
            thread.serves = True
            thread.port = self
            self._idle.append(thread)

    def call(self, key: BindingObject, procedure: int, arguments: bytes) -> bytes:
        """Send packed arguments, wait for the reply and return the packed results.

        Raises `ForgedBinding`, `NoSuchProcedure`, what the procedure raised, `CallFailed` or `CallAborted`.
        """
        kernel = self.kernel
        processor = kernel.running_processor()
        charges = processor.charges
        thread = kernel.running_thread()
        if not 0 <= procedure < len(self.descriptors):
            raise NoSuchProcedure(f"{self.export.name}: procedure {procedure}: it has {len(self.descriptors)}, from 0")
        message = Message(procedure, arguments, thread)
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

    def close(self, fault: CallError) -> None:
        """Take no messages any more: whoever waits for a reply gets the fault."""
        self.fault = fault
        for message in (*self._handed.values(), *self._messages):
            self._reply(message, fault.copy())
        self._messages.clear()
        self._handed.clear()

    def pass_message_to(self, captured: Thread, successor: Thread) -> None:
        """Let `successor` do what a concrete thread has to do that a server of its own has captured."""
        successor.port = self
        self._handed[successor] = self._handed.pop(captured)

    def _serve(self) -> None:
        """Receive, dispatch, reply, and receive again: the life of one concrete thread."""
        kernel = self.kernel
        thread = kernel.running_thread()
        while True:
            message = self._handed[thread]
            self._dispatch(message)
            processor = kernel.running_processor()
            processor.spend(processor.charges.trap)  # one system call replies and receives the next message
            self._copy_results(message, "B")
            kernel.transfer_lock.hold(processor, processor.charges.message_transfer)
            thread = kernel.running_thread()  # another one, where a call that the procedure made was aborted
            del self._handed[thread]  # not before, so that a port that closes meanwhile tells the sender
            kernel.log.add(processor.clock, REPLY, thread.number, message.procedure)
            if self._messages:
                self._handed[thread] = self._messages.popleft()
            else:
                self._idle.append(thread)
            if message.sender is None:
                kernel.counts.replies_dropped += 1
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
            message.results = self.descriptors[message.procedure].entry(message.arguments, 0)
        except Exception as error:
            message.fault = raised(error)

    def _copy_arguments(self, message: Message, letters: str) -> None:
        """Make those of the copies of arguments that this discipline makes."""
        descriptor = self.descriptors[message.procedure]
        if not descriptor.argument_values:
            return
        immutable = descriptor.private_values
        private_size = descriptor.private_size(message.arguments, 0) if immutable else 0
        for letter in letters:
            values = size = 0
            if letter in self._mutable:
                values += descriptor.argument_values - immutable
                size += len(message.arguments) - private_size
            if letter in self._immutable:
                values += immutable
                size += private_size
            if values:
                processor = self.kernel.running_processor()
                processor.clock += processor.charges.copy_arguments(values, size)
                self.kernel.counts.copies[letter] += values

    def _copy_results(self, message: Message, letters: str) -> None:
        """Make those of the copies of results that this discipline makes; there are none of an error."""
        values = self.descriptors[message.procedure].result_values
        if message.fault is not None or not values:
            return
        for letter in letters:
            if letter in self._results:
                processor = self.kernel.running_processor()
                processor.clock += processor.charges.copy_results(values, len(message.results))
                self.kernel.counts.copies[letter] += values
