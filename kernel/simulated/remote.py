"""Calls between machines: what the sending and the receiving kernel do, and what they ask of the link between them."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallAborted, CallError, CallFailed, ForgedBinding, NoSuchProcedure, ProcedureRaised
from lrpc.kernel.simulated.engine import Event
from lrpc.kernel.simulated.estacks import raised
from lrpc.kernel.simulated.log import ARRIVE
from lrpc.kernel.simulated.packets import (
    Acknowledgement,
    Body,
    CallMessage,
    Line,
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

    def __init__(self, network: "Network", thread: "Thread", number: int, caller: int) -> None:
        self.network = network
        self.thread = thread
        self.number = number
        self.caller = caller
        self.tries = 0  # since it was last heard that somebody is at it
        self.waiting = False  # rather than being sent again
        self.timer: Event | None = None
        self.answered = False
        self.results = b""
        self.fault: CallError | None = None

    def abandon(self) -> None:
        """Expect no reply; one that comes is dropped and counted."""
        self.network.close(self)

    def answer(self, results: bytes, fault: CallError | None) -> None:
        """Take the reply, and go on with the thread if it waits for that."""
        waiting = self.waiting
        self.network.close(self)
        self.thread.outstanding = None
        self.results, self.fault, self.answered = results, fault, True
        if waiting:
            self.network.kernel.wake(self.thread)

    def expire(self) -> None:
        """Wake the thread, since nobody has answered in time."""
        self.timer = None
        self.waiting = False
        self.network.kernel.wake(self.thread)


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

    def __init__(self, kernel: "Kernel", rank: int, send: Send, locate: Locate, line_to: Callable[[int], Line]) -> None:
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
        """Return whether replies may come: to calls given up too, and where packets are lost, at any time."""
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
        pending = self._open(kernel.running_thread(), where[0])
        kernel.counts.cross_machine += 1
        message = CallMessage(pending.number, own.name, procedure, arguments, pending.caller)
        self.packets.send(processor, where[0], message, len(arguments))
        kernel.counts.link_requests += 1
        what = f"a reply from {own.name} on another machine"
        fault = self._wait(pending, what) if pending.caller == 0 else self._insist(pending, where[0], message, what)
        if not isinstance(fault, CallAborted) and pending.answered:
            self._receive(kernel.running_processor(), len(pending.results))
        if fault is not None:
            raise fault
        return pending.results

    def close(self, pending: PendingCall) -> None:
        """Have a call not be outstanding any more."""
        del self.outstanding[pending.number]
        pending.waiting = False
        if pending.timer is not None:
            self.kernel.engine.cancel(pending.timer)
            pending.timer = None
        if pending.caller:
            heappush(self._free_callers, pending.caller)

    def _open(self, thread: "Thread", machine: int) -> PendingCall:
        self._calls += 1
        caller = 0
        if self.packets.line(machine).loss_ppb:
            self._loses = True
            if not self._free_callers:
                self._callers += 1
                self._free_callers.append(self._callers)
            caller = heappop(self._free_callers)
        pending = self.outstanding[self._calls] = PendingCall(self, thread, self._calls, caller)
        thread.outstanding = pending
        return pending

    def _wait(self, pending: PendingCall, what: str) -> CallError | None:
        """Block until the call is answered, given up, or to be sent again; return the error that is its result."""
        pending.waiting = True
        fault = self.kernel.block(what)
        return pending.fault if fault is None else fault

    def _insist(self, pending: PendingCall, machine: int, message: CallMessage, what: str) -> CallError | None:
        """Wait for an answer, and send the call again as long as none comes; return the error that is its result."""
        kernel = self.kernel
        policy = kernel.costs.retransmission
        while not pending.answered:
            pending.tries += 1
            wait_ns = policy.wait_ns(pending.tries)
            pending.timer = kernel.engine.at(kernel.now_ns + wait_ns, pending.expire)
            fault = self._wait(pending, what)
            if fault is not None or pending.answered:
                return fault
            if pending.tries >= policy.tries:
                self.close(pending)
                pending.thread.outstanding = None
                return CallFailed(f"{message.export}: its machine did not answer in {pending.tries} tries")
            kernel.counts.calls_retransmitted += 1
            self.packets.send(kernel.running_processor(), machine, message, len(message.arguments))
        return pending.fault

    def arrive(self, source: int, body: Body) -> None:
        """Take in a packet, with the message that it completes, that is off the wire now: an action of the engine's."""
        self.kernel.log.add(self.kernel.engine.now, ARRIVE, source, content(body))
        self.packets.receive(last_packet(body), lambda: self._take(source, body))

    def _take(self, source: int, body: Body) -> None:
        if isinstance(body, CallMessage):
            self._serve(source, body)
        elif isinstance(body, Acknowledgement):
            if body.number in self.outstanding:
                self.outstanding[body.number].tries = 0
        elif isinstance(body, ReplyMessage):
            self._replies += 1
            pending = self.outstanding.get(body.number)
            if pending is None:
                self.kernel.counts.replies_dropped += 1
                return
            pending.answer(body.results, _fault(body))

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
        thread.lost = lambda: self._tell_lost(source, message, name)
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
        self.kernel.running_thread().lost = None  # from here on it will not be told that this has been lost
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
