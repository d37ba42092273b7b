"""Reads what one machine recorded for a timeline, and sorts it into tracks.

`lrpc.domains.simulated.timeline` says what a machine writes. Here its slices become columns of
numbers, one row for each slice or instant. A path is divided into its steps, a copy into values and
bytes, by what each of them costs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lrpc.domains.simulated import timeline as recorded
from lrpc.kernel.simulated.charges import CONTROLLER, IO_PROCESSOR
from lrpc.kernel.simulated.costs import STEPS

Numbers = NDArray[np.int64]
CROSSES: Final = ("within_domain", "cross_domain", "cross_machine")  # as records count calls
REFUSED: Final = "refused"  # the category of a call that never left its domain, and does not count
TRAP: Final = "trap"
SERVERS: Final = {IO_PROCESSOR: "interrupts of packets", CONTROLLER: "controller"}
NUMBER_BITS: Final = 40  # of a call's number within its machine
NEVER: Final = 1 << 62


@dataclass(frozen=True)
class Lane:
    """A track of a machine, without slices that cross the ends of others.

    `order` sorts those that are no thread's: a processor's number.
    """

    name: str
    of_thread: bool
    order: int = 0


@dataclass(frozen=True)
class CallEnds:
    """One end of each call that may have an arrow: on its client's side, or its server's."""

    keys: Numbers  # the same at both ends
    starts: Numbers  # when it leaves the client's domain, or its procedure begins
    ends: Numbers  # `NEVER` where it has not ended


@dataclass(frozen=True)
class SliceColumns:
    """Slices and instants, a row for each. `names` are indices of what a `Naming` has named.

    A flow that begins in a row is its number, one that ends there the negative of it, 0 is none.
    """

    tracks: Numbers
    begins: Numbers
    ends: Numbers
    names: Numbers
    instants: Numbers  # 1 for an instant
    flows: Numbers

    def until(self, end_ns: int) -> "SliceColumns":
        """Return what begins before a time, ended there: of a path, that may be the first steps."""
        kept = self.chosen(np.flatnonzero((self.begins < end_ns) | (self.instants != 0)))
        return replace(kept, ends=np.minimum(kept.ends, end_ns))

    def chosen(self, rows: Numbers) -> "SliceColumns":
        """Return the rows with these indices, in their order."""
        columns = (self.tracks, self.begins, self.ends, self.names, self.instants, self.flows)
        return SliceColumns(*(column[rows] for column in columns))


class Naming:
    """Numbers for names of slices, each with its category."""

    def __init__(self) -> None:
        self.known: list[tuple[str, str]] = []
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, category: str, name: str) -> int:
        """Return the number of a name."""
        made = self._numbers.setdefault((category, name), len(self.known))
        if made == len(self.known):
            self.known.append((category, name))
        return made


class MachinePart:
    """One machine's part of a timeline. `rank` is the machine's.

    Rows have the integers that `lrpc.domains.simulated.timeline` lists.
    """

    def __init__(self, path: Path, rank: int) -> None:
        data = path.read_bytes()
        size = int.from_bytes(data[-8:], "little")
        told = json.loads(data[-8 - size : -8])
        self.rank = rank
        self.cut_ns: int = told["cut_ns"]  # -1 where it is whole
        self.threads: Mapping[str, str] = told["threads"]
        self.domains: Mapping[str, str] = told["domains"]
        self.procedures: Sequence[str] = told["procedures"]
        self.paths: Sequence[Sequence[tuple[int, int]]] = told["paths"]  # steps and their picoseconds
        self.ps: Sequence[int] = told["ps"]
        self.rows = np.frombuffer(data, dtype="<i8", count=(len(data) - 8 - size) // 8).reshape(-1, recorded.FIELDS)

    def end_at(self, end_ns: int) -> None:
        """Leave out what begins at a time or later."""
        self.rows = self.rows[self.rows[:, 1] < end_ns]

    def ends(self, kind: int) -> CallEnds:
        """Return the ends of calls that calls, or procedures, are."""
        rows = self._rows(kind)
        details = self._details(rows)
        if kind == recorded.CALL_SLICE:
            far, starts = details & recorded.UNFINISHED - 1 == recorded.MACHINES, rows[:, 6]
            ranks, numbers = np.full(len(rows), self.rank), rows[:, 5]
        else:
            far, starts = details & recorded.UNFINISHED - 1 == 1, rows[:, 1]
            source = rows[:, 5] >> recorded.SOURCE_BITS
            ranks = np.where(far, source, self.rank)
            numbers = np.where(far, rows[:, 5] & (1 << recorded.SOURCE_BITS) - 1, rows[:, 5])
        keys = (ranks << NUMBER_BITS | numbers) << 1 | far
        ends = np.where(details & recorded.UNFINISHED, NEVER, rows[:, 2])
        keys[(numbers == 0) | (starts < 0)] = 0
        return CallEnds(keys, starts, ends)

    def lanes(self) -> tuple[list[Lane], Numbers]:
        """Return the tracks of the machine, and for each row the index of its track."""
        threads, places = self.rows[:, 3], self.rows[:, 4]
        tracks = np.zeros(len(self.rows), dtype=np.int64)
        lanes: list[Lane] = []
        for processor in sorted(np.unique(places[threads == 0]).tolist(), key=lambda one: (one < 0, one)):
            tracks[(threads == 0) & (places == processor)] = len(lanes)
            name = SERVERS.get(processor, f"processor {processor}")
            lanes.append(Lane(name, False, len(lanes)))
        on_threads = np.flatnonzero(threads)
        if len(on_threads):
            many = int(places[on_threads].max()) + 1
            found, of_row = np.unique(threads[on_threads] * many + places[on_threads], return_inverse=True)
            firsts, lasts = np.full(len(found), NEVER), np.zeros(len(found), dtype=np.int64)
            np.minimum.at(firsts, of_row, self.rows[on_threads, 1])
            np.maximum.at(lasts, of_row, self.rows[on_threads, 2])
            shared, names = self._shared(found % many, found // many, firsts, lasts)
            tracks[on_threads] = shared[of_row] + len(lanes)
            lanes += [Lane(name, True) for name in names]
        return lanes, tracks

    def columns(self, tracks: Numbers, naming: Naming, forth: Numbers, back: Numbers) -> SliceColumns:
        """Return all slices and instants; arrows only for calls with these keys of `CallEnds`."""
        made: list[tuple[Numbers, ...]] = []

        def add(where: Numbers, begins: Numbers, ends: Numbers, names: Numbers, instant: int, flows: Numbers) -> None:
            made.append((where, begins, ends, names, np.full(len(where), instant), flows))

        for kind in (recorded.CALL_SLICE, recorded.PROCEDURE_SLICE):
            chosen, ends = self._are(kind), self.ends(kind)
            rows, where = self.rows[chosen], tracks[chosen]
            goes, comes = np.isin(ends.keys, forth), np.isin(ends.keys, back)
            names = self._named(rows, naming)
            if kind == recorded.CALL_SLICE:
                add(where, rows[:, 1], rows[:, 2], names, 0, np.zeros(len(rows), dtype=np.int64))
                leaves = np.full(goes.sum(), naming.number("arrow", "leaves"))
                add(where[goes], ends.starts[goes], ends.starts[goes], leaves, 1, ends.keys[goes] << 1)
                returned = np.full(comes.sum(), naming.number("arrow", "is back"))
                add(where[comes], rows[comes, 2], rows[comes, 2], returned, 1, -(ends.keys[comes] << 1 | 1))
            else:
                add(where, rows[:, 1], rows[:, 2], names, 0, np.where(goes, -(ends.keys << 1), 0))
                returns = np.full(comes.sum(), naming.number("arrow", "returns"))
                add(where[comes], rows[comes, 2], rows[comes, 2], returns, 1, ends.keys[comes] << 1 | 1)
        for chosen, begins, ends_, names in [*self._others(naming), *self._steps(naming), *self._copies(naming)]:
            add(tracks[chosen], begins, ends_, names, 0, np.zeros(len(chosen), dtype=np.int64))
        return SliceColumns(*(np.concatenate(column) for column in zip(*made, strict=True)))

    def _are(self, kind: int) -> Numbers:
        """Return the indices of the rows of a kind."""
        return np.flatnonzero(self.rows[:, 0] & (1 << recorded.KIND_BITS) - 1 == kind)

    def _rows(self, kind: int) -> Numbers:
        return self.rows[self._are(kind)]

    def _details(self, rows: Numbers) -> Numbers:
        return rows[:, 0] >> recorded.KIND_BITS & (1 << recorded.DETAIL_BITS) - 1

    def _shared(self, domains: Numbers, threads: Numbers, firsts: Numbers, lasts: Numbers) -> tuple[Numbers, list[str]]:
        """Give each thread in a domain a track that no other is on at the time.

        Return for each its track, and the tracks' names.
        """
        given = np.zeros(len(domains), dtype=np.int64)
        users: list[list[int]] = []  # threads, by track
        places: list[int] = []  # domains, by track
        free: dict[int, list[tuple[int, int]]] = {}
        for at in np.lexsort((firsts, domains)).tolist():
            domain, waiting = int(domains[at]), free.setdefault(int(domains[at]), [])
            if waiting and waiting[0][0] <= firsts[at]:
                _, track = heappop(waiting)
            else:
                track = len(users)
                users.append([])
                places.append(domain)
            users[track].append(int(threads[at]))
            given[at] = track
            heappush(waiting, (int(lasts[at]), track))
        names = []
        for track, (domain, those) in enumerate(zip(places, users, strict=True)):
            name = self.domains[str(domain)]
            number = places[: track + 1].count(domain)
            names.append(f"{self.threads[str(those[0])]} in {name}" if len(those) == 1 else f"{name}, {number}")
        return given, names

    def _named(self, rows: Numbers, naming: Naming) -> Numbers:
        """Return the numbers of names of calls or procedures."""
        unfinished = recorded.UNFINISHED << recorded.KIND_BITS
        head = rows[:, 0] & ~unfinished
        # What has not ended may leave its domain yet.
        refused = (rows[:, 6] < 0) & (rows[:, 0] & ((1 << recorded.KIND_BITS) - 1 | unfinished) == recorded.CALL_SLICE)
        found, of_row = np.unique(head << 1 | refused, return_inverse=True)
        numbers = []
        for one in found.tolist():
            crosses = one >> 1 + recorded.KIND_BITS & (1 << recorded.DETAIL_BITS) - 1
            category = REFUSED if one & 1 else CROSSES[crosses]
            if one >> 1 & (1 << recorded.KIND_BITS) - 1 == recorded.PROCEDURE_SLICE:
                category = "procedure"
            name = self.procedures[one >> 1 + recorded.KIND_BITS + recorded.DETAIL_BITS]
            numbers.append(naming.number(category, name))
        return np.array(numbers, dtype=np.int64)[of_row]

    def _others(self, naming: Naming) -> list[tuple[Numbers, Numbers, Numbers, Numbers]]:
        """Return system calls, and which threads had processors: rows, begins, ends and names."""
        traps, busy = self._are(recorded.TRAP_SLICE), self._are(recorded.BUSY_SLICE)
        found, of_row = np.unique(self.rows[busy, 5], return_inverse=True)
        numbers = [naming.number("processor", self.threads[str(thread)]) for thread in found.tolist()]
        names = np.full(len(traps), naming.number(TRAP, "system call")), np.array(numbers, dtype=np.int64)[of_row]
        return [
            (one, self.rows[one, 1], self.rows[one, 2], name) for one, name in zip((traps, busy), names, strict=True)
        ]

    def _steps(self, naming: Naming) -> list[tuple[Numbers, Numbers, Numbers, Numbers]]:
        """Return the steps of all paths, as `_others` does."""
        made = []
        rows = self._are(recorded.STEPS_SLICE)
        numbers = self.rows[rows, 0] >> recorded.KIND_BITS + recorded.DETAIL_BITS
        for number in np.unique(numbers).tolist():
            chosen = rows[numbers == number]
            begins, ends = self.rows[chosen, 1], self.rows[chosen, 2]
            sums = np.cumsum([0, *(ps for _, ps in self.paths[number])])
            # The steps of a service share its time, which varies, as they share its cost.
            at = (sums[None, :] * (ends - begins)[:, None] + sums[-1] // 2) // max(1, sums[-1])
            at[:, -1] = ends - begins
            for column, (step, _) in enumerate(self.paths[number]):
                some = at[:, column] < at[:, column + 1]
                name = np.full(some.sum(), naming.number("step", _words(step, 1)))
                made.append((chosen[some], (begins + at[:, column])[some], (begins + at[:, column + 1])[some], name))
        return made

    def _copies(self, naming: Naming) -> list[tuple[Numbers, Numbers, Numbers, Numbers]]:
        """Return copies of values and of bytes, and misses, as `_others` does."""
        chosen = self._are(recorded.COPY_SLICE)
        rows = self.rows[chosen]
        details = self._details(rows)
        ps = np.array(self.ps, dtype=np.int64)
        steps, of_bytes = details & 0xFF, details >> 8
        between = np.minimum(rows[:, 1] + (rows[:, 5] * ps[steps] + 500) // 1000, rows[:, 2])
        between[rows[:, 6] == 0] = rows[rows[:, 6] == 0, 2]
        made = []
        sides = (rows[:, 1], between, steps, rows[:, 5]), (between, rows[:, 2], of_bytes, rows[:, 6])
        for begins, ends, charged, times in sides:
            some = begins < ends
            found, of_row = np.unique(charged[some] << 40 | times[some], return_inverse=True)
            names = [naming.number("step", _words(one >> 40, one & (1 << 40) - 1)) for one in found.tolist()]
            made.append((chosen[some], begins[some], ends[some], np.array(names, dtype=np.int64)[of_row]))
        return made


def _words(step: int, times: int) -> str:
    """Return a step's name, with how often it was charged."""
    name = STEPS[step].replace("_", " ")
    return name if times == 1 else f"{name} x {times:,}"
