"""A call between machines takes its steps, each where it is taken, and packets queue for them."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.machine import QueueOutcome
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.costs import PARTS, STEPS
from lrpc.kernel.simulated.network.packets import PAYLOAD, packet_sizes
from lrpc.kernel.simulated.network.stations import ServiceTimes
from tests.support.simulated import FIREFLY
from tests.support.stores import (
    ETHERNET,
    FIREFLY_WIRE,
    FULL_US,
    LINKS,
    NULL_US,
    outcomes,
    steady,
    stores,
    timer,
    took,
)


@pytest.mark.parametrize("links", LINKS, ids=["point to point", "hub at the server", "hub at the client"])
@pytest.mark.parametrize(
    ("procedure", "us"), [("null", NULL_US), ("put", 606 + 954 + FULL_US), ("get", 606 + 954 + FULL_US)]
)
@pytest.mark.parametrize("processors", [1, 5])
def test_without_variation_a_call_takes_exactly_its_steps(
    links: Mapping[str, object], procedure: str, us: float, processors: int
) -> None:
    made = steady(stores([[timer(procedure)]], {**FIREFLY_WIRE, **links}, processors=processors))
    marshaled = 0 if procedure == "null" else 18.787879 + 0.303030 * PAYLOAD
    assert took(outcomes(made)["client0"]) == [pytest.approx(us + marshaled, abs=0.01)]


@pytest.mark.long
def test_the_mean_of_10_000_uncontended_nulls_is_that_of_their_steps() -> None:
    machines = outcomes(stores([[{"program": "timer", "parameters": {"calls": 10_000}}]], processors=5), 3)
    assert took(machines["client0"])[0] / 10_000 == pytest.approx(NULL_US, rel=0.005)


def test_no_service_takes_less_than_its_floor_and_some_take_more_than_their_cost() -> None:
    times = ServiceTimes(FIREFLY, Stream(7, "m", "services"))
    drawn = [times.draw(100_000) for _ in range(2000)]
    assert FIREFLY.floor_ns(100_000) == 50_000 == FIREFLY.floor_ns(100_001)
    assert 50_000 <= min(drawn) < 51_000
    assert max(drawn) > 200_000
    assert sum(drawn) / len(drawn) == pytest.approx(100_000, rel=0.05)
    assert (times.charged_ns, times.drawn_ns) == (2000 * 100_000, sum(drawn))
    assert FIREFLY.without_variation().floor_ns(100_000) == 100_000


def test_a_long_text_costs_both_sides_and_an_array_the_caller_alone() -> None:
    both = {procedure: outcomes(stores([[timer(procedure)]])) for procedure in ("get", "say", "note")}
    spent = {
        procedure: {
            side: {step: count for step, count in one[side].charges.items() if step in PARTS["marshaling"]}
            for side in ("client0", "server")
        }
        for procedure, one in both.items()
    }
    assert spent["get"] == {"client0": {"marshal_array": 1, "marshal_array_byte": PAYLOAD}, "server": {}}
    text = {"marshal_text": 1, "marshal_text_byte": 128}
    assert spent["say"] == {"client0": text, "server": text}
    assert spent["note"] == {"client0": {"marshal_word": 2}, "server": {"marshal_word": 2}}  # in and out


def test_a_null_is_charged_each_step_of_the_firefly_account() -> None:
    both = outcomes(stores([[timer()]]))
    charges = {step: sum(one.charges.get(step, 0) for one in both.values()) for step in STEPS}
    assert {step for step, count in charges.items() if count == 2} == {
        *("udp_header", "network_trap", "network_queue", "processor_interrupt", "interrupt_handling"),
        *(
            "controller_start",
            "controller_transmit",
            "controller_receive",
            "io_interrupt",
            "receive_handling",
            "wakeup",
        ),
    }
    assert (charges["udp_checksum"], charges["remote_client"], charges["remote_server"]) == (4, 1, 1)
    assert sum(charges.values()) == 2 * 11 + 4 + 2


def test_a_controller_holds_each_packet_of_a_long_message_until_the_wire_has_taken_it() -> None:
    """The sender's controller is the slowest place: it sends, then holds until the wire has taken.

    The last packet, of 120 bytes, waits at the receiver for the full one before.
    """
    both = outcomes(steady(stores([[timer("put_long")]], FIREFLY_WIRE)))
    first = 606 + 18.787879 + 3000 * 0.303030 + 190 + 395 + 98  # with the server's run-time
    sent, received = 70 + 745 + 60 + 1170, 80 + 755 + 456 + 395
    expected = first + 2 * sent + received + 456 + 120 * 0.274306 + 954
    assert took(both["client0"])[0] == pytest.approx(expected, abs=0.02)
    assert packet_sizes(3000) == [1440, 1440, 120]
    assert both["client0"].counts["packets_sent"] == 3
    here, there = both["client0"].controller, both["server"].controller
    assert here is not None
    assert there is not None
    assert (here.served, here.bytes, there.served, there.bytes) == (3 + 1, 3000, 3 + 1, 3000)
    assert here.held_ns == 1000 * (3 * 60) + 812.5 * 3000
    assert there.held_ns == 60_000  # the reply's


@given(st.integers(0, 20_000))
def test_packets_hold_a_message_and_none_is_empty_but_an_empty_ones(size: int) -> None:
    sizes = packet_sizes(size)
    assert sum(sizes) == size
    assert all(0 < one <= PAYLOAD for one in sizes) or sizes == [0]
    assert all(one == PAYLOAD for one in sizes[:-1])


def test_interrupts_queue_for_processor_0_and_are_taken_from_its_thread() -> None:
    """Two threads send at once from 493 us on; the I/O processor takes 98 for either, one by one.

    Requests leave at 661 and 791: the controller holds the first until 721. The server's interrupts
    take 456 each, from 801 on. There, a thread of processor 1 begins at 1,257, and replies.
    """
    both = outcomes(steady(stores([[timer(), timer()]], processors=2)))
    client, server = both["client0"].interrupts, both["server"].interrupts
    assert client is not None
    assert server is not None
    assert (client.served, server.served) == (2 + 2, 2 + 2)
    assert client.busy_ns == server.busy_ns == 1000 * 2 * (98 + 456)
    for one in both.values():
        first, second = one.processors
        assert (first.interrupt_ns, second.interrupt_ns) == (1000 * 2 * (98 + 456), 0)
        assert first.busy_ns + first.interrupt_ns + first.idle_ns == one.end_ns
    assert client.wait_ns >= 98_000  # the second request's
    assert min(took(both["client0"])) == 2514 < max(took(both["client0"]))


def test_a_thread_computes_for_longer_where_interrupts_take_its_processor() -> None:
    """The only processor of the server's machine computes while four calls come."""
    once = {"program": "timer", "count": 4}
    load = {"machine": "server", "threads": [{"program": "busy", "parameters": {"us": 50_000.0}}]}
    both = outcomes(steady(stores([[once]], load=load)))
    assert both["server"].findings["of load/0"] == {"took": 50_000 + 4 * 456}
    (processor,) = both["server"].processors
    assert processor.interrupt_ns == 4 * (456 + 98) * 1000


def test_packets_of_two_machines_queue_for_the_wire_they_share() -> None:
    apart = outcomes(steady(stores([[timer()], [timer()]], processors=2)))
    shared = outcomes(steady(stores([[timer()], [timer()]], ETHERNET, processors=2)))
    assert apart["server"].wire is None
    wire = shared["server"].wire
    assert wire == QueueOutcome(4, 0, 4 * 60_000, 60_000)  # both requests are ready at the same time
    assert [one.wire for name, one in shared.items() if name != "server"] == [None, None]


def test_with_long_messages_the_wire_is_busy_with_their_bytes() -> None:
    shared = outcomes(stores([[timer("put_long"), timer("get")], [timer("put")]], ETHERNET, processors=2))
    wire = shared["server"].wire
    assert wire is not None
    carried = 3000 + 2 * PAYLOAD
    assert (wire.served, wire.bytes) == (3 + 1 + 2 + 2, carried)
    assert wire.busy_ns == 8 * 60_000 + carried * 800
    assert wire.wait_ns > 0
