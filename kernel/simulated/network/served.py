"""A call of another machine, on the machine that executes it: what its thread does.

The call's thread needs a stack only from where it could wait. It receives the call before that, in
the event loop. A leaf procedure, which never enters the kernel, runs there too, and the thread ends
without having had a stack, where a message is sent in one step: its time, its charges and its log
are the same.
"""

from typing import TYPE_CHECKING

from lrpc.kernel.simulated.network.packets import CallMessage, ReplyMessage
from lrpc.kernel.simulated.threads import Errand
from lrpc.kernel.states import THREAD_RUNNING

if TYPE_CHECKING:
    from lrpc.kernel.descriptors import ProcedureDescriptor
    from lrpc.kernel.simulated.domain import Export
    from lrpc.kernel.simulated.network.remote import Network
    from lrpc.kernel.simulated.processor import Processor


class ServedCall(Errand):
    """A call of another machine, which a thread was made to serve: that thread's body.

    `export` is what it calls, if that was exported as it came: the thread ends before that does.
    """

    def __init__(self, network: "Network", source: int, message: CallMessage, export: "Export | None") -> None:
        self.network = network
        self.source = source
        self.message = message
        self._export = export
        self.received = False
        self._called: ProcedureDescriptor | None = None  # once it is received
        self._reply: ReplyMessage | None = None  # of a leaf procedure that has run

    def __call__(self) -> None:
        """Serve the call."""
        network = self.network
        if not self.received:
            processor = network.kernel.running_processor()
            self._receive(processor)
            processor.checkpoint()
        reply = network.execute(self.message, self._export)
        network.reply(self.source, self.message.caller, reply)

    def receive(self, processor: "Processor") -> bool:
        """Do what needs no stack; return whether the thread may begin on one now.

        Translation misses that meet others on a bus need a stack.
        """
        if self.network.kernel.bus is not None:
            return True
        if not self.received:
            assert processor.thread is not None
            processor.thread.enter_state(THREAD_RUNNING)
            processor.refill()
            self._receive(processor)
            if not processor.may_go_on():
                return False
        return not self._serve_leaf(processor)

    def _receive(self, processor: "Processor") -> None:
        self.received = True
        network = self.network
        self._called = network.called(self.message, self._export)
        network.receive(processor, self.message, self._called)

    def _serve_leaf(self, processor: "Processor") -> bool:
        """Run the procedure and reply, if it is a leaf and needs no stack; return whether so."""
        network, message = self.network, self.message
        if self._reply is None:
            called = self._called
            if called is None or not called.leaf or network.packets.io is not None:
                return False
            self._reply = network.execute(message, self._export)
        if processor.may_go_on():
            thread = processor.thread
            assert thread is not None
            network.reply(self.source, message.caller, self._reply)
            thread.spare_stack()
            network.kernel.end(thread)
        return True

    @property
    def name(self) -> str:
        """Return the thread's name."""
        return f"{self.message.export}/from{self.source}/{self.message.number}"

    def lost(self) -> None:
        """Reply that the call's server has terminated."""
        self.network.tell_lost(self.source, self.message, self.name)
