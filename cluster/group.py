"""The machines that one process holds, run together window by window."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.machine import Machine, MachineOutcome
from lrpc.cluster.names import NameService
from lrpc.cluster.reach import Reach
from lrpc.kernel.errors import RunFailed

# Takes what machines of a group sent in one window to where it is due, this group itself included.
Outlet = Callable[[list[Envelope]], None]


@dataclass
class Report:
    """What a group says after a window: when each machine's next event is, and the earliest arrivals it caused."""

    next_ns: dict[int, int] = field(default_factory=dict)  # by rank; FOREVER where there is none
    waits: set[int] = field(default_factory=set)  # ranks of those to whom replies may come
    arrivals: dict[int, int] = field(default_factory=dict)  # by the destination's rank
    calls: int = 0  # completed so far
    messages: int = 0  # sent in this window
    batches: dict[int, int] = field(default_factory=dict)  # by station: the last that was sent to it in this window


class Group:
    """Some machines of a cluster. All of it is used from one operating-system thread, which greenlets cannot leave."""

    def __init__(self, cluster: Cluster, ranks: list[int], seed: int, events: Path | None) -> None:
        names, reach = NameService(cluster), Reach(cluster)
        self._machines: dict[int, Machine] = {}
        with ExitStack() as sinks:
            for rank in ranks:
                sink = None if events is None else sinks.enter_context(events_file(events, rank).open("wb"))
                back_ns = reach.return_ns(rank)
                self._machines[rank] = Machine.of(cluster, rank, names=names, back_ns=back_ns, seed=seed, sink=sink)
            self._sinks = sinks.pop_all()

    def state(self) -> Report:
        """Return what there is to do before the first window."""
        return self._report([])

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Take in what others sent to machines of this group."""
        for envelope in envelopes:
            if envelope.destination not in self._machines:
                raise RunFailed(f"link: a message for machine {envelope.destination}, which is not here")
            self._machines[envelope.destination].deliver(envelope)

    def advance(self, horizons: Mapping[int, int], outlet: Outlet) -> Report:
        """Run machines, by rank, each strictly below its horizon, and send on what they sent."""
        sent: list[Envelope] = []
        for rank, horizon in horizons.items():
            machine = self._machines[rank]
            machine.kernel.run(horizon)
            sent += machine.outbox
            machine.outbox.clear()
        if sent:
            outlet(sent)
        return self._report(sent)

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did, once nothing is left to do; `RunFailed` where threads still wait."""
        outcomes = [machine.outcome() for machine in self._machines.values()]
        self.close()
        for machine in self._machines.values():
            machine.check_finished()
        return outcomes

    def close(self) -> None:
        """Close the event logs, whole or not."""
        self._sinks.close()

    def _report(self, sent: list[Envelope]) -> Report:
        report = Report(messages=len(sent))
        for rank, machine in self._machines.items():
            report.next_ns[rank] = machine.next_ns
            if machine.waits:
                report.waits.add(rank)
            counts = machine.kernel.counts
            report.calls += counts.cross_domain + counts.cross_machine + counts.within_domain
        for envelope in sent:
            known = report.arrivals.get(envelope.destination, envelope.arrives_ns)
            report.arrivals[envelope.destination] = min(known, envelope.arrives_ns)
        return report


def events_file(folder: Path, rank: int) -> Path:
    """Return where a machine, by rank, keeps its event log during a run."""
    return folder / f"{rank:06d}.events"
