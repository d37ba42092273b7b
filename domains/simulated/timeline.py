"""Records one machine's part of a timeline: slices of virtual time, with what they are of.

A slice is a call as its client sees it, a procedure as it runs in its server, a system call, a path
of steps or a copy that was charged, or the time for which a thread had a processor. It is written
as it ends, as `FIELDS` signed 64-bit integers, little-endian. What is not known by number then
follows at the end of the file, as one document of JSON and its length in eight bytes: names of
threads and domains, the procedures, and the steps of each path.

A machine that records is told what it is charged, and what its event log gets (`charges.Notes`).
Calls and procedures are seen where they are bound and exported: there, each is wrapped. So a
machine that does not record pays nothing for it, and one that does logs the same events.

Slices count that begin within the bounds. Where a machine has had as many as it may, it ends its
part at a time before which nothing is missing, which the part says.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from librt.strings import BytesWriter, write_i64_le

from lrpc.kernel.descriptors import ProcedureDescriptor
from lrpc.kernel.simulated.charges import NO_BYTES, Notes, Path, Service
from lrpc.kernel.simulated.costs import TLB_MISS
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.log import CALL, LOSE, MESSAGE, SEND, SYSTEM_CALL, WITHIN, Sink
from lrpc.kernel.simulated.processor import Processor
from lrpc.kernel.simulated.threads import Thread

# A slice's integers: `KIND`, begin and end in ns, thread, domain, and two more.
FIELDS: Final = 7
# Kinds, with the two bytes above them, the integer above those, and the last two integers.
STEPS_SLICE: Final = 1  # 0, number of the path; without a thread, `domain` is the processor
COPY_SLICE: Final = 2  # step by value << 8 | step by byte; values, bytes
CALL_SLICE: Final = 3  # what it crosses, procedure; its number, when it left its domain (-1: never)
PROCEDURE_SLICE: Final = 4  # 1 for a call of another machine; number of its call, or 0
TRAP_SLICE: Final = 5
BUSY_SLICE: Final = 6  # `domain` is the processor, and the first of the two integers the thread
KIND_BITS: Final = 8
DETAIL_BITS: Final = 16
UNFINISHED: Final = 1 << 15  # a bit of the detail: it had not ended where the part does
# What a call crosses.
NOTHING: Final = 0
DOMAINS: Final = 1
MACHINES: Final = 2
SOURCE_BITS: Final = 32  # of a call's number: above them the rank of the machine that made it
_PENDING: Final = 4096 * FIELDS * 8  # bytes, written together


class TimelineBounds(NamedTuple):
    """What a timeline may hold: slices that begin within a time in ns, and how many of them.

    `most` is of one machine here, and of all machines together where a run is asked for.
    """

    from_ns: int
    to_ns: int
    most: int


class OpenSlice:
    """A call or a procedure that has begun and not ended."""

    def __init__(self, head: int, begin: int, thread: int, domain: int, number: int) -> None:
        self.head = head
        self.begin = begin
        self.thread = thread
        self.domain = domain
        self.number = number
        self.left_ns = -1  # when a call left its domain


class TimelineNotes(Notes):
    """Writes slices of a machine to `sink`, as far as `bounds` allow."""

    def __init__(self, kernel: Kernel, bounds: TimelineBounds, sink: Sink) -> None:
        self.kernel = kernel
        self.ended = False
        self._from_ns = bounds.from_ns
        self._to_ns = bounds.to_ns
        self._most = bounds.most
        self._sink = sink
        self._count = 0  # slices so far; a path of several steps is as many
        self._cut_ns = -1  # where the part ends, if it is not whole
        self._last_ns = 0  # when its last slice ends
        self._calls = 0  # so far: their numbers
        self._pending = BytesWriter()
        self._open: dict[int, list[OpenSlice]] = {}  # by thread, the innermost last
        self._threads: dict[int, str] = {}  # names of those with slices
        self._domains: dict[int, str] = {}
        self._last_thread: Thread | None = None  # whose names are noted
        self._last_domain: ProtectionDomain | None = None
        self._procedures: list[str] = []
        kernel.charges.notes = self
        kernel.log.notes = self
        for processor in kernel.processors:
            processor.notes_all = True

    def procedure(self, name: str) -> int:
        """Return a number for a procedure, by the name that its slices get."""
        self._procedures.append(name)
        return len(self._procedures) - 1

    def begin_call(self, crosses: int, procedure: int) -> OpenSlice | None:
        """Begin a call of the running thread; return None where it is not to be recorded."""
        self._calls += 1
        return self._begin(CALL_SLICE | crosses << KIND_BITS | procedure << KIND_BITS + DETAIL_BITS, self._calls)

    def begin_procedure(self, procedure: int) -> OpenSlice | None:
        """Begin a procedure that the running thread runs for a client, and find its call."""
        processor = self.kernel.processor
        thread = None if processor is None else processor.thread
        if self.ended or thread is None:
            return None
        head = PROCEDURE_SLICE | procedure << KIND_BITS + DETAIL_BITS
        if thread.innermost is None and thread.concrete is None:
            return self._begin(head | 1 << KIND_BITS, thread.serves_call)
        client: Thread | None = thread
        if thread.innermost is None and thread.concrete is not None:
            client = thread.concrete.sender
        call = None if client is None else self._call_of(client.number)
        return self._begin(head, 0 if call is None else call.number)

    def end(self, one: OpenSlice | None) -> None:
        """End a call or a procedure, wherever its thread is by now."""
        if one is None or self.ended:
            return
        opened = self._open[one.thread]
        opened.remove(one)
        if not opened:
            del self._open[one.thread]
        self._write(
            one.head, one.begin, max(one.begin, self.kernel.now_ns), one.thread, one.domain, one.number, one.left_ns
        )

    def add_path(self, path: Path, processor: Processor) -> None:
        """Record the steps of a path that a processor has spent."""
        if path.ns:
            self._add_steps(path, processor.clock - path.ns, path.ns, processor.number, processor)

    def add_service(
        self, service: Service, size: int, begin: int, ns: int, place: int, processor: Processor | None
    ) -> None:
        """Record a service of a packet, or of a thread that calls another machine.

        Its steps, and then its bytes, share its time as they share its cost.
        """
        steps_ns = ns
        if service.byte_step != NO_BYTES and size:
            bytes_ns = (size * self.kernel.costs.ps[service.byte_step] + 500) // 1000
            steps_ns = ns * service.path.ns // max(1, service.path.ns + bytes_ns)
        self._add_steps(service.path, begin, steps_ns, place, processor)
        if steps_ns < ns:
            domain, number = self._at(place, processor)
            head = COPY_SLICE | service.byte_step << KIND_BITS | service.byte_step << KIND_BITS + 8
            self._step(head, 0, begin + steps_ns, ns - steps_ns, number, domain, 0, size)

    def add_copy(self, value_step: int, byte_step: int, values: int, size: int, ns: int) -> None:
        """Record a copy that the running thread is about to spend."""
        head = COPY_SLICE | value_step << KIND_BITS | byte_step << KIND_BITS + 8
        processor = self.kernel.processor
        if processor is not None and processor.thread is not None:
            thread = processor.thread
            self._step(head, 0, processor.clock, ns, thread.number, self._place(thread), values, size)

    def add_misses(self, count: int, ns: int, processor: Processor) -> None:
        """Record misses that a processor is about to spend, but for their turn on a shared bus."""
        if self.kernel.charges.bus:
            ns -= self.kernel.charges.bus_ns(TLB_MISS, count)
        domain, number = self._at(processor.number, processor)
        head = COPY_SLICE | TLB_MISS << KIND_BITS | TLB_MISS << KIND_BITS + 8
        self._step(head, 0, processor.clock, ns, number, domain, count, 0)

    def add_release(self, processor: Processor, since: int) -> None:
        """Record that a thread had a processor."""
        if processor.thread is not None and not self._is_over(max(since, self._from_ns)):
            self._busy(processor, processor.thread, since, processor.clock)

    def add_event(self, time: int, kind: int, subject: int, object_: int) -> None:
        """Record a system call, or when a call leaves its domain."""
        if kind == SYSTEM_CALL:
            processor = self.kernel.processor
            if processor is not None and processor.thread is not None:
                thread = processor.thread
                took = object_ + self.kernel.charges.trap.ns
                self._step(TRAP_SLICE, 0, time - took, took, thread.number, self._place(thread), 0, 0)
        elif kind in (CALL, MESSAGE, WITHIN):
            self._leave(subject, time)
        elif kind in (SEND, LOSE):
            processor = self.kernel.processor
            if processor is not None and processor.thread is not None:
                self._send(processor.thread.number, time, object_ >> 32)

    def close(self) -> None:
        """End the machine's part where the machine is, and write what explains it."""
        if not self.ended:
            clocks = [processor.clock for processor in self.kernel.processors]
            self._finish(min(self._to_ns, max(self.kernel.now_ns, *clocks)))
        steps = [[(step, self.kernel.costs.ps[step]) for step in path.steps] for path in self.kernel.charges.paths]
        told = {
            "cut_ns": self._cut_ns,
            "last_ns": self._last_ns,
            "threads": self._threads,
            "domains": self._domains,
            "procedures": self._procedures,
            "paths": steps,
            "ps": list(self.kernel.costs.ps),
        }
        text = json.dumps(told).encode()
        self._sink.write(text + len(text).to_bytes(8, "little"))

    def _at(self, place: int, processor: Processor | None) -> tuple[int, int]:
        """Return where a thread is, and its number; without a thread, the place and 0."""
        thread = None if processor is None else processor.thread
        return (place, 0) if thread is None else (self._place(thread), thread.number)

    def _add_steps(self, path: Path, begin: int, ns: int, place: int, processor: Processor | None) -> None:
        domain, number = self._at(place, processor)
        self._step(STEPS_SLICE, path.number, begin, ns, number, domain, len(path.steps), 0)

    def _begin(self, head: int, number: int) -> OpenSlice | None:
        processor = self.kernel.processor
        if self.ended or processor is None or processor.thread is None:
            return None
        now = processor.clock
        if now < self._from_ns or self._is_over(now):
            return None
        thread = processor.thread
        self._count += 1
        one = OpenSlice(head, now, thread.number, self._place(thread), number)
        self._open.setdefault(thread.number, []).append(one)
        return one

    def _call_of(self, thread: int) -> OpenSlice | None:
        """Return the innermost call of a thread; None where it runs a procedure, or is unknown."""
        opened = self._open.get(thread)
        if not opened or opened[-1].head & (1 << KIND_BITS) - 1 != CALL_SLICE:
            return None
        return opened[-1]

    def _leave(self, thread: int, time: int) -> None:
        """Note when the innermost call of a thread leaves its domain."""
        call = self._call_of(thread)
        if call is not None and call.left_ns < 0:
            call.left_ns = time

    def _send(self, thread: int, time: int, number: int) -> None:
        """Note when a thread's call leaves its machine, and its number there."""
        call = self._call_of(thread)
        if call is not None and call.left_ns < 0 and call.head >> KIND_BITS & UNFINISHED - 1 == MACHINES:
            call.left_ns = time
            call.number = number

    def _step(
        self, head: int, path: int, begin: int, ns: int, thread: int, domain: int, values: int, size: int
    ) -> None:
        if not ns or begin < self._from_ns or self._is_over(begin):
            return
        self._count += values if head == STEPS_SLICE else 1
        self._write(head | path << KIND_BITS + DETAIL_BITS, begin, begin + ns, thread, domain, values, size)

    def _busy(self, processor: Processor, thread: Thread, since: int, until: int) -> None:
        begin = max(since, self._from_ns)
        if begin < until:
            self._place(thread)
            self._count += 1
            self._write(BUSY_SLICE, begin, until, 0, processor.number, thread.number, 0)

    def _place(self, thread: Thread) -> int:
        """Return the number of the domain where a thread runs, and note both names."""
        domain = thread.domain
        if thread is not self._last_thread or domain is not self._last_domain:
            self._last_thread, self._last_domain = thread, domain
            self._threads[thread.number] = thread.name
            self._domains[domain.number] = domain.name
        return domain.number

    def _is_over(self, time: int) -> bool:
        """Return whether `time` is beyond the part, which ends once nothing before is missing."""
        if self._count < self._most and time < self._to_ns:
            return False
        if not self.ended:
            # A processor's clock runs ahead of what else is due on its machine.
            whole_ns = min(time, self.kernel.now_ns, self.kernel.engine.next_time)
            if self._count >= self._most:
                self._cut_ns = max(whole_ns, self._from_ns)
                self._finish(self._cut_ns)
            elif whole_ns >= self._to_ns:
                self._finish(self._to_ns)
        return True

    def _finish(self, time: int) -> None:
        """Write the slices that have not ended, as if they did at `time`, and record no more."""
        self.ended = True
        kernel = self.kernel
        for calls in self._open.values():
            for one in calls:
                head = one.head | UNFINISHED << KIND_BITS
                self._write(head, one.begin, max(one.begin, time), one.thread, one.domain, one.number, one.left_ns)
        self._open.clear()
        for processor in kernel.processors:
            processor.notes_all = False
            if processor.thread is not None:
                self._busy(processor, processor.thread, processor.attached_at, time)
        kernel.charges.notes = None
        kernel.log.notes = None
        self._sink.write(self._pending.getvalue())
        self._pending.truncate(0)

    def _write(self, head: int, begin: int, end: int, thread: int, domain: int, one: int, other: int) -> None:
        self._last_ns = max(self._last_ns, end)
        pending = self._pending
        write_i64_le(pending, head)
        write_i64_le(pending, begin)
        write_i64_le(pending, end)
        write_i64_le(pending, thread)
        write_i64_le(pending, domain)
        write_i64_le(pending, one)
        write_i64_le(pending, other)
        if len(pending) >= _PENDING:
            self._sink.write(pending.getvalue())
            pending.truncate(0)


class RecordedStub:
    """A client stub, each call of which is recorded."""

    def __init__(self, notes: TimelineNotes, stub: Callable[..., object], crosses: int, name: str) -> None:
        self._notes = notes
        self._stub = stub
        self._crosses = crosses
        self._procedure = notes.procedure(name)

    def __call__(self, *values: object, **named: object) -> object:
        """Make the call, and return what it returns."""
        if self._notes.ended:
            return self._stub(*values, **named)
        one = self._notes.begin_call(self._crosses, self._procedure)
        try:
            return self._stub(*values, **named)
        finally:
            self._notes.end(one)


def recorded_stub(
    client: ProtectionDomain, stub: Callable[..., object], crosses: int, name: str
) -> Callable[..., object]:
    """Return a stub of a domain whose calls are recorded, if its machine records."""
    notes = client.kernel.charges.notes
    return RecordedStub(notes, stub, crosses, name) if isinstance(notes, TimelineNotes) else stub


def recorded_descriptors(
    server: ProtectionDomain, name: str, descriptors: Sequence[ProcedureDescriptor]
) -> tuple[ProcedureDescriptor, ...]:
    """Return the descriptors of an export, whose procedures are recorded if the machine records."""
    notes = server.kernel.charges.notes
    if not isinstance(notes, TimelineNotes):
        return tuple(descriptors)
    return tuple(_recorded_descriptor(notes, one, f"{name}.{one.name}") for one in descriptors)


def _recorded_descriptor(notes: TimelineNotes, one: ProcedureDescriptor, name: str) -> ProcedureDescriptor:
    procedure, split = notes.procedure(name), one.split_entry
    recorded = None if split is None else _recorded_entry(notes, split, procedure)
    return replace(one, entry=_recorded_entry(notes, one.entry, procedure), split_entry=recorded)


def _recorded_entry(notes: TimelineNotes, entry: Callable[..., bytes], procedure: int) -> Callable[..., bytes]:
    """Return a server stub of either kind, each run of which is recorded."""

    def run(*given: object) -> bytes:
        if notes.ended:
            return entry(*given)
        one = notes.begin_procedure(procedure)
        try:
            return entry(*given)
        finally:
            notes.end(one)

    return run
