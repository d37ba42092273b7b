"""Equal calls of another machine, one after the other, which a thread makes without its stack.

The thread leaves its stack once, for the last of them. Its turns until then are taken by whoever
resumes it, mostly the event loop: each receives a reply and sends the next call. Time, charges and
log are those of calls that are made one by one. That holds where a message is sent in one step, and
where no processor meets others on a bus (`Network.repeat`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.histogram import Histogram
from lrpc.kernel.simulated.threads import RepeatedStack

if TYPE_CHECKING:
    from lrpc.kernel.simulated.bindings import Grant
    from lrpc.kernel.simulated.network.remote import Network, PendingCall, RemoteProcedure
    from lrpc.kernel.simulated.processor import Processor


class Destination:
    """Where calls of one export go, and what a caller waits for there."""

    def __init__(self, machine: int, export: str) -> None:
        self.machine = machine
        self.export = export
        self.waits_for = f"a reply from {export} on another machine"


class RepeatedCalls(RepeatedStack):
    """Some calls with equal arguments; the thread's stack while it waits for the last one."""

    def __init__(
        self,
        network: "Network",
        key: BindingObject,
        procedure: "RemoteProcedure",
        arguments: bytes,
        unpack: Callable[[bytes, int], object] | None,
        latencies: Histogram,
    ) -> None:
        super().__init__(network.kernel.running_thread(), arguments, unpack, latencies)
        self._network = network
        self._kernel = network.kernel
        self._key = key
        self._procedure = procedure
        self._route: Destination | None = None  # of a call that is to be sent in the thread's next turn
        self._pending: PendingCall | None = None
        # What the kernel found the Binding Object to be, as of the last time that it looked.
        self._grant: Grant = self._kernel.check_key(key, self.thread.domain)
        self._last_route: Destination | None = None

    def make(self, times: int) -> int:
        """Make so many calls; return how many are left.

        Some are where the client has altered its Binding Object meanwhile, or that was revoked: the
        next call by itself fails. Raises what the first one raises that fails.
        """
        kernel, thread = self._kernel, self.thread
        self._left = times
        processor = kernel.running_processor()
        self._since = processor.clock
        route = self._last_route = self._network.route(self._key, thread)
        processor.checkpoint()
        self._send(kernel.running_processor(), route)
        thread.stack = self
        fault = kernel.block(route.waits_for)
        if fault is not None:
            self._network.take_in(cast("PendingCall", self._pending), self._procedure, fault)
        if self._error is not None:
            raise self._error
        return self._left

    def _send(self, processor: "Processor", route: "Destination") -> None:
        self._pending = self._network.send(processor, self.thread, route, self._procedure, self._arguments)

    def take_turn(self, fault: CallError | None) -> bool:
        """Do what the thread does in its turn, up to where it waits again."""
        kernel = self._kernel
        processor = kernel.running_processor()
        route, self._route = self._route, None
        if route is None:
            route = self._next(processor, fault)
            if route is None:
                self.give_way()
                return False
            if not processor.may_go_on():
                self._route = route
        if self._route is None:
            self._send(processor, route)
            self.thread.wait_for(route.waits_for)
            kernel.dispatcher.reassign(processor)
        return True

    def _next(self, processor: "Processor", fault: CallError | None) -> "Destination | None":
        """Receive the reply, and return where the next call goes; None if there is none."""
        processor.refill()
        if fault is not None:
            return None
        try:
            assert self._pending is not None
            results = self._network.take_in(self._pending, self._procedure, None)
            self._count(results, processor.clock)
            if not self._left or not self._key.remote:
                return None
            self._since = processor.clock
        except Exception as error:
            self._error = error
            return None
        if self._grant.admits(self._key, self.thread.domain):
            return self._last_route
        return None  # the next call, made by itself, tells its caller why
