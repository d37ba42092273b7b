"""The machines that one process holds, run together window by window."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.journal import write_all
from lrpc.cluster.machine import Machine, MachineOutcome
from lrpc.cluster.names import NameService
from lrpc.cluster.reach import Reach
from lrpc.kernel.errors import RunFailed

SHARES: Final = 8  # of work, by rank: from them follows what one, two, four or eight actors would take

# Takes what machines of a group sent in one window to where it is due, this group itself included.
Outlet = Callable[[list[Envelope]], None]


@dataclass
class WindowReport:
    """What a group says after a window: when its machines' next events are, and the earliest arrivals it caused."""

    next_ns: dict[int, int] = field(default_factory=dict)  # by rank, of machines on which something happened
    waits: set[int] = field(default_factory=set)  # ranks, of these, of those to whom replies may come
    arrivals: dict[int, int] = field(default_factory=dict)  # by the destination's rank
    calls: int = 0  # and traps, so far
    messages: int = 0  # sent in this window
    batches: dict[int, int] = field(default_factory=dict)  # by station: the last that was sent to it in this window
    bytes: int = 0  # of these batches
    work_ns: list[int] = field(default_factory=lambda: [0] * SHARES)  # wall time in machines, by rank modulo SHARES
    events: int = 0  # logged so far
    missing: list[int] = field(default_factory=list)  # stations whose batches have not come: nothing was done


class Group:
    """Some machines of a cluster. All of it is used from one operating-system thread, which greenlets cannot leave."""

    def __init__(self, cluster: Cluster, ranks: list[int], seed: int, events: Path | None) -> None:
        names = NameService(cluster)
        self.reach = Reach(cluster)
        self.arrived: deque[list[Envelope]] = deque()  # filled by any thread, for the next window to take in
        self._machines: dict[int, Machine] = {}
        self._logs: list[_EventFile] = []
        self._received: dict[tuple[int, int], int] = {}  # the last message's sequence, by destination and source
        self._touched = set(ranks)  # since the last report after a window
        self._calls = dict.fromkeys(ranks, 0)
        self._events = dict.fromkeys(ranks, 0)
        self._all_calls = 0
        self._all_events = 0
        self._now: Machine | None = None
        self.duplicates = 0  # messages that came again, and were dropped
        with ExitStack() as sinks:
            for rank in ranks:
                log = None
                if events is not None:
                    events.mkdir(parents=True, exist_ok=True)
                    log = _EventFile(sinks.enter_context(events_file(events, rank).open("wb", buffering=0)))
                    self._logs.append(log)
                self._machines[rank] = Machine.of(cluster, rank, names=names, reach=self.reach, seed=seed, sink=log)
            self._sinks = sinks.pop_all()

    def state(self) -> WindowReport:
        """Return what there is to do for all machines."""
        return self._report(self._machines, [])

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Take in what others sent to machines of this group; what came before is dropped."""
        for envelope in envelopes:
            rank, source = envelope.destination, envelope.source
            if rank not in self._machines:
                raise RunFailed(f"link: a message for machine {rank}, which is not here")
            last = self._received.get((rank, source), 0)
            if envelope.sequence <= last:
                self.duplicates += 1
                continue
            if envelope.sequence > last + 1:
                what = f"message {envelope.sequence} from machine {source} to machine {rank}"
                raise RunFailed(f"link: {what}: {last + 1} is due")
            self._received[rank, source] = envelope.sequence
            self._touched.add(rank)
            self._machines[rank].deliver(envelope)

    def advance(self, horizons: Mapping[int, tuple[int, int]], outlet: Outlet) -> WindowReport:
        """Run machines, by rank, each strictly below its horizon, and send on what they sent.

        The second horizon is for a machine to which, as is known here, no reply will come any more.
        """
        while self.arrived:
            self.deliver(self.arrived.popleft())
        sent: list[Envelope] = []
        work_ns = [0] * SHARES
        for rank, (while_waiting, afterwards) in horizons.items():
            machine = self._now = self._machines[rank]
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

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged, and which machine runs, and when: asked from another thread."""
        machine = self._now
        if machine is None:
            return self._all_events, "no machine has begun"
        return self._all_events + machine.kernel.log.events, f"machine {machine.name}, at {machine.now_us:.3f} us"

    def outcomes(self) -> list[MachineOutcome]:
        """Return what every machine did so far."""
        return [machine.outcome() for machine in self._machines.values()]

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did, once nothing is left to do; `RunFailed` where threads still wait."""
        outcomes = self.outcomes()
        self._check_logs()
        self.close()
        for machine in self._machines.values():
            machine.check_finished()
        return outcomes

    def close(self) -> None:
        """Close the event logs, whole or not."""
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


class _EventFile:
    """Where a machine writes its log. A disk that is full must end the run, not surface in some server's procedure."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: RunFailed | None = None

    def write(self, data: bytes) -> None:
        """Write, unless that has failed before."""
        if self.failure is None:
            try:
                write_all(self._file, data)
            except OSError as error:
                self.failure = RunFailed(f"event log: cannot be written: {os.strerror(error.errno or 0)}; make room")


def events_file(folder: Path, rank: int) -> Path:
    """Return where a machine, by rank, keeps its event log during a run."""
    return folder / f"{rank:06d}.events"
