"""Calls between machines: sent again if they are lost, and executed at most once.

The caller's kernel sends an unanswered call again, after waits that grow, as many times in a row as
the cost model says (`retransmission`). Then the caller gets `CallFailed`. The server's kernel
remembers, for each caller on another machine, the last call and its reply. A call that comes again
is answered from there or, while it is still being executed, acknowledged; an acknowledgement gives
the caller all its tries again. So no call is executed twice.

A caller is a number that no two calls of one machine share while both are outstanding. What a
server remembers is therefore bounded by the calls that its clients have outstanding at once. Over
links that lose nothing, nothing is remembered or timed.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from lrpc.kernel.descriptors import BindingObject, ProcedureDescriptor, ValueShape
from lrpc.kernel.errors import (
    BindingRefused,
    CallError,
    CallFailed,
    ForgedBinding,
    NoSuchProcedure,
    ProcedureRaised,
    raised,
)
from lrpc.kernel.simulated.engine import Event
from lrpc.kernel.simulated.histogram import Histogram
from lrpc.kernel.simulated.log import ARRIVE
from lrpc.kernel.simulated.network.marshaling import marshal
from lrpc.kernel.simulated.network.packets import (
    Acknowledgement,
    Body,
    CallMessage,
    Carrier,
    Packets,
    ReplyMessage,
    checksum_of,
    data_size,
    log_call,
    logged_content,
)
from lrpc.kernel.simulated.network.repeated import Destination, RepeatedCalls
from lrpc.kernel.simulated.network.served import ServedCall
from lrpc.kernel.simulated.network.stations import ServiceTimes

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import Export
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Thread

# Kinds of faults that a kernel tells of itself; no class has such a name.
FAILED = ""
REFUSED = "!"
MOST_RAISED: Final = 3  # exceptions of which a machine remembers where its servers raised them

# Returns the rank of the machine that exports a name, and the interface's name; None if none does.
Locate = Callable[[str], tuple[int, str] | None]


class PendingCall:
    """A call that was sent to another machine, and the thread that waits for its reply."""

    def __init__(self, network: "Network", thread: "Thread", machine: int, message: CallMessage) -> None:
        self.network = network
        self.thread = thread
        self.machine = machine
        self.message = message
        self.tries = 0  # since it was first sent, or acknowledged last
        self.timer: Event | None = None  # of the present try
        self.results: bytes | None = None

    def abandon(self) -> None:
        """Stop waiting for the reply; a late one is dropped and counted."""
        self.network.close(self)


class RemoteProcedure:
    """A procedure of another machine, by number, as a client's stub calls it.

    Stubs marshal values of the shapes that it `takes` and `gives`.
    """

    def __init__(self, number: int, takes: Sequence[ValueShape] = (), gives: Sequence[ValueShape] = ()) -> None:
        self.number = number
        self.takes = takes
        self.gives = gives
        self._route: Destination | None = None  # of the last call
        self._called = 0

    def called(self, route: Destination) -> int:
        """Return the checksum of what a call over a route calls."""
        if self._route is not route:
            self._route, self._called = route, checksum_of(route.export, self.number)
        return self._called


class LastCall:
    """The last call of a caller on another machine, and the reply to it once there is one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reply: ReplyMessage | None = None
        self.repeated = 0  # times it came again


class Network:
    """One machine's end of its links: the calls it makes, and those it executes for other machines.

    `rank` is this machine's. Raises `Refused` if the cost model has no costs for the network.
    """

    def __init__(self, kernel: "Kernel", rank: int, carrier: Carrier, locate: Locate) -> None:
        kernel.costs.require("network")
        self.kernel = kernel
        self.rank = rank
        self.locate = locate
        self.packets = Packets(kernel, carrier)
        self.last_calls: dict[tuple[int, int], LastCall] = {}  # by machine and caller
        self.outstanding: dict[int, PendingCall] = {}  # by number
        self.raised: deque[str] = deque(maxlen=MOST_RAISED)  # the last exceptions of its servers, and where
        self._routes: dict[str, Destination] = {}  # by export
        self.stubs = ServiceTimes(kernel.costs, kernel.random("stubs and run-time"))
        self.marshaling_ns = 0  # spent on values by their types
        self._calls = 0  # sent so far: their numbers
        self._replies = 0  # that were on their way so far
        self._over_lossy_link = False  # a call went over one: replies may come twice
        self._callers = 0  # numbers of callers made so far
        self._free_callers: list[int] = []  # a heap, so that the lowest is used first

    @property
    def waits(self) -> bool:
        """Return whether a reply may come that is not on its way yet, even to an abandoned call.

        Once a call has gone over a link that loses packets, one always may: replies can come twice.
        """
        return self._over_lossy_link or self._replies < self._calls

    def call(self, key: BindingObject, procedure: RemoteProcedure, arguments: bytes) -> bytes:
        """Call a procedure of another machine with packed arguments, and return its packed results.

        Raises `ProcedureRaised`, `ForgedBinding`, `CallAborted`, `BindingRefused` where the other
        machine does not export the interface any more, or `CallFailed` where its kernel refused the
        call or never answered.
        """
        kernel = self.kernel
        processor = kernel.running_processor()
        thread = kernel.running_thread()
        route = self.route(key, thread)
        processor.checkpoint()
        pending = self.send(kernel.running_processor(), thread, route, procedure, arguments)
        return self.take_in(pending, procedure, kernel.block(route.waits_for))

    def repeat(
        self,
        key: BindingObject,
        procedure: RemoteProcedure,
        arguments: bytes,
        unpack: Callable[[bytes, int], object] | None,
        latencies: Histogram,
        times: int,
    ) -> int:
        """Make equal calls without the thread's stack; return how many are left, which need that.

        Raises what `call` does, or what `unpack` does with the results.
        """
        route = self.route(key, self.kernel.running_thread())
        if self.packets.io is not None or self.kernel.bus is not None or not self.packets.link(route.machine).plain:
            return times
        return RepeatedCalls(self, key, procedure, arguments, unpack, latencies).make(times)

    def route(self, key: BindingObject, thread: "Thread") -> Destination:
        """Return where a thread's calls with a Binding Object go.

        Raises `ForgedBinding`, or the error with which it was revoked.
        """
        own = self.kernel.check_key(key, thread.domain)
        route = self._routes.get(own.name) if own.export is None else None
        if route is None:
            where = self.locate(own.name) if own.export is None else None
            if where is None:
                raise ForgedBinding(f"Binding Object {own.number}: it is for no other machine")
            route = self._routes[own.name] = Destination(where[0], own.name)
        return route

    def send(
        self, processor: "Processor", thread: "Thread", route: Destination, procedure: RemoteProcedure, arguments: bytes
    ) -> PendingCall:
        """Send a call of the running thread, for which this then waits.

        It has passed a checkpoint. Where messages travel whole, nothing else may intervene from
        there to the sending: lookahead rests on that.
        """
        counts = self.kernel.counts
        self.packets.spend(processor, processor.charges.remote_client, 0, self.stubs)
        if procedure.takes:
            self.marshaling_ns += marshal(processor, procedure.takes, arguments, caller=True)
        pending = self._open(thread, route, procedure, arguments)
        counts.cross_machine += 1
        self.packets.send(processor, route.machine, pending.message, len(arguments))
        counts.link_requests += 1
        if pending.message.caller:
            self._set_timer(pending)
        return pending

    def take_in(self, pending: PendingCall, procedure: RemoteProcedure, fault: CallError | None) -> bytes:
        """Receive the reply to a call, if there is one; return the results, or raise `fault`."""
        results = pending.results
        if results is not None:
            processor = self.kernel.running_processor()
            self.packets.take_in(processor, len(results))
            if fault is None and procedure.gives:
                self.marshaling_ns += marshal(processor, procedure.gives, results, caller=True)
        if fault is not None:
            raise fault
        return results or b""

    def spent(self) -> dict[str, int]:
        """Return what the processors spent on calls between machines, in ns by what it was."""
        packets = self.packets
        found = {
            "stubs and run-time": self.stubs.drawn_ns,
            "marshaling": self.marshaling_ns,
            "sending packets": packets.sending.drawn_ns + packets.whole_ns,
            "interrupts": 0 if packets.io is None else packets.io.interrupts.busy_ns,
        }
        return {what: ns for what, ns in found.items() if ns}

    def close(self, pending: PendingCall) -> None:
        """Remove a call from the outstanding ones; stop its timer and free its caller's number."""
        del self.outstanding[pending.message.number]
        self._end(pending)

    def _end(self, pending: PendingCall) -> None:
        pending.thread.outstanding = None
        if pending.timer is not None:
            self.kernel.engine.cancel(pending.timer)
            pending.timer = None
        if pending.message.caller:
            heappush(self._free_callers, pending.message.caller)

    def _open(self, thread: "Thread", route: Destination, procedure: RemoteProcedure, arguments: bytes) -> PendingCall:
        self._calls += 1
        caller = 0
        if self.packets.link(route.machine).loss_ppb:
            self._over_lossy_link = True
            if not self._free_callers:
                self._callers += 1
                self._free_callers.append(self._callers)
            caller = heappop(self._free_callers)
        message = CallMessage(self._calls, route.export, procedure.number, arguments, caller)
        log_call(message, procedure.called(route))
        pending = self.outstanding[self._calls] = PendingCall(self, thread, route.machine, message)
        thread.outstanding = pending
        return pending

    def _set_timer(self, pending: PendingCall) -> None:
        """Start the wait for an answer to a new try."""
        pending.tries += 1
        due = self.kernel.now_ns + self.kernel.costs.retransmission.wait_ns(pending.tries)
        pending.timer = self.kernel.engine.schedule(due, lambda: self._expire(pending))

    def _expire(self, pending: PendingCall) -> None:
        """Fail a call after its last unanswered try; else let a kernel thread resend it."""
        pending.timer = None
        message = pending.message
        if pending.tries >= self.kernel.costs.retransmission.tries:
            self.close(pending)
            what = f"{message.export}: its machine did not answer in {pending.tries} tries"
            self.kernel.wake(pending.thread, CallFailed(what))
            return
        self._kernel_thread(f"{message.export}/{message.number}/again", lambda: self._send_again(pending))

    def _send_again(self, pending: PendingCall) -> None:
        processor = self.kernel.running_processor()
        processor.checkpoint()
        if pending.message.number in self.outstanding:
            self.kernel.counts.calls_retransmitted += 1
            self.packets.send(processor, pending.machine, pending.message, len(pending.message.arguments))
        if pending.message.number in self.outstanding:  # still: a reply may come during the sending
            self._set_timer(pending)

    def expect(self, body: Body) -> None:
        """Note a message that is on its way and will arrive when it is due."""
        if isinstance(body, ReplyMessage):
            self._replies += 1

    def arrive(self, source: int, body: Body) -> None:
        """Receive a packet that is off the wire now, and the message that it completes, if any.

        It is an action of the engine's. The controller and the I/O processor, if any, handle the
        packet first.
        """
        self.kernel.log.add(self.kernel.engine.now, ARRIVE, source, logged_content(body))
        if self.packets.io is None:
            self.handle(source, body)
        else:
            self.packets.receive(body, partial(self.handle, source, body))

    def handle(self, source: int, body: Body) -> None:
        """Handle a message that has arrived."""
        if isinstance(body, CallMessage):
            self._accept(source, body)
        elif isinstance(body, Acknowledgement):
            if body.number in self.outstanding:
                self.outstanding[body.number].tries = 0
        elif isinstance(body, ReplyMessage):
            pending = self.outstanding.pop(body.number, None)
            if pending is None:
                self.kernel.counts.replies_dropped += 1
                return
            self._end(pending)
            pending.results = body.results
            self.kernel.wake(pending.thread, _fault(body))

    def _accept(self, source: int, message: CallMessage) -> None:
        if message.caller:
            last = self.last_calls.get((source, message.caller))
            if last is not None and message.number <= last.number:
                self._repeat(source, message, last)
                return
            self.last_calls[source, message.caller] = LastCall(message.number)
        kernel = self.kernel
        export = kernel.exports.get(message.export)
        domain = kernel.domain("kernel") if export is None else export.domain
        served = ServedCall(self, source, message, export)
        thread = kernel.new_thread(served, domain, served)
        thread.serves = True
        thread.serves_call = source << 32 | message.number & 0x7FFF_FFFF
        thread.service = served
        kernel.wake(thread)

    def _repeat(self, source: int, message: CallMessage, last: LastCall) -> None:
        """Answer a call that came before: with its reply, or with an acknowledgement."""
        counts = self.kernel.counts
        if message.number < last.number:
            counts.duplicates_dropped += 1
            return
        counts.duplicates_answered += 1
        last.repeated += 1

        def answer() -> None:
            body = last.reply or Acknowledgement(message.number)
            processor = self.kernel.running_processor()
            processor.checkpoint()
            self.packets.send(processor, source, body, data_size(body))

        self._kernel_thread(f"{message.export}/from{source}/{message.number}/again{last.repeated}", answer)

    def tell_lost(self, source: int, message: CallMessage, name: str) -> None:
        """Reply that a call's server has terminated, from a thread of the kernel's own."""
        what = f"machine {self.kernel.machine}: the domain that exported {message.export} has terminated"
        reply = ReplyMessage(message.number, b"", ("", what))
        self._kernel_thread(f"{name}/lost", lambda: self.reply(source, message.caller, reply))

    def _kernel_thread(self, name: str, body: Callable[[], None]) -> None:
        thread = self.kernel.new_thread(name, self.kernel.domain("kernel"), body)
        thread.serves = True
        self.kernel.wake(thread)

    def execute(self, message: CallMessage, export: "Export | None") -> ReplyMessage:
        """Run a call's procedure in the server's domain; return the reply.

        Raises `RunFailed` in the loop where a leaf procedure has entered the kernel.
        """
        results, fault = b"", None
        try:
            results = self._call_procedure(message, export)
        except Exception as error:
            if self.kernel.processor is None:  # the run fails
                raise
            fault = self._told(error)
        return ReplyMessage(message.number, results, fault)

    def reply(self, source: int, caller: int, reply: ReplyMessage) -> None:
        """Send a reply to another machine."""
        processor = self.kernel.running_processor()
        processor.checkpoint()
        self.packets.send(processor, source, reply, len(reply.results))
        self.kernel.running_thread().service = None  # replied: not lost any more
        self.kernel.counts.link_replies += 1
        if caller:
            last = self.last_calls.get((source, caller))
            if last is not None and last.number == reply.number:
                last.reply = reply

    def _call_procedure(self, message: CallMessage, export: "Export | None") -> bytes:
        if export is None:
            export = self.kernel.exports.get(message.export)
        if export is None:
            raise _NotExported(f"import {message.export}: machine {self.kernel.machine} does not export it any more")
        if not 0 <= message.procedure < len(export.descriptors):
            raise NoSuchProcedure(f"{export.name}: procedure {message.procedure}: it has {len(export.descriptors)}")
        descriptor = export.descriptors[message.procedure]
        if len(message.arguments) > descriptor.largest_arguments:
            raise CallFailed(f"{export.name}.{descriptor.name}: {len(message.arguments)} bytes of arguments")
        results = self.kernel.enter(descriptor, message.arguments, 0)
        if shapes := descriptor.result_shapes:
            self.marshaling_ns += marshal(self.kernel.running_processor(), shapes, results, caller=False)
        return results

    def _told(self, error: Exception) -> tuple[str, str]:
        """Return the kind and text of an error as a reply carries them."""
        if isinstance(error, _NotExported):
            return REFUSED, str(error)
        if isinstance(error, CallFailed):
            return FAILED, str(error)
        problem = raised(error)
        self.raised.append(f"{problem.kind} {problem.__notes__[-1]}")
        return problem.kind, problem.message

    def called(self, message: CallMessage, export: "Export | None") -> ProcedureDescriptor | None:
        """Return what the server's stub knows of a called procedure, if there is one."""
        if export is None:
            export = self.kernel.exports.get(message.export)
        if export is None or not 0 <= message.procedure < len(export.descriptors):
            return None
        return export.descriptors[message.procedure]

    def receive(self, processor: "Processor", message: CallMessage, known: ProcedureDescriptor | None) -> None:
        """Spend what receiving a call costs its thread, and unmarshal the arguments."""
        self.packets.take_in(processor, len(message.arguments))
        self.packets.spend(processor, processor.charges.remote_server, 0, self.stubs)
        if known is not None and known.argument_shapes:
            self.marshaling_ns += marshal(processor, known.argument_shapes, message.arguments, caller=False)


class _NotExported(CallError):
    """A call came for an export that is not there: its caller is told that it is refused."""


def _fault(reply: ReplyMessage) -> CallError | None:
    """Return the error that a reply carries; None if it carries results."""
    if reply.fault is None:
        return None
    kind, message = reply.fault
    if kind == REFUSED:
        return BindingRefused(message)
    return CallFailed(message) if kind == FAILED else ProcedureRaised(kind, message)
