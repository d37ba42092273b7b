"""Clusters drawn at random, and runs of them that are divided at random."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from lrpc.cluster.description import Cluster, DomainSpec, ExportSpec, Link, MachineSpec, ThreadSpec
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.group import Group
from lrpc.cluster.held import WindowReport
from lrpc.cluster.run import digest_of
from lrpc.cluster.synchronisation import Coordinator, Window
from lrpc.cluster.synchronisation_state import SynchronisationState
from tests.support.clusters import Gate, LedgerServer, Teller
from tests.support.simulated import costs_of

# The controller takes one step to send a packet; lookahead includes that.
SEND_NS = 1000
COSTS = costs_of(1)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Return up to five machines, each with a ledger and tellers that call other ledgers.

    Calls may form cycles. One machine may be the hub of a wire to all others. The wire and the
    links may lose packets.
    """
    count = draw(st.integers(1, 5))
    calls = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=8))
    delays = st.sampled_from([1, 700, 3_000, 50_000])
    links = st.builds(Link, delays, st.sampled_from([0, 800_000]), st.sampled_from([0, 0, 200_000_000]))
    hub = draw(st.one_of(st.none(), st.integers(0, count - 1)))
    pairs = {
        frozenset((f"m{one}", f"m{other}")): draw(links)
        for one in range(count)
        for other in range(one)
        if hub not in (one, other)
    }
    machines = tuple(_machine(rank, calls, draw) for rank in range(count))
    return Cluster("drawn", machines, draw(links), pairs, None if hub is None else f"m{hub}")


def _machine(rank: int, calls: set[tuple[int, int]], draw: st.DrawFn) -> MachineSpec:
    """Return a machine whose servers call only higher ranks, so that no call waits for itself.

    Its ledger may call through the ledger of another domain. Its tellers may live in the
    ledger's domain, or call the second ledger.
    """
    others = sorted(other for caller, other in calls if caller == rank)
    onward = next((f"ledger{other}" for other in others if other > rank), None)
    called = [f"ledger{other}" for other in others]
    domains = []
    if draw(st.booleans()):
        domains.append(_ledger(f"safe{rank}", onward, draw))
        onward = f"safe{rank}"
        called += [onward] if draw(st.booleans()) else []
    ledger = _ledger(f"ledger{rank}", onward, draw)
    kept = draw(st.sampled_from([0, 40]))
    tellers = {"ledgers": " ".join(called), "rounds": 3, "think_us": 20, "kept_us": kept}
    count = draw(st.integers(0, 2)) if called else 0
    threads = tuple(ThreadSpec(f"tellers/{number}", Teller, tellers) for number in range(count))
    imports = {name: name for name in called}
    if draw(st.booleans()):
        ledger = replace(ledger, imports={**ledger.imports, **imports}, threads=threads)
    else:
        domains.append(DomainSpec(f"tellers{rank}", (), imports, threads))
    return MachineSpec(f"m{rank}", draw(st.integers(1, 2)), COSTS, (*domains, ledger))


def _ledger(name: str, onward: str | None, draw: st.DrawFn) -> DomainSpec:
    parameters: dict[str, object] = {"work_us": float(draw(st.integers(0, 9))), "onward": onward is not None}
    export = ExportSpec(name, draw(st.sampled_from([LedgerServer, Gate])), parameters)
    return DomainSpec(name, (export,), {} if onward is None else {"next": onward}, ())


@dataclass
class Cutting:
    """A station that runs machines less far than allowed, in any order, sometimes not at all."""

    number: int
    group: Group
    deliver: Callable[[list[Envelope]], None]
    chance: random.Random
    sent: list[Envelope] = field(default_factory=list)

    def advance(self, window: Window) -> WindowReport:
        if window.gathered_on == self.number:
            self.group.adopt(self.sent)
        elif window.gathered_on is not None:
            self.group.release()
        if window.everything:
            return self.group.state()
        ranks = list(window.horizons)
        self.chance.shuffle(ranks)
        # At least one machine may run, so that the run makes progress sooner or later.
        some = [ranks[0], *(rank for rank in ranks[1:] if self.chance.random() < 0.7)]
        return self.group.advance({rank: self._cut(rank, window.horizons[rank]) for rank in some}, self._send)

    def begin(self, window: Window) -> None:
        self._ran = self.advance(window)

    def end(self) -> WindowReport:
        return self._ran

    def lead(self, state: SynchronisationState) -> bool:
        return False

    def probe(self) -> None: ...

    def _send(self, envelopes: list[Envelope]) -> None:
        # Copies, as after a way through gRPC: a message that is delivered again is another one.
        self.sent += [
            Envelope(one.source, one.destination, one.sequence, one.sent_ns, one.arrives_ns, one.body)
            for one in envelopes
        ]
        self.deliver(envelopes)

    def _cut(self, rank: int, horizons: tuple[int, int]) -> tuple[int, int]:
        due = self.group.state().next_ns[rank]
        share = self.chance.random() ** 4
        first, second = (min(end, due + 1 + int((end - due) * share)) if due < end else end for end in horizons)
        return first, second


def cut_up(described: Cluster, chance: random.Random, coordinator: type[Coordinator] = Coordinator) -> str:
    """Return the digest of a run with machines and windows divided at random."""
    machines = len(described.machines)
    count = chance.randint(1, machines)
    home = [*range(count), *(chance.randrange(count) for _ in range(machines - count))]
    chance.shuffle(home)
    groups = [Group(described, [rank for rank in range(machines) if home[rank] == n], 0, None) for n in range(count)]

    def deliver(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            groups[home[envelope.destination]].deliver([envelope])

    stations = [Cutting(number, group, deliver, chance) for number, group in enumerate(groups)]
    coordinator(described, stations, [group.state() for group in groups], lambda progress: None).run()
    outcomes = sorted((one for group in groups for one in group.finish()), key=lambda one: one.name)
    return digest_of([(one.name, one.digest) for one in outcomes])
