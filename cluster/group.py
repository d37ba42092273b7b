"""The machines that one process holds: they run together, window by window."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.journal import private_folder, write_all
from lrpc.cluster.machine import Machine, MachineOutcome, NameService
from lrpc.cluster.reach import Reach
from lrpc.domains.simulated.timeline import TimelineBounds
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER

# The work of machines is summed by rank modulo this: the time that it would take on 1, 2, 4 or 8
# actors follows from these sums.
SHARES: Final = 8

# Sends what a group's machines sent in one window to its destinations, the group itself included.
Outlet = Callable[[list[Envelope]], None]


class TimelineFiles(NamedTuple):
    """A folder for machines' parts of a timeline, and what all of these together may hold."""

    folder: Path
    bounds: TimelineBounds


@dataclass
class WindowReport:
    """What a group reports after a window: its machines' next events, and the messages it sent."""

    # The time of the next event, by rank, of machines on which something happened.
    next_ns: dict[int, int] = field(default_factory=dict)
    # Those of these machines to which replies may still come.
    waits: set[int] = field(default_factory=set)
    # The earliest arrival of a message sent in this window, by the destination's rank.
    arrivals: dict[int, int] = field(default_factory=dict)
    calls: int = 0  # since the run began, with traps
    messages: int = 0  # sent in this window
    # The last batch sent in this window, by receiving station.
    batches: dict[int, int] = field(default_factory=dict)
    bytes: int = 0  # of these batches
    # Wall time spent running machines, by rank modulo SHARES.
    work_ns: list[int] = field(default_factory=lambda: [0] * SHARES)
    events: int = 0  # logged since the run began
    # Stations whose batches have not arrived. If there are any, the window did not run.
    missing: list[int] = field(default_factory=list)


class Group:
    """Some machines of a cluster, run by one operating-system thread.

    Only `arrived` and `beat` may be used from other threads: machines are made of greenlets, which
    cannot change threads.
    """

    def __init__(
        self,
        cluster: Cluster,
        ranks: list[int],
        seed: int,
        events: Path | None,
        timeline: TimelineFiles | None = None,
    ) -> None:
        names = NameService(cluster)
        self.reach = Reach(cluster)
        # Filled by any thread, and emptied at the start of the next window.
        self.arrived: deque[list[Envelope]] = deque()
        self._machines: dict[int, Machine] = {}
        self._logs: list[_RunFile] = []
        # The sequence of the last message, by destination and source.
        self._received: dict[tuple[int, int], int] = {}
        # Machines on which something happened since the last report of a window.
        self._touched = set(ranks)
        self._calls = dict.fromkeys(ranks, 0)
        self._events = dict.fromkeys(ranks, 0)
        self._all_calls = 0
        self._all_events = 0
        self._running: Machine | None = None
        self.duplicates = 0  # messages that arrived again and were dropped
        with ExitStack() as sinks:

            def sink(folder: Path, path: Path) -> _RunFile:
                private_folder(folder)
                self._logs.append(_RunFile(sinks.enter_context(path.open("wb", buffering=0))))
                return self._logs[-1]

            for rank in ranks:
                log = None if events is None else sink(events, events_file(events, rank))
                part = None
                if timeline is not None:
                    bounds = timeline.bounds._replace(most=max(1, timeline.bounds.most // len(cluster.machines)))
                    part = bounds, sink(timeline.folder, timeline_file(timeline.folder, rank))
                self._machines[rank] = Machine.of(
                    cluster, rank, names=names, reach=self.reach, seed=seed, sink=log, timeline=part
                )
            self._sinks = sinks.pop_all()

    @property
    def next_ns(self) -> int:
        """Return the time of the earliest event of all machines; `FOREVER` where there is none."""
        return min(machine.next_ns for machine in self._machines.values())

    def state(self) -> WindowReport:
        """Return a report on all machines."""
        return self._report(self._machines, [])

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Deliver messages from other groups to machines of this one; drop those that came before.

        Raises `RunFailed` for a machine that is not here, or where a message in between is missing.
        """
        for envelope in envelopes:
            rank, source = envelope.destination, envelope.source
            if rank not in self._machines:
                raise RunFailed(f"transport: a message for machine {rank} came to a station that does not hold it")
            last = self._received.get((rank, source), 0)
            if envelope.sequence <= last:
                self.duplicates += 1
                continue
            if envelope.sequence > last + 1:
                what = f"message {envelope.sequence} from machine {source} to machine {rank}"
                raise RunFailed(f"transport: {what} came before message {last + 1}")
            self._received[rank, source] = envelope.sequence
            self._touched.add(rank)
            self._machines[rank].deliver(envelope)

    def advance(self, horizons: Mapping[int, tuple[int, int]], outlet: Outlet) -> WindowReport:
        """Run machines, by rank, each strictly below its horizon; hand what they sent to `outlet`.

        The second horizon of a pair applies where, as is known here, no more replies to the machine
        will come.
        """
        while self.arrived:
            self.deliver(self.arrived.popleft())
        sent: list[Envelope] = []
        work_ns = [0] * SHARES
        for rank, (while_waiting, afterwards) in horizons.items():
            machine = self._running = self._machines[rank]
            began = time.perf_counter_ns()
            machine.kernel.run(while_waiting if machine.waits else afterwards)
            work_ns[rank % SHARES] += time.perf_counter_ns() - began
            sent += machine.outbox
            machine.outbox.clear()
        if sent:
            outlet(sent)
        self._check_logs()
        self._touched.update(horizons)
        report = self._report(self._touched, sent)
        self._touched = set()
        report.work_ns = work_ns
        return report

    def advance_in_order(self, until: int) -> WindowReport:
        """Run all machines strictly below `until`, always the one whose next event is the earliest.

        It runs on while no other can reach it: until the next event of another, and the least time
        that a message from there takes. What it sends arrives at once in the heap of its
        destination. This is for a group of all machines, among which it costs no search for paths.
        """
        machines, reach = self._machines, self.reach
        queue = [(machine.next_ns, rank) for rank, machine in machines.items()]
        heapify(queue)
        messages = 0
        while queue and queue[0][0] < until:
            due, rank = heappop(queue)
            machine = self._running = machines[rank]
            engine = machine.kernel.engine
            if due != engine.next_time:  # a message has come since: there is an earlier entry
                continue
            # An entry that is out of date is too early, if anything: the horizon is so as well.
            others = queue[0][0] if queue else FOREVER
            takes = reach.least_to[rank] if machine.waits else reach.least_call_to[rank]
            machine.kernel.run(min(until, others + takes))
            for envelope in machine.outbox:
                messages += 1
                other = machines[envelope.destination]
                before = other.kernel.engine.next_time
                other.deliver(envelope)
                if other.kernel.engine.next_time < before:
                    heappush(queue, (other.kernel.engine.next_time, envelope.destination))
            machine.outbox.clear()
            heappush(queue, (engine.next_time, rank))
        self._check_logs()
        report = self._report(machines, [])
        report.messages = messages
        return report

    @property
    def runs(self) -> str:
        """Return the name of the machine that runs; empty if none has begun."""
        return "" if self._running is None else self._running.name

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged, and which machine runs at what virtual time.

        May be called from another thread than the one that runs the machines.
        """
        machine = self._running
        if machine is None:
            return self._all_events, "no machine has begun"
        return self._all_events + machine.kernel.log.events, f"machine {machine.name}, at {machine.now_us:.3f} us"

    def outcomes(self) -> list[MachineOutcome]:
        """Return what every machine did so far."""
        return [machine.outcome() for machine in self._machines.values()]

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did, at the end of the run.

        Raises `RunFailed` where threads still wait, or an event log could not be written.
        """
        outcomes = self.outcomes()
        for machine in self._machines.values():
            machine.close()
        self._check_logs()
        self.close()
        for machine in self._machines.values():
            machine.check_finished()
        return outcomes

    def close(self) -> None:
        """Close the event logs and the parts of a timeline, complete or not."""
        try:
            for machine in self._machines.values():
                machine.close()
        finally:
            self._sinks.close()

    def _check_logs(self) -> None:
        for log in self._logs:
            if log.failure is not None:
                raise log.failure

    def _report(self, ranks: Iterable[int], sent: list[Envelope]) -> WindowReport:
        report = WindowReport(messages=len(sent))
        for rank in ranks:
            machine = self._machines[rank]
            report.next_ns[rank] = machine.next_ns
            if machine.waits:
                report.waits.add(rank)
            counts, events = machine.kernel.counts, machine.kernel.log.events
            calls = counts.trap + counts.cross_domain + counts.cross_machine + counts.within_domain
            self._all_calls += calls - self._calls[rank]
            self._all_events += events - self._events[rank]
            self._calls[rank], self._events[rank] = calls, events
        report.calls, report.events = self._all_calls, self._all_events
        for envelope in sent:
            known = report.arrivals.get(envelope.destination, envelope.arrives_ns)
            report.arrivals[envelope.destination] = min(known, envelope.arrives_ns)
        return report


class _RunFile:
    """The file of a machine's event log, or of its part of a timeline.

    Errors are kept in `failure`, for the group to raise: where the disk is full, the run must end,
    rather than an exception appear in the server's procedure that logged the event.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: RunFailed | None = None

    def write(self, data: bytes) -> None:
        """Write, unless writing has failed before."""
        if self.failure is None:
            try:
                write_all(self._file, data)
            except OSError as error:
                self.failure = RunFailed(
                    f"event log or timeline: cannot be written: {os.strerror(error.errno or 0)}; make room"
                )


def events_file(folder: Path, rank: int) -> Path:
    """Return the path of a machine's event log, by rank, during a run."""
    return folder / f"{rank:06d}.events"


def timeline_file(folder: Path, rank: int) -> Path:
    """Return the path of a machine's part of a timeline, by rank, during a run."""
    return folder / f"{rank:06d}.timeline"
