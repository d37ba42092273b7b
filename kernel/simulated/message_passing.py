"""Message-passing RPC, the baseline: SRC RPC on Taos, and the other systems of Tables II and III.

It runs on the same engine as LRPC. Concrete threads are fixed in their domains and signal each
other. One global lock is held over most of the transfer path. A call is validated on its way to the
server and again on its way back. The copies made on the way are those of the kernel's discipline
(Table III).
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
    """A call's packed arguments and results, and the thread that waits for the reply."""

    def __init__(self, procedure: int, arguments: bytes, sender: Thread) -> None:
        self.procedure = procedure
        self.arguments = arguments
        self.results = b""
        self.sender: Thread | None = sender
        self.fault: CallError | None = None

    def abandon(self) -> None:
        """Stop waiting for the reply; a late one is dropped and counted."""
        self.sender = None


class Port:
    """The place where messages for one export arrive, and the concrete threads that serve them.

    Raises `Refused` if the cost model has no costs for message passing.
    """

    def __init__(self, kernel: "Kernel", export: "Export") -> None:
        kernel.costs.require("message passing")
        self.kernel = kernel
        self.export = export
        self.descriptors = list(export.descriptors)
        mutable, immutable, results = COPIES[kernel.discipline]
        self._mutable = mutable
        self._immutable = immutable
        self._results = results
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
        """Make the copies of arguments that the discipline makes, of those in `letters`."""
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
        """Make the copies of results that the discipline makes, of those in `letters`.

        An error has no results to copy.
        """
        values = self.descriptors[message.procedure].result_values
        if message.fault is not None or not values:
            return
        for letter in letters:
            if letter in self._results:
                processor = self.kernel.running_processor()
                processor.clock += processor.charges.copy_results(values, len(message.results))
                self.kernel.counts.copies[letter] += values
