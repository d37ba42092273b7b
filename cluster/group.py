"""The machines that one process holds: they run together, window by window."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Envelope, Taker
from lrpc.cluster.held import SHARES, HeldMachine, WindowReport, promised
from lrpc.cluster.journal import RunFile, TimelineFiles, events_file, private_folder, timeline_file
from lrpc.cluster.machine import Machine, MachineOutcome, NameService
from lrpc.cluster.nearest import NOBODY, Order
from lrpc.cluster.reach import Reach
from lrpc.kernel.collector import collector_paused
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.network.packets import Fragment
from lrpc.kernel.simulated.threads import ThreadStack

# The horizons of a machine that does not run in a window.
STANDS_STILL: Final = (0, 0)
# How many go ahead together at most, and one in how many of all: with more, small rings take more
# turns.
MOST_AROUND: Final = 96
PART_AROUND: Final = 4
# Sends what a group's machines sent in one window to its destinations, the group itself included.
Outlet = Callable[[list[Envelope]], None]


class Group(Taker):
    """Some machines of a cluster, run by one operating-system thread.

    They run in one order of events, and reach each other without the `outlet`. With `apart`, each
    is as far from the others as from machines of other groups. One group may take over the machines
    of all others in the middle of a run (`adopt`), which these then give up (`release`).

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
        *,
        apart: bool = False,
    ) -> None:
        self.reach = Reach(cluster)
        self._cluster = cluster
        self._names = NameService(cluster)
        self._seed = seed
        self._events_folder = events
        self._timeline = timeline
        self._spare_stacks: list[ThreadStack] = []  # of all machines, so that one serves a call at a time
        # Filled by any thread, and emptied at the start of the next window.
        self.arrived: deque[list[Envelope]] = deque()
        self._logs: list[RunFile] = []
        # The sequence of the last message, by destination and source.
        self._received: dict[tuple[int, int], int] = {}
        self._again: dict[tuple[int, int], int] = {}  # likewise, of those that adopted machines send again
        self._gathered = False  # one group holds all machines, and no message comes from another any more
        self._left: list[HeldMachine] = []  # those given up: to end their threads would run code of theirs
        self._touched: list[HeldMachine] = []  # since the last report of a window
        self._all_calls = self._all_events = 0
        self._apart = apart
        self._lanes: dict[int, HeldMachine] = {}
        self._at: list[HeldMachine | None] = [None] * len(cluster.machines)  # the same, by rank
        self._order = Order(len(cluster.machines))  # unless they are `apart`, when horizons are all there is
        self._back_ns: dict[int, int] = {}  # a cache of `_comes_back_ns`
        # Of the window that runs: what was sent to `outlet`, all messages, and the work by shares.
        self._sent: list[Envelope] = []
        self._messages = 0
        self._work_ns: list[int] = []
        self._until = FOREVER  # how far its machines may run, whatever their horizons
        self._running: HeldMachine | None = None
        self.turns = 0  # how often a machine was run
        self.covered_ns = 0  # how far all machines together have come, in virtual time
        self.duplicates = 0  # messages that arrived again and were dropped
        self._sinks = ExitStack()
        try:
            self._make(ranks)
        except BaseException:
            self._sinks.close()
            raise

    def _make(self, ranks: Iterable[int]) -> None:
        """Make machines, and hold them."""
        with collector_paused():
            for rank in ranks:
                machine = self._machine(rank)
                machine.kernel.spare_stacks = self._spare_stacks
                lane = HeldMachine(machine, rank, self.reach.nearest(rank))
                self._lanes[rank] = self._at[rank] = lane
                self._touched.append(lane)
                self._order.put(rank, machine.next_ns)
                if not self._apart:
                    lane.send_to(self)

    def _machine(self, rank: int) -> Machine:
        log = None if self._events_folder is None else self._sink(events_file(self._events_folder, rank))
        part = None
        if self._timeline is not None:
            bounds = self._timeline.bounds
            bounds = bounds._replace(most=max(1, bounds.most // self.reach.machines))
            part = bounds, self._sink(timeline_file(self._timeline.folder, rank))
        return Machine.of(
            self._cluster, rank, names=self._names, reach=self.reach, seed=self._seed, sink=log, timeline=part
        )

    def _sink(self, path: Path) -> RunFile:
        """Open a file of the run, in a private folder."""
        private_folder(path.parent)
        self._logs.append(RunFile(self._sinks.enter_context(path.open("wb", buffering=0))))
        return self._logs[-1]

    def adopt(self, sent: Iterable[Envelope]) -> None:
        """Take over the machines of all other groups, which do from the beginning what they did.

        `sent` has all messages that this group ever sent to them. What they had sent to this group
        is dropped as they send it again. Does nothing where it was done before.
        """
        if self._gathered:
            return
        self._gathered = True
        self.arrived.clear()  # those that sent it send it again
        self._again, self._received = self._received, {}
        self._make(rank for rank in range(self.reach.machines) if rank not in self._lanes)
        for envelope in sent:
            self._arrive(self._lanes[envelope.destination], envelope)

    def release(self) -> None:
        """Give up all machines: another group holds them from now on."""
        self._gathered = True
        self.close()
        self._left += self._lanes.values()
        self._lanes.clear()
        self._at = [None] * self.reach.machines
        self._order = Order(self.reach.machines)
        self._touched.clear()
        self._all_calls = self._all_events = 0

    @property
    def next_ns(self) -> int:
        """Return the time of the earliest event of all machines, unless these are `apart`.

        `FOREVER` where there is none.
        """
        return self._order.earliest

    def state(self) -> WindowReport:
        """Return a report on all machines."""
        return self._report(self._lanes.values(), [])

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Deliver messages from other groups to machines of this one; drop those that came before.

        Raises `RunFailed` for a machine that is not here, or where a message in between is missing.
        """
        if self._gathered:
            self.duplicates += len(envelopes)
            return
        for envelope in envelopes:
            rank, source = envelope.destination, envelope.source
            if rank not in self._lanes:
                raise RunFailed(f"transport: a message for machine {rank} came to a station that does not hold it")
            last = self._received.get((rank, source), 0)
            if envelope.sequence <= last:
                self.duplicates += 1
                continue
            if envelope.sequence > last + 1:
                what = f"message {envelope.sequence} from machine {source} to machine {rank}"
                raise RunFailed(f"transport: {what} came before message {last + 1}")
            self._received[rank, source] = envelope.sequence
            self._arrive(self._lanes[rank], envelope)

    def advance(self, horizons: dict[int, tuple[int, int]], outlet: Outlet) -> WindowReport:
        """Run machines strictly below their horizons, by rank; hand what they sent to `outlet`.

        The second horizon of a pair applies where, as is known here, no more replies to the machine
        will come. Machines without a pair stand still.
        """
        while self.arrived:
            self.deliver(self.arrived.popleft())
        self._begin()
        if self._apart:
            self._run_apart(horizons)
        else:
            self._run_in_order(horizons, FOREVER, FOREVER)
        # Also those that did not run: who asks may know less of them, after a station was replaced.
        for rank in horizons:
            self._touch(self._lanes[rank])
        if self._sent:
            outlet(self._sent)
        return self._end()

    def advance_in_order(self, until: int, stop_ns: int = FOREVER) -> WindowReport:
        """Run all machines strictly below `until`: for a group of all machines of a cluster.

        It stops earlier, between two turns, as `time.perf_counter_ns` comes to `stop_ns`.
        """
        self._begin()
        self._run_in_order(None, until, stop_ns)
        return self._end()

    def _begin(self) -> None:
        """Begin a window, in which nothing has been sent and no work done."""
        self._sent, self._messages, self._work_ns = [], 0, [0] * SHARES

    def _end(self) -> WindowReport:
        """Return the report of a window: what was sent, and where something happened."""
        self._check_logs()
        touched, self._touched = self._touched, []
        for lane in touched:
            lane.touched = False
        report = self._report(touched, self._sent)
        report.messages, report.work_ns = self._messages, self._work_ns
        return report

    def _run_apart(self, horizons: dict[int, tuple[int, int]]) -> None:
        """Run machines one after another, as if each were in a group of its own."""
        for rank, (while_waiting, afterwards) in horizons.items():
            lane = self._lanes[rank]
            began = time.perf_counter_ns()
            self._running = lane
            lane.kernel.run(while_waiting if lane.waits else afterwards)
            self._work_ns[rank % SHARES] += time.perf_counter_ns() - began
            self._messages += len(lane.outbox)
            self._sent += lane.outbox
            lane.outbox.clear()

    def _run_in_order(self, horizons: dict[int, tuple[int, int]] | None, until: int, stop_ns: int) -> None:
        """Run machines in one order of events: the earliest one, and then those around it.

        Without horizons, all run strictly below `until`. A machine at its horizon holds up others,
        as a message to another group does; what promises allow these beyond, they run afterwards.
        """
        order = self._order
        self._until = until
        aside: dict[int, int] = {}  # the next events of machines that must stand still, by rank
        aside_due = FOREVER  # the earliest event of those
        while (rank := order.take(self._until)) != NOBODY:
            if not self._run_around(rank, horizons, aside_due, stop_ns):
                aside[rank] = order.due[rank]
                aside_due = min(aside_due, order.due[rank])
            elif time.perf_counter_ns() >= stop_ns:
                break
        for rank, due in aside.items():
            if order.due[rank] == due:  # whoever changed it has put it
                order.put(rank, due)
        if horizons is not None:
            self._run_by_promises(horizons)

    def _run_around(self, rank: int, horizons: dict[int, tuple[int, int]] | None, aside_due: int, stop_ns: int) -> bool:
        """Run the machine whose event is the earliest, and on, with the few that hold it up.

        Each runs while no other can reach it: until the next event of one of those `nearest` to it,
        or of any other, and the least time from there. Where that is before its own next event, who
        holds it up runs first. Returns whether any ran: not where the earliest is at its horizon.
        """
        order = self._order
        needed = [rank]  # each holds up the one before it
        used = {rank}
        most = min(MOST_AROUND, 1 + self.reach.machines // PART_AROUND)
        ran = False
        while time.perf_counter_ns() < stop_ns or not ran:
            rank = needed[-1]
            lane = self._at[rank]
            assert lane is not None
            first, second = (self._until, self._until) if horizons is None else horizons.get(rank, STANDS_STILL)
            end, nearest = (first, lane.nearest) if lane.waits else (second, lane.nearest_calls)
            end = nearest.bound(order.due, min(order.earliest, aside_due), min(end, self._until))
            if order.due[rank] < end:
                self._run(lane, end, timed=horizons is not None)
                ran = True
                if len(needed) > 1:
                    needed.pop()
                continue
            rank = nearest.holder(order.due, end) if ran else NOBODY
            used.add(rank)
            if rank == NOBODY or len(used) > most:
                break
            needed.append(rank)
        return ran

    def _run_by_promises(self, horizons: dict[int, tuple[int, int]]) -> None:
        """Run machines that others of this group hold up, as far as no event of these reaches them.

        They run as in a window of stations with a machine each. What was sent to other groups in
        this window may be answered from its arrival on.
        """
        held: dict[int, int] = {}  # how far other groups allow machines to run
        for rank, (first, second) in horizons.items():
            lane = self._lanes[rank]
            end = first if lane.waits else second
            if lane.engine.next_time < end:
                held[rank] = end
        if not held:
            return
        bounds = promised(self.reach, self._lanes.values(), self._sent, max(held.values()))
        for rank, end in held.items():
            end = min(end, bounds[rank])
            if self._order.due[rank] < end:
                self._run(self._lanes[rank], end, timed=True)

    def _run(self, lane: HeldMachine, end: int, *, timed: bool) -> None:
        """Run a machine strictly below `end`.

        What it sends arrives at once in the heap of its destination; what it sends to other groups
        is kept, and all stop before the earliest time at which an answer can be back.
        """
        began = time.perf_counter_ns() if timed else 0
        self._running = lane
        lane.kernel.run(end)
        self.turns += 1
        now_ns = lane.engine.now
        self.covered_ns += now_ns - lane.reached_ns
        lane.reached_ns = now_ns
        self._order.put(lane.rank, lane.engine.next_time)
        if timed:
            self._work_ns[lane.rank % SHARES] += time.perf_counter_ns() - began
        self._touch(lane)

    def take(self, envelope: Envelope) -> None:
        """Take what the machine that runs sends, to this group or another."""
        if self._again and self._comes_again(envelope):
            self.duplicates += 1
            return
        destination = envelope.destination
        other = self._at[destination]
        if other is None:
            self._sent.append(envelope)
            if not isinstance(envelope.body, Fragment):  # a fragment has no answer
                self._until = min(self._until, envelope.arrives_ns + self._comes_back_ns(destination))
        else:
            self._arrive(other, envelope)
        self._messages += 1

    def _comes_again(self, envelope: Envelope) -> bool:
        """Return whether a message was received before this group adopted its sender."""
        key = envelope.destination, envelope.source
        last = self._again.get(key, 0)
        if envelope.sequence >= last:  # no other that was received will come again
            self._again.pop(key, None)
        return envelope.sequence <= last

    def _touch(self, lane: HeldMachine) -> None:
        if not lane.touched:
            lane.touched = True
            self._touched.append(lane)

    def _arrive(self, lane: HeldMachine, envelope: Envelope) -> None:
        """Deliver a message, and queue its machine where that is now the machine's next event."""
        self._touch(lane)
        lane.deliver(envelope)
        due = lane.engine.next_time
        if due < self._order.due[lane.rank] and not self._apart:
            self._order.put(lane.rank, due)

    def _comes_back_ns(self, destination: int) -> int:
        """Return the least time from an event on another group's machine to a message here."""
        found = self._back_ns.get(destination)
        if found is None:
            found = self._back_ns[destination] = self.reach.comes_back_ns(self._lanes, destination)
        return found

    @property
    def runs(self) -> str:
        """Return the name of the machine that runs; empty if none has begun."""
        return "" if self._running is None else self._running.name

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged, and which machine runs at what virtual time.

        May be called from another thread than the one that runs the machines.
        """
        lane = self._running
        if lane is None:
            return self._all_events, "no machine has begun"
        now_us = lane.kernel.now_ns / 1000
        return self._all_events + lane.kernel.log.events, f"machine {lane.name}, at {now_us:.3f} µs"

    def outcomes(self) -> list[MachineOutcome]:
        """Return what every machine did so far."""
        with collector_paused():
            return [lane.machine.outcome() for lane in self._lanes.values()]

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did, at the end of the run.

        Raises `RunFailed` where threads still wait, or an event log could not be written.
        """
        outcomes = self.outcomes()
        self.close()
        self._check_logs()
        for lane in self._lanes.values():
            lane.machine.check_finished()
        return outcomes

    def close(self) -> None:
        """Close the event logs and the parts of a timeline, complete or not."""
        try:
            for lane in self._lanes.values():
                lane.machine.close()
        finally:
            self._sinks.close()

    def _check_logs(self) -> None:
        for log in self._logs:
            if log.failure is not None:
                raise log.failure

    def _report(self, lanes: Iterable[HeldMachine], sent: list[Envelope]) -> WindowReport:
        report = WindowReport()
        for lane in lanes:
            calls, events = lane.tell(report)
            self._all_calls += calls
            self._all_events += events
        report.calls, report.events = self._all_calls, self._all_events
        for envelope in sent:
            known = report.arrivals.get(envelope.destination, envelope.arrives_ns)
            report.arrivals[envelope.destination] = min(known, envelope.arrives_ns)
        return report
