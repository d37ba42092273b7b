"""The paper's Tables IV and V follow from the charges; each figure is of a known kind."""

from typing import TypeAlias

import pytest

from lrpc.domains.domain import Transfer
from lrpc.kernel.simulated.costs import (
    COPY_BYTE,
    COPY_VALUE,
    MESSAGE_ARGUMENT_BYTE,
    MESSAGE_RESULT_BYTE,
    MESSAGE_VALUE,
    PACKET_IN,
    PACKET_OUT,
    PACKET_SEND,
    PARTS,
    RECEIVE,
    STEPS,
    TRANSMIT,
    CostModel,
    load_cost_model,
)
from lrpc.workloads.records.kinds import Kind, from_charges
from tests.support.simulated import FIREFLY, TRANSFERS, assert_nothing_held, calls, charged, costs_of, machine

TABLE_IV = {
    ("Null", "lrpc"): 157,
    ("Add", "lrpc"): 164,
    ("BigIn", "lrpc"): 192,
    ("BigInOut", "lrpc"): 227,
    ("Null", "message passing"): 464,
    ("Add", "message passing"): 480,
    ("BigIn", "message passing"): 539,
    ("BigInOut", "message passing"): 636,
}
COLUMNS: dict[Transfer, str] = {"lrpc": "LRPC", "message passing": "Taos"}


Figures: TypeAlias = dict[tuple[str, Transfer], tuple[float, dict[str, int]]]


def figures(costs: CostModel) -> Figures:
    """Return the cost of each second call in us, and how often it charges each step."""
    found = {}
    one = machine(costs)

    def body() -> None:
        for transfer in TRANSFERS:
            for name, call in calls(one.tests(transfer)):
                call()
                ns, counts = charged(one.kernel, call)
                found[name, transfer] = ns / 1000, dict(zip(STEPS, counts, strict=True))

    one.run(body)
    assert_nothing_held(one.kernel)
    return found


@pytest.fixture(scope="module")
def firefly() -> Figures:
    return figures(FIREFLY)


@pytest.mark.parametrize(("name", "transfer"), TABLE_IV)
def test_table_iv(name: str, transfer: Transfer, firefly: Figures) -> None:
    tolerance = 0.005 if transfer == "lrpc" else 0.02
    assert firefly[name, transfer][0] == pytest.approx(TABLE_IV[name, transfer], rel=tolerance)


def test_table_v_is_the_sum_of_what_null_charges(firefly: Figures) -> None:
    us, counts = firefly["Null", "lrpc"]
    cost = {step: FIREFLY.file.steps[step].us * count for step, count in counts.items() if count}
    assert cost["procedure_call"] == 7
    assert cost["trap"] == 36
    assert cost["switch"] + cost["tlb_miss"] == pytest.approx(66)
    assert cost["client_stub"] + cost["astack_queue"] + cost["server_stub"] == 21
    assert cost["kernel_call"] + cost["kernel_return"] == 27
    assert (counts["trap"], counts["switch"], counts["tlb_miss"]) == (2, 2, 43)
    assert sum(cost.values()) == pytest.approx(us) == 157


def test_a_tagged_buffer_spares_the_misses_from_the_second_call_on() -> None:
    one = machine(FIREFLY.with_tlb(tagged=True))
    null = one.tests().null
    took: list[int] = []

    def body() -> None:
        took.extend(charged(one.kernel, null)[0] for _ in range(3))

    one.run(body)
    # The first call finds the client's pages in the buffer already.
    assert took == [157_000 - 21 * 900, 118_300, 118_300]


def test_python_on_linux_calls_in_13_us() -> None:
    one = machine(load_cost_model("linux-python"))
    took: list[int] = []
    one.run(lambda: took.append(charged(one.kernel, one.tests().null)[0]))
    assert took == [13_200]


def test_raising_a_step_moves_the_figures_that_charge_it_and_no_others() -> None:
    plain = figures(costs_of(7))
    for step in STEPS:
        raised = figures(costs_of(7, {step: 8}))
        moved = {cell: raised[cell][0] - plain[cell][0] for cell in plain}
        assert moved == {cell: counts[step] for cell, (_, counts) in plain.items()}, step
    local = {*PARTS["machine"], *PARTS["lrpc"], *PARTS["message passing"]}
    uncommon = {"secondary_region", "map_memory", "exchange", "exchanged_value", "exchanged_byte"}
    assert {step for _, counts in plain.values() for step in counts if counts[step]} == local - uncommon


def test_the_costs_of_copies_are_solved_from_the_cells_they_name(firefly: Figures) -> None:
    (_, add), (_, big_in) = firefly["Add", "lrpc"], firefly["BigIn", "lrpc"]
    # values * v + bytes * b is the time of each call beyond Null's 157
    determinant = add["copy_value"] * big_in["copy_byte"] - big_in["copy_value"] * add["copy_byte"]
    value = ((164 - 157) * big_in["copy_byte"] - (192 - 157) * add["copy_byte"]) / determinant
    byte = ((192 - 157) * add["copy_value"] - (164 - 157) * big_in["copy_value"]) / determinant
    for step, solved in ((COPY_VALUE, value), (COPY_BYTE, byte), (MESSAGE_VALUE, value)):
        assert FIREFLY.file.steps[STEPS[step]].us == pytest.approx(solved, abs=1e-6)
    for step in (COPY_VALUE, COPY_BYTE):
        assert FIREFLY.file.steps[STEPS[step]].solved_from == ("IV/Add/LRPC", "IV/BigIn/LRPC")


def test_the_costs_of_bytes_in_messages_are_solved_from_the_cells_they_name() -> None:
    value = FIREFLY.file.steps["message_value"].us
    argument = (539 - 464 - value) / 200
    result = (636 - 464 - 2 * value - 200 * argument) / 200
    for step, solved, cell in (
        (MESSAGE_ARGUMENT_BYTE, argument, "IV/BigIn/Taos"),
        (MESSAGE_RESULT_BYTE, result, "IV/BigInOut/Taos"),
    ):
        cost = FIREFLY.file.steps[STEPS[step]]
        assert cost.us == pytest.approx(solved, abs=1e-6)
        assert cost.solved_from == (cell,)


def test_nulls_share_of_taos_is_what_the_steps_that_name_it_add_up_to(firefly: Figures) -> None:
    _, counts = firefly["Null", "message passing"]
    steps = FIREFLY.file.steps
    shared = {step for step in STEPS if step in steps and "IV/Null/Taos" in steps[step].solved_from}
    others = sum(steps[step].us * count for step, count in counts.items() if count and step not in shared)
    assert sum(steps[step].us * counts[step] for step in shared) == pytest.approx(464 - others)
    parts = ("buffer", "validate", "enqueue", "transfer", "schedule", "switch", "dispatch")
    assert shared == {f"message_{part}" for part in parts}


def test_lrpc_mps_costs_are_solved_from_the_cells_they_name() -> None:
    """An exchange replaces each switch.

    3 values and 12 bytes take 5 us, 1 value and 200 bytes take 48 us.
    """
    steps = FIREFLY.file.steps
    assert steps["exchange"].us == (125 - (157 - 66)) / 2
    determinant = 3 * 200 - 1 * 12
    assert steps["exchanged_value"].us == pytest.approx((5 * 200 - 48 * 12) / determinant, abs=1e-6)
    assert steps["exchanged_byte"].us == pytest.approx((48 * 3 - 5 * 1) / determinant, abs=1e-6)


def test_the_bus_is_fitted_to_the_speed_up_on_four_processors() -> None:
    """Solve by mean value analysis: a call thinks outside the bus, and queues for the bus."""
    assert FIREFLY.file.bus is not None
    demand = FIREFLY.file.bus.us
    queue, calls = 0.0, 0.0
    for processors in range(1, 5):
        response = demand * (1 + queue)
        calls = processors / (157 - demand + response)
        queue = calls * response
    assert calls * 157 == pytest.approx(3.7, rel=0.002)


def test_what_packets_take_are_the_quoted_steps_for_either_size() -> None:
    steps = FIREFLY.file.steps
    for step, byte, small, large in (
        ("udp_checksum", "checksum_byte", 45, 440),
        ("controller_transmit", "transmit_byte", 70, 815),
        ("controller_receive", "receive_byte", 80, 835),
    ):
        assert (steps[step].us, steps[byte].origin) == (small, "source")
        assert small + 1440 * steps[byte].us == pytest.approx(large, abs=0.001)
    each = [STEPS[step] for step in (*PACKET_SEND, *PACKET_OUT, *TRANSMIT, *RECEIVE, *PACKET_IN)]
    assert sum(steps[step].us for step in each) + 60 == 954
    longer = 2 * steps["checksum_byte"].us + steps["transmit_byte"].us + steps["receive_byte"].us
    assert 954 + 1440 * longer + (1230 - 60) == pytest.approx(4414, abs=0.01)


def test_what_stubs_add_are_lines_through_two_quoted_figures_each() -> None:
    us = {step: FIREFLY.file.steps[step].us for step in PARTS["marshaling"]}
    assert (2 * us["marshal_word"], 2 * us["marshal_nil"]) == (8, 89)
    for whole, byte, sides, points in (
        ("marshal_array", "marshal_array_byte", 1, {4: 20, 400: 140}),
        ("marshal_open_array", "marshal_open_array_byte", 1, {1: 115, 1440: 550}),
        ("marshal_text", "marshal_text_byte", 2, {1: 378, 128: 659}),
    ):
        for size, took in points.items():
            assert sides * (us[whole] + size * us[byte]) == pytest.approx(took, abs=0.001)


@pytest.mark.parametrize(
    ("name", "transfer", "kind"),
    [
        ("Null", "lrpc", "input"),
        ("Add", "lrpc", "fitted"),
        ("BigIn", "lrpc", "fitted"),
        ("BigInOut", "lrpc", "predicted"),
        ("Null", "message passing", "fitted"),
        ("Add", "message passing", "predicted"),
        ("BigIn", "message passing", "fitted"),
        ("BigInOut", "message passing", "fitted"),
    ],
)
def test_a_figure_says_whether_it_was_put_in(name: str, transfer: Transfer, kind: Kind, firefly: Figures) -> None:
    _, counts = firefly[name, transfer]
    assert from_charges(FIREFLY, counts, f"IV/{name}/{COLUMNS[transfer]}").kind == kind


def test_half_of_a_quoted_total_is_no_input() -> None:
    assert from_charges(FIREFLY, {"kernel_call": 1, "kernel_return": 1}).kind == "input"
    assert from_charges(FIREFLY, {"kernel_call": 2, "kernel_return": 2}).kind == "input"
    assert from_charges(FIREFLY, {"kernel_call": 1}).kind == "predicted"
    assert from_charges(FIREFLY, {"kernel_call": 2, "kernel_return": 1}).kind == "predicted"
