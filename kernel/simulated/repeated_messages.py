"""Equal calls by message, one after the other, which a thread makes without its stack.

The thread leaves its stack once, for as many of them as nothing unusual comes between. Where the
calls of one by one yield or wait, these leave their stage behind, as concrete threads do
(concrete_threads.py), and are taken up in the thread's turns. Time, charges and log are the same.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.histogram import Histogram
from lrpc.kernel.simulated.threads import Stack

if TYPE_CHECKING:
    from lrpc.kernel.simulated.bindings import Grant
    from lrpc.kernel.simulated.message_passing import Message, Port
    from lrpc.kernel.simulated.threads import Thread

# What the thread does next.
BEGIN: Final = 0  # begin a call
TRANSFER: Final = 1  # transfer its message
LOCK: Final = 2  # the same, from where it takes the lock
RECEIVE: Final = 3  # receive the reply
FINISH: Final = 4  # finish the call


class RepeatedMessages(Stack):
    """Some calls of one procedure with equal arguments; the thread's stack while it makes them.

    `unpack` checks results, which nobody else reads; None where there are none.
    """

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
        self._port = port
        self._kernel = port.kernel
        self._key = key
        self._procedure = procedure
        self._arguments = arguments
        self._given = given
        self._unpack = unpack
        self._latencies = latencies
        self.thread: Thread = port.kernel.running_thread()
        self._own = self.thread.stack
        self.greenlet = self._own.greenlet
        self.switch = self._own.switch
        self._left = 0
        self._next = BEGIN
        self._since = 0  # when the present call began
        self._message: Message | None = None  # the present call's, until it is back
        self._results = b""
        self._error: Exception | None = None

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
        self.thread.stack = self._own
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
            self._finish(processor.clock)

    def _finish(self, now: int) -> None:
        results, counts = self._results, self._kernel.counts
        counts.result_bytes += len(results)
        if self._unpack is not None:
            self._unpack(results, 0)
        counts.argument_bytes += len(self._arguments)
        self._latencies.add(now - self._since)
        self._left -= 1
        self._next = BEGIN
