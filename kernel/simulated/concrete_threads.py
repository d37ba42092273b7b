"""The concrete threads of message passing, each of which serves one message after another.

A concrete thread needs a stack only for a procedure that may wait. Its other steps, and procedures
that a server declares leaves, run in its turns on whatever stack the turn is taken: the event
loop's, or that of a thread that waits. Where it yields it leaves its stage behind, not a frame. On
its own stack it takes the same steps. There it begins, serves what is no leaf, and waits for the
memory bus, if its machine's processors share one.
"""

from typing import TYPE_CHECKING, Final

from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.log import REPLY
from lrpc.kernel.simulated.threads import Stack, Thread

if TYPE_CHECKING:
    from lrpc.kernel.simulated.message_passing import Message, Port
    from lrpc.kernel.simulated.processor import Processor

# What a concrete thread does next.
RESUME: Final = 0  # load what its context lacks
RECEIVE: Final = 1  # take the message up
RUN: Final = 2  # run the procedure
REPLY_NEXT: Final = 3  # transfer the reply
LOCK: Final = 4  # the same, from where it takes the lock


class ConcreteThread(Stack):
    """A concrete thread of a port; its thread's stack while no frame of its own is in use."""

    def __init__(self, port: "Port", name: str) -> None:
        self.port = port
        self._kernel = port.kernel
        self.message: Message | None = None  # that it serves, or will find when it resumes
        self.next_idle: ConcreteThread | None = None  # the one that waits behind it, if it waits for a message
        self.received = 0  # which of its port's messages that is, in the order of handing over
        self._next = RESUME
        self.thread: Thread = port.kernel.new_thread(name, port.export.domain, self._serve)
        self.thread.serves = True
        self.thread.concrete = self
        self._own = self.thread.stack
        self.greenlet = self._own.greenlet
        self.switch = self._own.switch

    @property
    def sender(self) -> Thread | None:
        """Return the thread whose call it serves; None if that was released."""
        return None if self.message is None else self.message.sender

    def pass_to(self, successor: Thread) -> None:
        """Go on as another thread, since the present one was captured by a server."""
        self.thread, successor.concrete = successor, self
        self.port.hand(self, self.message)

    def take_turn(self, fault: CallError | None) -> bool:
        """Go on in place; return False where a procedure needs the thread's own stack.

        What ends the run is thrown in the loop: whose stack this is, is not to know of it.
        """
        try:
            if self._go_on(here=False):
                return True
        except Exception as error:
            self._kernel.engine.loop.throw(self._kernel.failed(self.thread, error))
        except BaseException as error:
            self._kernel.engine.loop.throw(error)
        self.thread.stack = self._own
        return False

    def _serve(self) -> None:
        """Serve messages, over and over, on the thread's own stack: its body."""
        kernel = self._kernel
        while True:
            self._go_on(here=True)
            if kernel.bus is None:
                self.thread.stack = self
            kernel.switch_away()

    def _go_on(self, here: bool) -> bool:
        """Go on until it waits or its turn is scheduled; return False where it needs its own stack.

        `here` says whether it is on that.
        """
        kernel, port = self._kernel, self.port
        while True:
            processor = kernel.running_processor()
            message = self.message
            assert message is not None
            if self._next == RESUME:
                processor.refill()
                self._next = RECEIVE
            if self._next == RECEIVE:
                port.copy_arguments(message, port.on_receive)
                processor.spend(processor.charges.message_dispatch)
                self._next = RUN
                if not processor.may_go_on():
                    return True
            if self._next == RUN:
                if not here and not port.descriptors[message.procedure].leaf:
                    return False
                port.run(message)
                processor = kernel.running_processor()
                # One system call replies and receives the next message.
                processor.spend(processor.charges.trap)
                port.validate_reply(message)
                port.copy_results(message, port.on_reply)
                self._next = REPLY_NEXT
                if not processor.may_settle():
                    return True
            if self._next == REPLY_NEXT:
                if processor.charges.before_lock.steps:
                    processor.spend(processor.charges.before_lock)
                self._next = LOCK
                if processor.charges.under_lock.steps and not processor.may_go_on():
                    return True
            if not self._reply(processor, message):
                self._next = RESUME
                self.thread.wait_for("a message")
                kernel.dispatcher.reassign(processor)
                return True
            self._next = RECEIVE

    def _reply(self, processor: "Processor", message: "Message") -> bool:
        """Reply, and take the next message, if there is one: return whether so."""
        kernel, port = self._kernel, self.port
        port.take_lock(processor)
        # Only now is it off the message: a port that closes earlier must find that.
        self.message = None
        kernel.log.add(processor.clock, REPLY, self.thread.number, message.procedure)
        has_next = port.serve_next(self)
        if message.sender is None:
            kernel.counts.replies_dropped += 1
            port.buffers.put_back(message.buffer)
        else:
            port.reply(message, None)
        return has_next
