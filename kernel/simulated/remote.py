"""Calls between machines: what the sending and the receiving kernel do, and what they ask of the link between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallAborted, CallError, CallFailed, ForgedBinding, NoSuchProcedure, ProcedureRaised
from lrpc.kernel.simulated.estacks import raised
from lrpc.kernel.simulated.log import ARRIVE, SEND

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Thread


@dataclass(frozen=True, slots=True)
class CallMessage:
    """A call for an export of another machine; `number` is the caller's, to match the reply."""

    number: int
    export: str
    procedure: int
    arguments: bytes


@dataclass(frozen=True, slots=True)
class ReplyMessage:
    """Results, or what the procedure raised: its kind and text."""

    number: int
    results: bytes
    fault: tuple[str, str] | None


Body = CallMessage | ReplyMessage
# Sends a message to a machine, by rank, at a virtual time in ns; the size of what it carries is in bytes.
Send = Callable[[int, int, Body, int], None]
# Says which machine, by rank, exports a name, and which interface that is; None where nobody does.
Locate = Callable[[str], tuple[int, str] | None]


class PendingCall:
    """A call that left this machine and the thread that waits for it."""

    def __init__(self, thread: "Thread", number: int, outstanding: dict[int, "PendingCall"]) -> None:
        self.thread = thread
        self.results = b""
        self._number = number
        self._outstanding = outstanding

    def abandon(self) -> None:
        """Expect no reply; one that comes is dropped and counted."""
        del self._outstanding[self._number]


class Network:
    """One machine's end of its links."""

    def __init__(self, kernel: "Kernel", rank: int, send: Send, locate: Locate) -> None:
        kernel.costs.require("network")
        self.kernel = kernel
        self.rank = rank
        self.locate = locate
        self._send = send
        self._calls = 0
        self._replies = 0
        self._outstanding: dict[int, PendingCall] = {}

    @property
    def waits(self) -> bool:
        """Return whether replies may come that are not on their way yet, to calls given up too."""
        return self._replies < self._calls

    def call(self, key: BindingObject, procedure: int, arguments: bytes) -> bytes:
        """Call a procedure of another machine and return its packed results.

        Raises `ProcedureRaised`, `ForgedBinding`, `CallFailed` where the other kernel refused, or `CallAborted`.
        """
        own = self.kernel.check_key(key, self.kernel.running_thread().domain)
        where = self.locate(own.name) if own.export is None else None
        if where is None:
            raise ForgedBinding(f"Binding Object {own.number}: it is for no other machine")
        kernel = self.kernel
        processor = kernel.running_processor()
        thread = kernel.running_thread()
        processor.checkpoint()  # from here to the sending nothing intervenes: that is what lookahead rests on
        processor.spend(kernel.charges.remote_client)
        self._calls += 1
        number = self._calls
        pending = self._outstanding[number] = PendingCall(thread, number, self._outstanding)
        kernel.counts.cross_machine += 1
        kernel.counts.link_requests += 1
        self._transmit(processor, where[0], CallMessage(number, own.name, procedure, arguments), len(arguments))
        thread.outstanding = pending
        fault = kernel.block(f"a reply from {own.name} on another machine")
        if not isinstance(fault, CallAborted):
            _receive(kernel.running_processor(), len(pending.results))
        if fault is not None:
            raise fault
        return pending.results

    def expect(self, body: Body) -> None:
        """Note a message that is on its way, and will arrive when it is due."""
        if isinstance(body, ReplyMessage):
            self._replies += 1

    def arrive(self, source: int, body: Body) -> None:
        """Take in a message that is due now: an action of the engine's."""
        self.kernel.log.add(self.kernel.engine.now, ARRIVE, source, _content(body))
        if isinstance(body, CallMessage):
            self._serve(source, body)
            return
        pending = self._outstanding.pop(body.number, None)
        if pending is None:
            self.kernel.counts.replies_dropped += 1
            return
        pending.results = body.results
        pending.thread.outstanding = None
        self.kernel.wake(pending.thread, _fault(body))

    def _serve(self, source: int, message: CallMessage) -> None:
        kernel = self.kernel
        export = kernel.exports.get(message.export)
        domain = kernel.domain("kernel") if export is None else export.domain
        name = f"{message.export}/from{source}/{message.number}"
        thread = kernel.new_thread(name, domain, lambda: self._run(source, message))
        thread.serves = True
        thread.lost = lambda: self._tell_lost(source, message, name)
        kernel.wake(thread)

    def _tell_lost(self, source: int, message: CallMessage, name: str) -> None:
        """Reply that a call's server ended, from a thread of the kernel's own."""
        what = f"machine {self.kernel.machine}: the domain that exported {message.export} has terminated"

        def reply() -> None:
            self._reply(source, ReplyMessage(message.number, b"", ("", what)))

        thread = self.kernel.new_thread(f"{name}/lost", self.kernel.domain("kernel"), reply)
        thread.serves = True
        self.kernel.wake(thread)

    def _run(self, source: int, message: CallMessage) -> None:
        """Receive a call, run its procedure in the server's domain, and reply: the life of a server thread."""
        processor = self.kernel.running_processor()
        _receive(processor, len(message.arguments))
        processor.spend(self.kernel.charges.remote_server)
        processor.checkpoint()
        results, fault = b"", None
        try:
            results = self._enter(message)
        except Exception as error:
            problem = error if isinstance(error, CallFailed) else raised(error)
            fault = (problem.kind, problem.message) if isinstance(problem, ProcedureRaised) else ("", str(problem))
        self.kernel.running_thread().lost = None
        self._reply(source, ReplyMessage(message.number, results, fault))

    def _reply(self, source: int, reply: ReplyMessage) -> None:
        processor = self.kernel.running_processor()
        processor.checkpoint()
        self.kernel.counts.link_replies += 1
        self._transmit(processor, source, reply, len(reply.results))

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

    def _transmit(self, processor: "Processor", machine: int, body: Body, size: int) -> None:
        processor.spend(self.kernel.charges.network_send)
        processor.clock += processor.charges.carry(size)
        self.kernel.log.add(processor.clock, SEND, machine, _content(body))
        self._send(machine, processor.clock, body, size)


def _receive(processor: "Processor", size: int) -> None:
    processor.spend(processor.charges.network_receive)
    processor.clock += processor.charges.carry(size)


def _fault(reply: ReplyMessage) -> CallError | None:
    if reply.fault is None:
        return None
    kind, message = reply.fault
    return ProcedureRaised(kind, message) if kind else CallFailed(message)


def _content(body: Body) -> int:
    """Return what the event log says of a message: the call's number, and a checksum of what it is and carries."""
    if isinstance(body, CallMessage):
        carried = crc32(body.arguments, crc32(body.export.encode(), body.procedure))
    else:
        carried = crc32(body.results, crc32(repr(body.fault).encode()))
    return (body.number & 0x7FFF_FFFF) << 32 | carried
