"""The two ends of calls by message, as far as they need no stack: servers, and repeated calls.

A concrete thread serves one message after another. It needs a stack only for a procedure that may
wait. Its other steps, and procedures that a server declares leaves, run in its turns on whatever
stack the turn is taken: the event loop's, or that of a thread that waits. Where it yields it leaves
its stage behind, not a frame. On its own stack it takes the same steps. There it begins, serves
what is no leaf, and waits for the memory bus, if its machine's processors share one.

A thread whose stub makes equal calls one after the other leaves its stack once, for as many of them
as nothing unusual comes between, and takes their steps in its turns likewise. Time, charges and log
are those of calls that are made and served on stacks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.histogram import Histogram
from lrpc.kernel.simulated.log import REPLY
from lrpc.kernel.simulated.threads import RepeatedStack, Thread, TurnStack

if TYPE_CHECKING:
    from lrpc.kernel.simulated.bindings import Grant
    from lrpc.kernel.simulated.message_passing import Message, Port
    from lrpc.kernel.simulated.processor import Processor

# What a thread does next. A concrete thread:
RESUME: Final = 0  # load what its context lacks
RECEIVE: Final = 1  # receive a message: the call or, in its caller, the reply
RUN: Final = 2  # run the procedure
# Both:
TRANSFER: Final = 3  # transfer the message
LOCK: Final = 4  # the same, from where it takes the lock
# A caller:
BEGIN: Final = 5  # begin a call
FINISH: Final = 6  # finish it


class ConcreteThread(TurnStack):
    """A concrete thread of a port; its thread's stack while no frame of its own is in use."""

    def __init__(self, port: "Port", name: str) -> None:
        super().__init__(port.kernel.new_thread(name, port.export.domain, self._serve))
        self.port = port
        self._kernel = port.kernel
        self.message: Message | None = None  # that it serves, or will find when it resumes
        self.next_idle: ConcreteThread | None = None  # the one that waits behind it, if it waits for a message
        self.received = 0  # which of its port's messages that is, in the order of handing over
        self._next = RESUME
        self.thread.serves = True
        self.thread.concrete = self

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
        self.give_way()
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
                self._next = TRANSFER
                if not processor.may_settle():
                    return True
            if self._next == TRANSFER:
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


class RepeatedMessages(RepeatedStack):
    """Some calls of one procedure with equal arguments; the thread's stack while it makes them."""

    def __init__(
        self,
        port: "Port",
        key: BindingObject,
        procedure: int,
        arguments: bytes,
        given: "Grant",
        unpack: Callable[[bytes, int], object] | None,
        latencies: Histogram,
    ) -> None:
        super().__init__(port.kernel.running_thread(), arguments, unpack, latencies)
        self._port = port
        self._kernel = port.kernel
        self._key = key
        self._procedure = procedure
        self._given = given
        self._next = BEGIN
        self._message: Message | None = None  # the present call's, until it is back
        self._results = b""

    def make(self, times: int) -> int:
        """Make so many calls; return how many are left, of which the next has something unusual.

        Its buffer is not at hand, or its Binding Object was altered or revoked. Raises what the
        first call raises that fails.
        """
        self._left = times
        self._next = BEGIN
        if self.take_turn(None):
            self.thread.stack = self
            self._kernel.switch_away()
        if self._error is not None:
            raise self._error
        return self._left

    def take_turn(self, fault: CallError | None) -> bool:
        """Go on; return False where the calls are made, or one failed, or the next is unusual."""
        try:
            if self._go_on(fault):
                return True
        except Exception as error:
            self._error = error
            if self._message is not None:
                self._port.give_up(self._message)
        self.give_way()
        return False

    def _go_on(self, fault: CallError | None) -> bool:
        """Go on until the thread waits or its turn is scheduled; return False where it does not."""
        kernel, port = self._kernel, self._port
        processor = kernel.running_processor()
        charges = processor.charges
        while True:
            if self._next == BEGIN:
                if not self._left or self._key.remote:
                    return False
                if not port.would_take(self._given, self._key, self.thread, len(self._arguments)):
                    return False
                self._since = processor.clock
                processor.spend(charges.message_client_stub)
                message = port.open(self.thread, self._procedure, self._arguments)
                self._message = message
                port.begin(message, self._key, self._given)
                self._next = TRANSFER
                if not processor.may_go_on():
                    return True
            if self._next == TRANSFER:
                if charges.before_lock.steps:
                    processor.spend(charges.before_lock)
                self._next = LOCK
                if charges.under_lock.steps and not processor.may_go_on():
                    return True
            if self._next == LOCK:
                assert self._message is not None
                port.take_lock(processor)
                port.send(processor, self._message)
                self._next = RECEIVE
                self.thread.wait_for(port.awaited)
                kernel.dispatcher.reassign(processor)
                return True
            if self._next == RECEIVE:
                processor.refill()
                assert self._message is not None
                self._results = port.receive(self._message, fault)
                self._message = None
                self._next = FINISH
                if not processor.may_go_on():
                    return True
            self._count(self._results, processor.clock)
            self._next = BEGIN
