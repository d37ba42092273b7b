"""Message-passing RPC as SRC RPC does it on Taos: the baseline, on the same engine, processors and cost model.

Concrete threads are fixed in their domains and signal each other; messages lie in buffers mapped into every domain; one
global lock is held over most of the transfer path; a call is validated on its way there and again on its way back.
"""

from collections import deque
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError, ForgedBinding, NoSuchProcedure
from lrpc.kernel.simulated.estacks import raised
from lrpc.kernel.simulated.log import MESSAGE, REPLY
from lrpc.kernel.simulated.threads import Thread

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Export, Kernel
    from lrpc.kernel.simulated.processor import Processor


class Message:
    """A buffer, the procedure it is for, and the thread that waits for its reply."""

    def __init__(self, procedure: int, size: int, sender: Thread) -> None:
        self.procedure = procedure
        self.buffer = bytearray(size)
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
        self._messages: deque[Message] = deque()
        self._idle: deque[Thread] = deque()
        self._handed: dict[Thread, Message] = {}  # to threads that were idle, for when they go on
        for number in range(max(descriptor.simultaneous for descriptor in export.descriptors)):
            thread = kernel.new_thread(f"{export.name}/server{number}", export.domain)
            thread.serves = True
            thread.body = self._serve
            self._idle.append(thread)

    def new_message(self, procedure: int) -> Message:
        """Return a message with room for the arguments and results of a procedure; its buffer is not charged here."""
        if not 0 <= procedure < len(self.export.descriptors):
            raise NoSuchProcedure(f"{self.export.name}: procedure {procedure}: it has {len(self.export.descriptors)}")
        size = self.export.descriptors[procedure].astack_size
        return Message(procedure, size, self.kernel.running_thread())

    def call(self, key: BindingObject, message: Message) -> None:
        """Send a filled message and wait for its reply.

        Raises `ForgedBinding`, what the procedure raised, or `CallAborted`.
        """
        kernel = self.kernel
        processor = kernel.running_processor()
        thread = kernel.running_thread()
        processor.spend(kernel.charges.trap)
        if kernel.check_key(key, thread.domain).name != self.export.name:
            raise ForgedBinding(f"Binding Object {key.claimed}: it is not for {self.export.name}")
        self._begin_transfer(processor)
        server = self._idle.popleft() if self._idle else None
        if server is None:
            self._messages.append(message)
        else:
            self._handed[server] = message
        kernel.counts.cross_domain += 1
        kernel.log.add(processor.clock, MESSAGE, thread.number, message.procedure)
        kernel.transfer_lock.release()
        if server is not None:
            kernel.wake(server)
        thread.outstanding = message
        fault = kernel.block(f"a reply from {self.export.name}") or message.fault
        if fault is not None:
            raise fault

    def _serve(self) -> None:
        """Receive, dispatch, reply, and receive again: the life of one concrete thread."""
        kernel = self.kernel
        while True:
            message = self._handed.pop(kernel.running_thread())
            self._dispatch(message)
            thread = kernel.running_thread()  # another one, where a call that the procedure made was aborted
            processor = kernel.running_processor()
            processor.spend(kernel.charges.trap)  # one system call replies and receives the next message
            self._begin_transfer(processor)
            kernel.log.add(processor.clock, REPLY, thread.number, message.procedure)
            if self._messages:
                self._handed[thread] = self._messages.popleft()
            else:
                self._idle.append(thread)
            kernel.transfer_lock.release()
            if message.sender is None:
                kernel.counts.replies_dropped += 1
            else:
                message.sender.outstanding = None
                kernel.wake(message.sender)
            if thread not in self._handed:
                kernel.block("a message")

    def _dispatch(self, message: Message) -> None:
        processor = self.kernel.running_processor()
        processor.spend(self.kernel.charges.message_dispatch)
        processor.checkpoint()
        descriptor = self.export.descriptors[message.procedure]
        self.kernel.counts.copies["E"] += descriptor.argument_values
        try:
            descriptor.entry(message.buffer, 0)
        except Exception as error:
            message.fault = raised(error)

    def _begin_transfer(self, processor: "Processor") -> None:
        self.kernel.transfer_lock.acquire()
        processor.spend(self.kernel.charges.message_transfer)
