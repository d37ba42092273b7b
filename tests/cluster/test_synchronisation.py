"""Machines run up to the earliest effect of another; where windows end never changes a result."""

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster import peer as peers
from lrpc.cluster import synchronisation_state
from lrpc.cluster.description import Cluster, DomainSpec, ExportSpec, Link, MachineSpec, ThreadSpec
from lrpc.cluster.envelope import Envelope, Transport
from lrpc.cluster.group import Group
from lrpc.cluster.machine import Machine, NameService
from lrpc.cluster.peer import Endpoint, Peer
from lrpc.cluster.reach import Reach
from lrpc.cluster.run import digest_of, run_cluster
from lrpc.cluster.synchronisation import Progress, Window
from lrpc.kernel.errors import Panic, RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.network.packets import CallMessage
from tests.support.clusters import SECRET, Gate, LedgerServer, Teller, bank, cluster, digest, joined, pair
from tests.support.drawn import COSTS, SEND_NS, clusters, cut_up
from tests.support.properties import examples

K = TypeVar("K")


def routes(described: Cluster, waits: Sequence[bool]) -> dict[tuple[int, int], int]:
    """Return the hops that messages may make, from rank to rank, and the least time of each, in ns.

    A call goes to the exporter of an import; a reply goes to a machine that waits.
    """
    found: dict[tuple[int, int], int] = {}
    exporters = described.exporters
    ranks = {machine.name: rank for rank, machine in enumerate(described.machines)}
    for client, machine in enumerate(described.machines):
        for name in (name for domain in machine.domains for name in domain.imports.values()):
            server = ranks[exporters[name]]
            if server != client:
                found[client, server] = takes(described, client, server)
                if waits[client]:
                    found[server, client] = takes(described, server, client)
    return found


def takes(described: Cluster, source: int, goal: int) -> int:
    """Return the least time of a message, in ns.

    The hub holds the wire's queue: others send to that queue, and the hub sends from it.
    """
    delay_ns = described.between(f"m{source}", f"m{goal}").delay_ns
    if not described.wired(f"m{source}", f"m{goal}"):
        return SEND_NS + delay_ns
    return delay_ns if described.hub == f"m{source}" else SEND_NS


def soonest(hops: Mapping[tuple[int, int], int], origin: int, goal: int, machines: int) -> int:
    """Return the least time of all chains of hops between two machines, by trying each."""
    least = FOREVER
    others = [rank for rank in range(machines) if rank not in (origin, goal)]
    for length in range(len(others) + 1):
        for between in permutations(others, length):
            chain = [origin, *between, goal]
            takes = [hops.get(hop, FOREVER) for hop in pairwise(chain)]
            least = min(least, sum(takes))
    return least


def arrivals(
    described: Cluster, waits: Sequence[bool], origin: int, begins: int, goal: int = -1
) -> dict[tuple[int, bool], int]:
    """Return the earliest arrivals at each machine that follow from an event on `origin`.

    Keys are a rank, and whether a reply (or else a call) arrives. Times are relaxed until none
    changes; chains end where they reach `goal`.

    An event in a domain may call what the domain imports. A call in progress may return after a
    reply, and after a call to a server whose calls depend on each other.
    """
    places = [(rank, domain) for rank, machine in enumerate(described.machines) for domain in machine.domains]
    passed = [place for place in places if place[0] != goal]
    home = {export.name: place for place in places for export in place[1].exports}
    uses = {place[1].name: [home[name] for name in place[1].imports.values()] for place in places}
    acts = {(rank, domain.name): begins for rank, domain in places if rank == origin}
    returns = dict(acts)
    found: dict[tuple[int, bool], int] = {}
    for _ in range(2 * len(places)):
        for rank, domain in passed:
            for server, there in uses[domain.name] if (rank, domain.name) in acts else []:
                due = _hop(described, rank, (server, False), found, acts[rank, domain.name])
                _lower(acts, (server, there.name), due)
                if not all(export.server.independent for export in there.exports):
                    _lower(returns, (server, there.name), due)
            if (rank, domain.name) in returns:
                _lower(acts, (rank, domain.name), returns[rank, domain.name])
                for client, user in places:
                    if (rank, domain) in uses[user.name] and (client == rank or waits[client]):
                        due = _hop(described, rank, (client, True), found, returns[rank, domain.name])
                        _lower(returns, (client, user.name), due)
    return found


def _hop(
    described: Cluster, source: int, goal: tuple[int, bool], found: dict[tuple[int, bool], int], begins: int
) -> int:
    """Return the earliest arrival of a message, and note it where it goes between machines."""
    if source == goal[0]:
        return begins
    arrives = begins + takes(described, source, goal[0])
    _lower(found, goal, arrives)
    return arrives


def _lower(known: dict[K, int], key: K, due: int) -> None:
    known[key] = min(known.get(key, FOREVER), due)


@examples(200)
@given(clusters(), st.data())
def test_a_horizon_is_the_soonest_arrival_over_all_chains_of_messages_that_another_begins(
    described: Cluster, data: st.DataObject
) -> None:
    """A chain begins at another machine's next event and goes by calls and awaited replies."""
    machines = len(described.machines)
    times = st.one_of(st.integers(0, 100_000), st.just(FOREVER))
    next_ns = data.draw(st.lists(times, min_size=machines, max_size=machines))
    waits = data.draw(st.lists(st.booleans(), min_size=machines, max_size=machines))
    until = data.draw(st.sampled_from([FOREVER, 60_000]))
    all_reached, all_called = Reach(described).horizons(next_ns, waits, until)
    for rank, (reached, called) in enumerate(zip(all_reached, all_called, strict=True)):
        others = [(origin, due) for origin, due in enumerate(next_ns) if origin != rank and due < until]
        direct = [arrivals(described, waits, origin, due, rank) for origin, due in others]
        assert reached == min([until, *(found.get((rank, by), until) for found in direct for by in (False, True))])
        # Chains back through the machine itself may or may not count: it handles those as it sends.
        anyhow = [arrivals(described, waits, origin, due) for origin, due in others]
        assert called <= min([until, *(found.get((rank, False), until) for found in direct)])
        assert called >= min([until, *(found.get((rank, False), until) for found in anyhow)])


@given(clusters())
def test_what_a_machine_sets_off_comes_back_by_the_shortest_chain_of_calls_and_replies(described: Cluster) -> None:
    machines = len(described.machines)
    hops = routes(described, [True] * machines)
    for rank in range(machines):
        for other in range(machines):
            if other != rank:
                assert Reach(described).return_ns(rank, other) == min(soonest(hops, other, rank, machines), FOREVER)


class Never(Reach):
    """A Reach with no message that comes back."""

    def return_ns(self, machine: int, other: int) -> int:
        return FOREVER


def one_event_at_a_time(described: Cluster) -> str:
    """Return the digest of a run without horizons: only the earliest event runs at a time."""
    names = NameService(described)
    never = Never(described)
    ranks = range(len(described.machines))
    machines = [Machine.of(described, rank, names=names, reach=never, seed=0, sink=None) for rank in ranks]
    while (due := min(machine.next_ns for machine in machines)) < FOREVER:
        machine = next(machine for machine in machines if machine.next_ns == due)
        machine.kernel.run(due + 1)
        for envelope in machine.outbox:
            links = machines[envelope.destination].links
            assert links is not None
            links.deliver(envelope)
        machine.outbox.clear()
    return digest_of([(machine.name, machine.outcome().digest) for machine in machines])


@examples(60)
@given(clusters(), st.randoms(use_true_random=False))
def test_windows_cut_anywhere_come_to_what_one_event_at_a_time_comes_to(
    described: Cluster, chance: random.Random
) -> None:
    expected = one_event_at_a_time(described)
    assert digest(described) == expected
    assert cut_up(described, chance) == expected


def test_a_cluster_with_contention_comes_to_the_same_one_event_at_a_time() -> None:
    described = cluster(bank())
    assert one_event_at_a_time(described) == digest(described)
    assert cut_up(described, random.Random(1)) == digest(described)


@pytest.mark.parametrize(("first_ns", "slow_s"), [(1, 0.2), (1, 1e9), (10**15, 0.2), (5_000, 0.0)])
def test_how_far_ahead_windows_look_changes_no_result(
    first_ns: int, slow_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = cluster(bank(teller={"rounds": 2}))
    expected = digest(described)
    monkeypatch.setattr(synchronisation_state, "FIRST_SPAN_NS", first_ns)
    monkeypatch.setattr(synchronisation_state, "SLOW_WINDOW_S", slow_s)
    assert digest(described) == expected


def test_empty_time_is_jumped_and_machines_that_never_talk_need_few_windows() -> None:
    tables = pair("teller", "drawer", ledgers="drawer", think_us=1_000_000_000)
    tables["domains"]["program"]["machine"] = "server"
    progress = run_cluster(cluster(tables), actors=0, transport="memory", windows=True).progress
    assert progress.now_ns > 10**12
    assert progress.windows < 40


def test_a_client_that_nobody_calls_needs_no_window_but_for_its_calls() -> None:
    """Expect at most three windows for a call: sending, serving, reply."""
    tables = pair("teller", "drawer", ledgers="drawer", rounds=50, think_us=100)
    outcome = run_cluster(cluster(tables), actors=0, transport="memory", windows=True)
    calls = sum(machine.counts["cross_machine"] for machine in outcome.machines)
    assert calls == 150
    assert outcome.progress.windows <= 3 * calls


def test_progress_counts_windows_messages_and_calls() -> None:
    seen: list[tuple[int, int, int, int]] = []

    def note(now: Progress) -> None:
        seen.append((now.now_ns, now.windows, now.messages, now.calls))

    outcome = run_cluster(
        cluster(bank(teller={"rounds": 2})), actors=0, transport="memory", windows=True, on_progress=note
    )
    assert seen == sorted(seen)
    assert [windows for _, windows, _, _ in seen] == list(range(1, len(seen) + 1))
    sent = sum(machine.counts["link_requests"] + machine.counts["link_replies"] for machine in outcome.machines)
    calls = sum(machine.counts["cross_machine"] + machine.counts["cross_domain"] for machine in outcome.machines)
    assert seen[-1][2:] == (sent, calls)


class Liar(Gate):
    """A gate that claims that its calls do not depend on each other."""

    independent = True


def released(gate: type[Gate]) -> Cluster:
    """Return a cluster in which a post releases a caller at a gate, which then calls a ledger."""

    def teller(name: str, ledgers: str, **parameters: object) -> DomainSpec:
        thread = ThreadSpec(name, Teller, {"ledgers": ledgers, "rounds": 1, **parameters})
        return DomainSpec(name, (), {one: one for one in ledgers.split()}, (thread,))

    ledger = DomainSpec("ledger", (ExportSpec("ledger", LedgerServer, {}),), {}, ())
    kept = teller("kept", "gate ledger", think_us=1, kept_us=100_000)
    places = [
        (teller("poster", "gate", think_us=5_000),),
        (DomainSpec("gate", (ExportSpec("gate", gate, {}),), {}, ()), kept),
        (ledger, teller("busy", "ledger", think_us=30, rounds=1_000)),
    ]
    machines = [MachineSpec(f"m{rank}", 2, COSTS, domains) for rank, domains in enumerate(places)]
    return Cluster("released", tuple(machines), Link(1, 0), {})


@pytest.mark.parametrize("windows", [False, True])
def test_a_call_that_releases_another_is_waited_for_unless_its_server_promises_that_it_does_not(windows: bool) -> None:
    run = run_cluster(released(Gate), actors=0, transport="memory", windows=windows)
    assert run.digest == one_event_at_a_time(released(Gate))
    with pytest.raises(Panic, match="a message from machine 1 is due at "):
        run_cluster(released(Liar), actors=0, transport="memory", windows=windows)


def test_machines_in_one_order_of_events_search_for_no_paths_as_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reach, "horizons", None)
    assert digest(released(Gate)) == one_event_at_a_time(released(Gate))


def test_a_message_in_a_machines_past_is_a_panic() -> None:
    group = Group(cluster(pair("teller", "drawer", ledgers="drawer")), [0, 1], 0, None, apart=True)
    group.advance({1: (5_000, 5_000)}, lambda envelopes: None)
    call = CallMessage(1, "ledger", 0, bytes(4))
    # A machine stops before its horizon, so the event at 5,000 ns has not been run.
    group.deliver([Envelope(0, 1, 1, 4_000, 5_000, call)])
    with pytest.raises(Panic, match="machine 0 is due at 4999 ns, but this machine ran to 5000"):
        group.deliver([Envelope(0, 1, 2, 4_000, 4_999, call)])


def test_a_broken_invariant_at_a_station_ends_the_run_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with joined(cluster(pair("teller", "drawer", ledgers="drawer")), 1) as run:
        run.peers[0].advance(Window({1: (5_000, 5_000)}))
        run.stations[0].deliver([Envelope(0, 1, 1, 1, 4_999, CallMessage(1, "ledger", 0, bytes(4)))])
        with pytest.raises(RunFailed, match="broken invariant: a message from machine 0 is due at 4999 ns"):
            run.peers[0].advance(Window({0: (5_000, 5_000)}))
    assert "Panic" in capsys.readouterr().err  # the traceback shows where it broke


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_thread_that_raises_ends_the_run_wherever_its_machine_is(transport: Transport) -> None:
    described = cluster(pair("provoker", "ledger", caught=False))
    with pytest.raises(RunFailed) as caught:
        run_cluster(described, actors=0, transport=transport)
    text = str(caught.value)
    assert "machine client, thread program/0 of domain program, at " in text
    assert "ProcedureRaised: LookupError: no such" in text


def test_a_station_that_is_gone_ends_the_run_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_S", 0.2)
    with joined(cluster(bank()), 2) as run:
        lost, stopped = run.stations[1].endpoint.address, list[int]()

        def lose(progress: Progress) -> None:
            if progress.windows >= 20 and not stopped:
                stopped.append(progress.windows)
                run.stations[1].stop()

        with pytest.raises(
            RunFailed, match=rf"transport to {lost}: (no answer for 0.2 s: )?(UNAVAILABLE|CANCELLED|UNKNOWN)"
        ):
            run.run(lose)


def test_nobody_listening_at_an_address_is_a_lost_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_S", 0.2)
    peer = Peer(Endpoint("127.0.0.1:1"), SECRET)
    try:
        with pytest.raises(RunFailed, match=r"transport to 127\.0\.0\.1:1: no answer for 0.2 s: UNAVAILABLE"):
            peer.advance(Window({0: (1, 1)}))
    finally:
        peer.close()
