"""Reads what one machine recorded for a timeline, and sorts it into tracks.

`lrpc.domains.simulated.timeline` says what a machine writes. Here a path is divided into its steps,
a copy into values and bytes, by what each of them costs, and calls get their arrows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i64_le, write_i64_le

from lrpc.domains.simulated.timeline import (
    BUSY_SLICE,
    CALL_SLICE,
    COPY_SLICE,
    DETAIL_BITS,
    FIELDS,
    KIND_BITS,
    MACHINES,
    PROCEDURE_SLICE,
    SOURCE_BITS,
    STEPS_SLICE,
    UNFINISHED,
)
from lrpc.kernel.simulated.charges import CONTROLLER, IO_PROCESSOR
from lrpc.kernel.simulated.costs import STEPS
from lrpc.workloads.records.nesting import Slices
from lrpc.workloads.records.perfetto import PerfettoWriter

if TYPE_CHECKING:  # a native number, where this is compiled
    from mypy_extensions import i64

CROSSES: Final = ("within_domain", "cross_domain", "cross_machine")  # as records count calls
REFUSED: Final = "refused"  # the category of a call that never left its domain, and does not count
TRAP: Final = "trap"
SERVERS: Final = {IO_PROCESSOR: "interrupts of packets", CONTROLLER: "controller"}
NUMBER_BITS: Final = 40  # of a call's number within its machine
_NEVER: Final = (1 << 62) - 1
_ROW: Final = FIELDS * 8  # bytes
_END_ROW: Final = 3 * 8
_KIND: Final = (1 << KIND_BITS) - 1
_DETAIL: Final = (1 << DETAIL_BITS) - 1
_CROSSES: Final = UNFINISHED - 1  # the bits of a detail that say what a call crosses
_UNFINISHED: Final = UNFINISHED << KIND_BITS


class CallEnds:
    """Both ends of the calls of all machines: as their clients saw them, and their procedures."""

    def __init__(self) -> None:
        self._calls = BytesWriter()
        self._procedures = BytesWriter()

    def add(self, kind: i64, key: i64, begin: i64, end: i64) -> None:
        """Add when a call left its domain and ended, or when its procedure began and ended."""
        ends = self._calls if kind == CALL_SLICE else self._procedures
        write_i64_le(ends, key)
        write_i64_le(ends, begin)
        write_i64_le(ends, end)

    def arrows(self, end_ns: int) -> dict[int, bool]:
        """Return the calls with both ends before a time, by key, and whether each came back."""
        ended: dict[int, int] = {}
        procedures = self._procedures.getvalue()
        for at in range(0, len(procedures), _END_ROW):
            if read_i64_le(procedures, at + 8) < end_ns:
                ended[read_i64_le(procedures, at)] = read_i64_le(procedures, at + 16)
        found: dict[int, bool] = {}
        calls = self._calls.getvalue()
        for at in range(0, len(calls), _END_ROW):
            procedure_end = ended.get(read_i64_le(calls, at))
            if procedure_end is not None and read_i64_le(calls, at + 8) < end_ns:
                end = read_i64_le(calls, at + 16)
                # A caller that was released may be back before its procedure.
                found[read_i64_le(calls, at)] = procedure_end <= end <= end_ns
        return found


class MachinePart:
    """One machine's part of a timeline. `rank` is the machine's."""

    def __init__(self, path: Path, rank: int) -> None:
        data = path.read_bytes()
        size = int.from_bytes(data[-8:], "little")
        told = json.loads(data[-8 - size : -8])
        self.rank = rank
        self.cut_ns: int = told["cut_ns"]  # -1 where it is whole
        self.last_ns: int = told["last_ns"]  # when its last slice ends
        self.threads: Mapping[str, str] = told["threads"]
        self.domains: Mapping[str, str] = told["domains"]
        self.procedures: Sequence[str] = told["procedures"]
        # Steps and their picoseconds.
        self.paths: Sequence[Sequence[tuple[int, int]]] = [[(step, ps) for step, ps in one] for one in told["paths"]]
        self.ps: Sequence[int] = told["ps"]
        self.data = data  # rows of the integers that `lrpc.domains.simulated.timeline` lists
        self.size = len(data) - 8 - size  # of those

    def add_ends(self, ends: CallEnds) -> None:
        """Add this machine's ends of calls."""
        data = self.data
        for at in range(0, self.size, _ROW):
            head = read_i64_le(data, at)
            kind = head & _KIND
            if kind in (CALL_SLICE, PROCEDURE_SLICE):
                key = self.key(at)
                if key:
                    begin = read_i64_le(data, at + (48 if kind == CALL_SLICE else 8))
                    ends.add(kind, key, begin, _NEVER if head & _UNFINISHED else read_i64_le(data, at + 16))

    def key(self, at: i64) -> int:
        """Return what is the same at both ends of a call, or 0 for one without an arrow."""
        data = self.data
        head, number = read_i64_le(data, at), read_i64_le(data, at + 40)
        rank: i64 = self.rank
        crosses = head >> KIND_BITS & _CROSSES
        if head & _KIND == CALL_SLICE:
            far = crosses == MACHINES
            if read_i64_le(data, at + 48) < 0:
                return 0
        else:
            far = crosses == 1
            if far:
                rank = number >> SOURCE_BITS
                number &= (1 << SOURCE_BITS) - 1
        return (rank << NUMBER_BITS | number) << 1 | far if number else 0


class Lane:
    """A track of a machine. `order` sorts those that are no thread's: a processor's number."""

    def __init__(self, name: str, of_thread: bool, order: int, slices: Slices) -> None:
        self.name = name
        self.of_thread = of_thread
        self.order = order
        self.slices = slices


class _Stay:
    """A thread in a domain, or what a processor does, with its slices and when they are."""

    def __init__(self, thread: i64, place: i64, begin: i64) -> None:
        self.thread = thread
        self.place = place
        self.first = begin
        self.last = begin
        self.slices = Slices()


class MachineLanes:
    """The tracks of a machine, with what begins before a time; arrows are `CallEnds.arrows`."""

    def __init__(self, part: MachinePart, writer: PerfettoWriter, end_ns: int, arrows: Mapping[int, bool]) -> None:
        self.slices = 0
        self.arrows = 0
        self.calls = dict.fromkeys((TRAP, *CROSSES), 0)
        self._part = part
        self._writer = writer
        self._end_ns: i64 = end_ns
        self._arrows = arrows
        self._stays: dict[int, _Stay] = {}  # by place and thread
        self._last: _Stay | None = None  # that of the last row
        self._named: dict[int, int] = {}  # names of calls and procedures, by head
        self._threads: dict[int, int] = {}  # names of threads that had processors
        self._copied: dict[int, int] = {}  # names of copies, by step and how often
        self._leaves, self._returns, self._is_back = (
            writer.name("arrow", name) for name in ("leaves", "returns", "is back")
        )
        self._trap = writer.name(TRAP, "system call")
        # Of each path the names of its steps, and when each begins and ends if all take their cost.
        self._steps = [[self._step(step, 1) for step, _ in path] for path in part.paths]
        self._sums = [list(accumulate(ps for _, ps in path)) for path in part.paths]
        for at in range(0, part.size, _ROW):
            if read_i64_le(part.data, at + 8) < end_ns:
                self._add_row(at)

    def lanes(self) -> list[Lane]:
        """Return the tracks: processors and what is beside them, then threads in domains.

        A thread in a domain is on a track that no other is on at the time.
        """
        stays = self._stays.values()
        places = sorted([one for one in stays if not one.thread], key=lambda one: (one.place < 0, one.place))
        lanes = []
        for order, one in enumerate(places):
            lanes.append(Lane(SERVERS.get(one.place, f"processor {one.place}"), False, order, one.slices))
        return lanes + self._thread_lanes([one for one in stays if one.thread])

    def _thread_lanes(self, stays: list[_Stay]) -> list[Lane]:
        stays.sort(key=lambda one: (one.place, one.first, one.thread))
        lanes: list[Lane] = []
        free: list[tuple[int, int]] = []  # when tracks of the domain are free, and which
        place = count = 0
        for stay in stays:
            domain = self._part.domains[str(stay.place)]
            if not lanes or stay.place != place:
                place, count = stay.place, 0
                free.clear()
            if free and free[0][0] <= stay.first:
                _, at = heappop(free)
                # More threads than one have it: it has a number in place of a name.
                lanes[at].name = f"{domain}, {lanes[at].order}"
                lanes[at].slices.add_all(stay.slices)
            else:
                at = len(lanes)
                count += 1
                name = f"{self._part.threads[str(stay.thread)]} in {domain}"
                lanes.append(Lane(name, True, count, stay.slices))
            heappush(free, (stay.last, at))
        return lanes

    def _stay(self, thread: i64, place: i64, begin: i64, end: i64) -> _Stay:
        """Return where a row's slices belong."""
        stay = self._last
        if stay is None or stay.thread != thread or stay.place != place:
            stay = self._stays.get(place << SOURCE_BITS | thread)
            if stay is None:
                stay = self._stays[place << SOURCE_BITS | thread] = _Stay(thread, place, begin)
            self._last = stay
        if begin < stay.first:
            stay.first = begin
        if end > stay.last:
            stay.last = end
        return stay

    def _add_row(self, at: i64) -> None:
        data = self._part.data
        head, begin, end = read_i64_le(data, at), read_i64_le(data, at + 8), read_i64_le(data, at + 16)
        stay = self._stay(read_i64_le(data, at + 24), read_i64_le(data, at + 32), begin, end)
        slices = stay.slices
        kind = head & _KIND
        if kind == STEPS_SLICE:
            self._add_steps(slices, head >> KIND_BITS + DETAIL_BITS, begin, end)
        elif kind == COPY_SLICE:
            self._add_copy(slices, head, begin, end, read_i64_le(data, at + 40), read_i64_le(data, at + 48))
        elif kind == BUSY_SLICE:
            number = read_i64_le(data, at + 40)
            name = self._threads.get(number)
            if name is None:
                name = self._writer.name("processor", self._part.threads[str(number)])
                self._threads[number] = name
            self._add(slices, begin, end, name)
        elif kind == CALL_SLICE:
            self._add_call(slices, at, head, begin, end)
        elif kind == PROCEDURE_SLICE:
            self._add_procedure(slices, at, head, begin, end)
        else:
            self.calls[TRAP] += 1
            self._add(slices, begin, end, self._trap)

    def _add(self, slices: Slices, begin: i64, end: i64, name: i64, flow: i64 = 0) -> None:
        """Add a slice as far as the timeline goes."""
        if begin < self._end_ns:
            self.slices += 1
            slices.add(begin, end if end < self._end_ns else self._end_ns, name, flow)

    def _add_call(self, slices: Slices, at: i64, head: i64, begin: i64, end: i64) -> None:
        left = read_i64_le(self._part.data, at + 48)
        crosses = CROSSES[head >> KIND_BITS & _CROSSES]
        # What has not ended may leave its domain yet.
        refused = left < 0 and not head & _UNFINISHED
        if not refused:
            self.calls[crosses] += 1
        self._add(slices, begin, end, self._name(head, REFUSED if refused else crosses, refused))
        key = self._part.key(at)
        comes_back = self._arrows.get(key)
        if comes_back is not None:
            self.arrows += 1
            slices.add_instant(left, self._leaves, key << 1)
            if comes_back:
                slices.add_instant(end, self._is_back, -(key << 1 | 1))

    def _add_procedure(self, slices: Slices, at: i64, head: i64, begin: i64, end: i64) -> None:
        key = self._part.key(at)
        comes_back = self._arrows.get(key)
        self._add(slices, begin, end, self._name(head, "procedure", False), 0 if comes_back is None else -(key << 1))
        if comes_back:
            self.arrows += 1
            slices.add_instant(end, self._returns, key << 1 | 1)

    def _add_steps(self, slices: Slices, number: i64, begin: i64, end: i64) -> None:
        names, sums = self._steps[number], self._sums[number]
        took: int = end - begin
        last = len(names) - 1
        reached = begin
        for step, name in enumerate(names):
            # The steps of a service share its time, which varies, as they share its cost.
            until = end if step == last else begin + (sums[step] * took + sums[last] // 2) // max(1, sums[last])
            if reached < until:
                self._add(slices, reached, until, name)
            reached = until

    def _add_copy(self, slices: Slices, head: i64, begin: i64, end: i64, values: i64, size: i64) -> None:
        detail = head >> KIND_BITS & _DETAIL
        of_value, of_byte = detail & 0xFF, detail >> 8
        until = begin + (values * self._part.ps[of_value] + 500) // 1000 if size else end
        if until > end:
            until = end
        if begin < until:
            self._add(slices, begin, until, self._step(of_value, values))
        if until < end:
            self._add(slices, until, end, self._step(of_byte, size))

    def _name(self, head: i64, category: str, refused: bool) -> int:
        """Return the name of calls or procedures with a head."""
        key = (head & ~_UNFINISHED) << 1 | refused
        name = self._named.get(key)
        if name is None:
            name = self._writer.name(category, self._part.procedures[head >> KIND_BITS + DETAIL_BITS])
            self._named[key] = name
        return name

    def _step(self, step: int, times: int) -> int:
        """Return the name of a step with how often it was charged."""
        name = self._copied.get(times << KIND_BITS | step)
        if name is None:
            words = STEPS[step].replace("_", " ")
            name = self._writer.name("step", words if times == 1 else f"{words} x {times:,}")
            self._copied[times << KIND_BITS | step] = name
        return name
