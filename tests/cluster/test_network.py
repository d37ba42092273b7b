"""Calls between machines take their steps, queue for shared resources, and survive lost packets.

Lost packets are sent again, and no call is done twice.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.description import Cluster, check
from lrpc.cluster.run import run_cluster
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import STEPS
from lrpc.kernel.simulated.engine import FOREVER
from tests.support.clusters import bank, cluster, digest, joined, pair
from tests.support.properties import examples
from tests.support.simulated import assert_nothing_held, costs_of
from tests.support.stores import (
    COSTS,
    ETHERNET,
    LINKS,
    outcomes,
    patient,
    run,
    stores,
    timer,
)


@examples(25)
@given(
    threads=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    loss=st.sampled_from([0.0, 0.3]),
    links=st.sampled_from([{}, ETHERNET]),
    seed=st.integers(0, 2**32),
)
def test_all_processors_are_busy_with_what_is_charged(
    threads: list[int], loss: float, links: Mapping[str, object], seed: int
) -> None:
    programs = [[{"program": "caller", "count": count}] for count in threads]
    made = stores(programs, {**links, "loss": loss}, processors=2)
    made = replace(made, machines=tuple(replace(machine, costs=COSTS) for machine in made.machines))
    for one in outcomes(made, seed).values():
        spent = sum(COSTS.ps[STEPS.index(step)] * count for step, count in one.charges.items())
        assert one.controller is not None
        interrupts = sum(processor.interrupt_ns for processor in one.processors)
        assert 1000 * (one.busy_ns + interrupts + one.controller.busy_ns) == spent


@examples(60)
@given(
    threads=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    loss=st.sampled_from([0.01, 0.2, 0.5, 0.9]),
    links=st.sampled_from(LINKS[:2]),
    tries=st.integers(1, 5),
    timeout_us=st.sampled_from([1_000.0, 4_000.0, 50_000.0]),
    work_us=st.sampled_from([0.0, 20_000.0]),
    processors=st.integers(1, 2),
    seed=st.integers(0, 2**32),
)
def test_whatever_is_lost_a_call_is_executed_at_most_once_and_every_caller_hears_once(
    threads: list[int],
    loss: float,
    links: Mapping[str, object],
    tries: int,
    timeout_us: float,
    work_us: float,
    processors: int,
    seed: int,
) -> None:
    numbers = iter(range(0, 10_000, 5))
    programs = [
        [{"program": "caller", "parameters": {"first": next(numbers)}} for _ in range(count)] for count in threads
    ]
    made = stores(programs, {**links, "loss": loss}, processors=processors, server={"work_us": work_us})
    machines = run(patient(made, us=timeout_us, backoff=2, tries=tries), seed)
    server = machines.pop("server")
    noted = server.outcome().findings["store"]["noted"]
    assert isinstance(noted, list)
    assert len(noted) == len(set(noted))  # at most once
    findings = [found for machine in machines.values() for found in machine.outcome().findings.values()]
    came = [one for found in findings for one in cast("list[tuple[int, bool]]", found["came"])]
    assert sorted(number for number, _ in came) == list(range(5 * sum(threads)))  # each ends once
    assert {number for number, returned in came if returned} <= set(noted)
    sent = lost = handled = 0
    for machine in [server, *machines.values()]:
        network, counts = machine.kernel.network, machine.kernel.counts
        assert network is not None
        assert (network.outstanding, machine.next_ns) == ({}, FOREVER)  # and no timer is left
        assert len(network.last_calls) <= (sum(threads) if machine is server else 0)
        assert_nothing_held(machine.kernel)
        sent, lost = sent + counts.packets_sent, lost + counts.packets_lost
        handled += network.packets.controller.served
    assert handled == 2 * sent - lost  # each at its sender, and at its receiver unless lost


def test_a_call_that_takes_long_is_acknowledged_and_neither_fails_nor_runs_twice() -> None:
    made = stores([[{"program": "caller", "parameters": {"calls": 1}}]], {"loss": 1e-9}, server={"work_us": 10e6})
    machines = outcomes(patient(made, us=100_000.0, backoff=1, tries=2))
    assert machines["server"].findings["store"] == {"noted": [0]}
    assert machines["client0"].findings["of client0/0"] == {"came": [(0, True)]}
    again = machines["client0"].counts["calls_retransmitted"]
    assert again == machines["server"].counts["duplicates_answered"] == 99


def test_a_call_may_be_given_up_while_it_is_sent_again_and_its_caller_called_with_anew() -> None:
    tables = pair("impatient", "slow", patience_us=5_000, kept_us=50_000)
    tables["links"] = {"delay_us": 60.0, "loss": 1e-9}
    machines = run(patient(cluster(tables), us=1_000.0, backoff=1, tries=3))
    client, server = machines["client"], machines["server"]
    assert client.outcome().findings["program/0"] == {"seen": ["aborted", "called again"]}
    assert client.kernel.counts.replies_dropped > 0
    assert client.kernel.network is not None
    assert client.kernel.network.outstanding == {}
    assert server.kernel.network is not None
    ((where, last),) = server.kernel.network.last_calls.items()
    assert (where, last.number) == ((0, 1), 2)
    assert_nothing_held(server.kernel)


def test_a_caller_nobody_answers_is_told_after_its_tries() -> None:
    made = stores([[{"program": "caller", "parameters": {"calls": 3}}]], {"loss": 0.999999999})
    machines = outcomes(patient(made, us=1_000.0, backoff=3, tries=4))
    assert machines["client0"].findings["of client0/0"] == {"came": [(0, False), (1, False), (2, False)]}
    counts = machines["client0"].counts
    assert (counts["packets_sent"], counts["packets_lost"], counts["calls_retransmitted"]) == (12, 12, 9)
    assert machines["server"].findings["store"] == {"noted": []}


def test_without_loss_nothing_is_remembered_and_nobody_is_timed() -> None:
    machines = run(stores([[{"program": "caller"}]], ETHERNET))
    network = machines["server"].kernel.network
    assert network is not None
    assert network.last_calls == {}
    assert machines["client0"].kernel.counts.calls_retransmitted == 0


def lossy_bank() -> Cluster:
    """Return a bank whose machines share a wire that loses packets, and have links that do."""
    tables = bank(teller={"rounds": 2})
    pairs = [{"between": [f"desk{number}", "relay"], "delay_us": 700.0, "loss": 0.02} for number in (1, 2, 3)]
    tables["links"] = {"delay_us": 60.0, "medium": "ethernet", "hub": "bank", "loss": 0.05, "pairs": pairs}
    return cluster(tables)


def test_a_run_that_loses_packets_on_a_wire_has_one_digest_wherever_it_runs() -> None:
    made = lossy_bank()
    expected = digest(made, 3)
    lost = sum(
        machine.counts["packets_lost"] for machine in run_cluster(made, seed=3, actors=0, transport="memory").machines
    )
    assert lost > 5
    assert run_cluster(made, seed=3, actors=0, transport="grpc").digest == expected
    for stations in (2, 3):
        with joined(made, stations, 3) as several:
            several.run()
            assert several.digest() == expected
    assert digest(made, 4) != expected


@pytest.mark.parametrize("links", LINKS, ids=["point to point", "hub at the server", "hub at the client"])
def test_a_message_of_several_packets_takes_hardly_more_windows_than_one_of_a_single_packet(
    links: Mapping[str, object],
) -> None:
    """Only what completes a message can be answered: nobody stops for the packets before it."""

    def windows(procedure: str) -> int:
        made = stores([[{"program": "timer", "parameters": {"procedure": procedure, "calls": 20}}]], links)
        outcome = run_cluster(made, actors=0, transport="memory", windows=True)
        assert outcome.digest == digest(made)
        return outcome.progress.windows

    assert windows("put_long") < 1.2 * windows("put")


@pytest.mark.parametrize("links", LINKS, ids=["point to point", "hub at the server", "hub at the client"])
def test_messages_of_several_packets_that_meet_have_one_digest_wherever_they_run(links: Mapping[str, object]) -> None:
    threads = [{"program": "timer", "parameters": {"procedure": one, "calls": 5}} for one in ("put_long", "get", "put")]
    made = stores([threads], links)
    expected = digest(made)
    assert run_cluster(made, actors=0, transport="memory", windows=True).digest == expected
    with joined(made, 2) as run:
        run.run()
        assert run.digest() == expected


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({"medium": "ethernet"}, "tables: links.hub: missing; name a machine; there are client0, client1, server"),
        (
            {"medium": "ethernet", "hub": "attic"},
            "tables: links.hub: no machine attic; there are client0, client1, ser",
        ),
        (
            {"hub": "server"},
            'tables: links.hub: only an ethernet has a hub; set links.medium to "ethernet", or remove links.hub',
        ),
        (
            {"medium": "ethernet", "hub": "client0"},
            "tables: links.hub: client1 calls server over the wire, and neither is its hub, client0; make one of them",
        ),
        ({"loss": 1.0}, "tables: links.loss: Input should be less than 1; it is 1.0"),
        ({"loss": -0.1}, "tables: links.loss: Input should be greater than or equal to 0; it is -0.1"),
        ({"medium": "string"}, "tables: links.medium: Input should be 'point to point' or 'ethernet'; it is 'string'"),
    ],
)
def test_links_that_cannot_be_are_refused_in_one_line(links: Mapping[str, object], said: str) -> None:
    with pytest.raises(Refused) as caught:
        stores([[timer()], [timer()]], links)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(said)


def test_an_ethernet_on_which_sending_takes_no_time_and_loss_without_a_policy_are_refused() -> None:
    free = costs_of(1, dict.fromkeys(("interrupt_handling", "controller_start", "controller_transmit"), 0))
    free = replace(free, file=free.file.model_copy(update={"retransmission": None}))
    for links, said in (
        (ETHERNET, "links.medium: an ethernet joins"),
        ({"loss": 0.1}, "links.loss: cost model test"),
    ):
        made = stores([[timer()]], links)
        made = replace(made, machines=tuple(replace(machine, costs=free) for machine in made.machines))
        with pytest.raises(Refused, match=said):
            check(made, "tables")
