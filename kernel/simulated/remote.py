"""Calls between machines: what the sending and the receiving kernel do, and what they ask of the link between them."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError, CallFailed, ForgedBinding, NoSuchProcedure, ProcedureRaised, raised
from lrpc.kernel.simulated.engine import Event
from lrpc.kernel.simulated.log import ARRIVE
from lrpc.kernel.simulated.packets import (
    Acknowledgement,
    Body,
    CallMessage,
    Fragment,
    LinkTraits,
    Packets,
    ReplyMessage,
    Send,
    content,
    data_of,
    last_packet,
)

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Thread

# Says which machine, by rank, exports a name, and which interface that is; None where nobody does.
Locate = Callable[[str], tuple[int, str] | None]


class PendingCall:
    """A call that left this machine and the thread that waits for it."""

    def __init__(self, network: "Network", thread: "Thread", machine: int, message: CallMessage) -> None:
        self.network = network
        self.thread = thread
        self.machine = machine
        self.message = message
        self.tries = 0  # since it was last heard that somebody is at it
        self.timer: Event | None = None
        self.results: bytes | None = None

    def abandon(self) -> None:
        """Expect no reply; one that comes is dropped and counted."""
        self.network.close(self)


class Remembered:
    """The last call of a caller on another machine, and its reply, once there is one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reply: ReplyMessage | None = None
        self.repeated = 0


class Network:
    """One machine's end of its links.

    Over a link that loses packets, calls are sent again until they are answered, or were tried often enough. Then each
    has a caller: a number that it shares with no other call of its machine's at the time. A server remembers the last
    reply to each caller, so that no call is executed twice, and what it remembers is bounded by the calls that its
    clients have outstanding at once.
    """

    def __init__(
        self, kernel: "Kernel", rank: int, send: Send, locate: Locate, line_to: Callable[[int], LinkTraits]
    ) -> None:
        kernel.costs.require("network")
        self.kernel = kernel
        self.rank = rank
        self.locate = locate
        self.packets = Packets(kernel, send, line_to)
        self.remembered: dict[tuple[int, int], Remembered] = {}  # by machine and caller
        self.outstanding: dict[int, PendingCall] = {}
        self._calls = 0
        self._replies = 0
        self._loses = False  # whether a call went over a link that may have it answered more than once
        self._callers = 0
        self._free_callers: list[int] = []

    @property
    def waits(self) -> bool:
        """Return whether replies may come that are not on their way yet: to calls given up too.

        Where packets are lost, at any time.
        """
        return self._loses or self._replies < self._calls

    def call(self, key: BindingObject, procedure: int, arguments: bytes) -> bytes:
        """Call a procedure of another machine and return its packed results.

        Raises `ProcedureRaised`, `ForgedBinding`, `CallAborted`, or `CallFailed` where the other kernel refused, or
        never answered.
        """
        own = self.kernel.check_key(key, self.kernel.running_thread().domain)
        where = self.locate(own.name) if own.export is None else None
        if where is None:
            raise ForgedBinding(f"Binding Object {own.number}: it is for no other machine")
        kernel = self.kernel
        processor = kernel.running_processor()
        processor.checkpoint()  # from here to the sending nothing intervenes: that is what lookahead rests on
        processor.spend(kernel.charges.remote_client)
        pending = self._open(kernel.running_thread(), where[0], own.name, procedure, arguments)
        kernel.counts.cross_machine += 1
        self.packets.send(processor, where[0], pending.message, len(arguments))
        kernel.counts.link_requests += 1
        if pending.message.caller:
            self._set_timer(pending)
        fault = kernel.block(f"a reply from {own.name} on another machine")
        if pending.results is not None:
            self._receive(kernel.running_processor(), len(pending.results))
        if fault is not None:
            raise fault
        return pending.results or b""

    def close(self, pending: PendingCall) -> None:
        """Have a call not be outstanding any more."""
        del self.outstanding[pending.message.number]
        pending.thread.outstanding = None
        if pending.timer is not None:
            self.kernel.engine.cancel(pending.timer)
            pending.timer = None
        if pending.message.caller:
            heappush(self._free_callers, pending.message.caller)

    def _open(self, thread: "Thread", machine: int, export: str, procedure: int, arguments: bytes) -> PendingCall:
        self._calls += 1
        caller = 0
        if self.packets.line(machine).loss_ppb:
            self._loses = True
            if not self._free_callers:
                self._callers += 1
                self._free_callers.append(self._callers)
            caller = heappop(self._free_callers)
        message = CallMessage(self._calls, export, procedure, arguments, caller)
        pending = self.outstanding[self._calls] = PendingCall(self, thread, machine, message)
        thread.outstanding = pending
        return pending

    def _set_timer(self, pending: PendingCall) -> None:
        """Wait for an answer to a try."""
        pending.tries += 1
        due = self.kernel.now_ns + self.kernel.costs.retransmission.wait_ns(pending.tries)
        pending.timer = self.kernel.engine.schedule(due, lambda: self._expire(pending))

    def _expire(self, pending: PendingCall) -> None:
        """Have a call that nobody has answered in time fail, or a thread of the kernel's send it again."""
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
        if pending.message.number in self.outstanding:  # sending takes its time
            self._set_timer(pending)

    def expect(self, body: Body) -> None:
        """Note a message that is on its way, and will arrive when it is due."""
        if isinstance(body, ReplyMessage):
            self._replies += 1

    def arrive(self, source: int, body: Body) -> None:
        """Take in a packet, with the message that it completes, that is off the wire now: an action of the engine's."""
        self.kernel.log.add(self.kernel.engine.now, ARRIVE, source, content(body))
        if isinstance(body, Fragment):
            self.packets.receive_part(body.size)
        else:
            self.packets.receive(last_packet(body), lambda: self._take(source, body))

    def _take(self, source: int, body: Body) -> None:
        if isinstance(body, CallMessage):
            self._serve(source, body)
        elif isinstance(body, Acknowledgement):
            if body.number in self.outstanding:
                self.outstanding[body.number].tries = 0
        elif isinstance(body, ReplyMessage):
            pending = self.outstanding.get(body.number)
            if pending is None:
                self.kernel.counts.replies_dropped += 1
                return
            self.close(pending)
            pending.results = body.results
            self.kernel.wake(pending.thread, _fault(body))

    def _serve(self, source: int, message: CallMessage) -> None:
        if message.caller:
            last = self.remembered.get((source, message.caller))
            if last is not None and message.number <= last.number:
                self._repeat(source, message, last)
                return
            self.remembered[source, message.caller] = Remembered(message.number)
        kernel = self.kernel
        export = kernel.exports.get(message.export)
        domain = kernel.domain("kernel") if export is None else export.domain
        name = f"{message.export}/from{source}/{message.number}"
        thread = kernel.new_thread(name, domain, lambda: self._run(source, message))
        thread.serves = True
        thread.on_lost = lambda: self._tell_lost(source, message, name)
        kernel.wake(thread)

    def _repeat(self, source: int, message: CallMessage, last: Remembered) -> None:
        """Answer a call that has come before from memory, or say that it is being executed; it never is again."""
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
            self.packets.send(processor, source, body, data_of(body))

        self._kernel_thread(f"{message.export}/from{source}/{message.number}/again{last.repeated}", answer)

    def _tell_lost(self, source: int, message: CallMessage, name: str) -> None:
        """Reply that a call's server ended, from a thread of the kernel's own."""
        what = f"machine {self.kernel.machine}: the domain that exported {message.export} has terminated"
        reply = ReplyMessage(message.number, b"", ("", what))
        self._kernel_thread(f"{name}/lost", lambda: self._reply(source, message.caller, reply))

    def _kernel_thread(self, name: str, body: Callable[[], None]) -> None:
        thread = self.kernel.new_thread(name, self.kernel.domain("kernel"), body)
        thread.serves = True
        self.kernel.wake(thread)

    def _run(self, source: int, message: CallMessage) -> None:
        """Receive a call, run its procedure in the server's domain, and reply: the life of a server thread."""
        processor = self.kernel.running_processor()
        self._receive(processor, len(message.arguments))
        processor.spend(self.kernel.charges.remote_server)
        processor.checkpoint()
        results, fault = b"", None
        try:
            results = self._enter(message)
        except Exception as error:
            problem = error if isinstance(error, CallFailed) else raised(error)
            fault = (problem.kind, problem.message) if isinstance(problem, ProcedureRaised) else ("", str(problem))
        self._reply(source, message.caller, ReplyMessage(message.number, results, fault))

    def _reply(self, source: int, caller: int, reply: ReplyMessage) -> None:
        processor = self.kernel.running_processor()
        processor.checkpoint()
        self.packets.send(processor, source, reply, len(reply.results))
        self.kernel.running_thread().on_lost = None  # from here on it will not be told that this has been lost
        self.kernel.counts.link_replies += 1
        last = self.remembered.get((source, caller))
        if last is not None and last.number == reply.number:
            last.reply = reply

    def _enter(self, message: CallMessage) -> bytes:
        export = self.kernel.exports.get(message.export)
        if export is None:
            raise CallFailed(f"machine {self.kernel.machine} does not export {message.export}")
        if not 0 <= message.procedure < len(export.descriptors):
            raise NoSuchProcedure(f"{export.name}: procedure {message.procedure}: it has {len(export.descriptors)}")
        descriptor = export.descriptors[message.procedure]
        if len(message.arguments) > descriptor.largest_arguments:
            raise CallFailed(f"{export.name}.{descriptor.name}: {len(message.arguments)} bytes of arguments")
        return descriptor.entry(message.arguments, 0)

    def _receive(self, processor: "Processor", size: int) -> None:
        """Spend what receiving a message costs beyond what the network processor did."""
        processor.spend(processor.charges.network_receive)
        processor.clock += processor.charges.carry(size)


def _fault(reply: ReplyMessage) -> CallError | None:
    if reply.fault is None:
        return None
    kind, message = reply.fault
    return ProcedureRaised(kind, message) if kind else CallFailed(message)
