"""Cost files give the cost of every step and its source; wrong ones are refused in one line."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrpc.kernel.documents import LARGEST_DOCUMENT
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import COST_MODELS, PARTS, STEPS, cost_model, cost_model_names, load_cost_model
from tests.support.simulated import FIREFLY

Tables = dict[str, Any]


def firefly() -> Tables:
    return tomllib.loads((COST_MODELS / "cvax-firefly.toml").read_text())


def at(path: str, value: object) -> Callable[[Tables], None]:
    """Return a change that sets the value at a dotted path."""

    def change(tables: Tables) -> None:
        *way, last = path.split(".")
        table: Any = tables
        for key in way:
            table = table[int(key) if key.isdigit() else key]
        table[last] = value

    return change


def without(path: str) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        *way, last = path.split(".")
        table: Any = tables
        for key in way:
            table = table[key]
        del table[last]

    return change


def refusal(change: Callable[[Tables], None]) -> str:
    tables = firefly()
    change(tables)
    with pytest.raises(Refused) as error:
        cost_model(tables, "mine.toml")
    said = str(error.value)
    assert len(said.splitlines()) == 1
    assert said.startswith("mine.toml: ")
    return said


FITTED = "steps.copy_byte: solved_from: missing; what is fitted names the cells that it was solved from"
NUMBER = {"us": 1.0, "origin": "assumed", "source": "a test"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (at("steps.trap.us", "18"), "steps.trap.us: Input should be a valid number; it is '18'"),
        (at("steps.trap.us", True), "steps.trap.us: Input should be a valid number; it is True"),
        (at("steps.trap.us", -1.0), "steps.trap.us: Input should be greater than or equal to 0; it is -1.0"),
        (at("steps.trap.us", 1e10), "steps.trap.us: "),
        (at("steps.trap.us", float("nan")), "steps.trap.us: Input should be a finite number; it is nan"),
        (at("steps.trap.us", float("inf")), "steps.trap.us: Input should be a finite number"),
        (at("steps.trap.us", 10**400), "steps.trap.us: "),
        (at("steps.trap", 18.0), "steps.trap: "),
        (at("steps.trap.unit", "us"), "steps.trap.unit: unknown key; remove it or correct its spelling"),
        (at("steps.trap.origin", "guessed"), "steps.trap.origin: Input should be 'source', 'fitted' or 'assumed'"),
        (at("steps.trap.source", ""), "steps.trap.source: "),
        (at("steps.trap.solved_from", "IV/Null"), "steps.trap.solved_from: "),
        (at("steps.trap.solved_from", ["IV/Null"]), "steps.trap.solved_from.0: "),  # it has no column
        (at("steps.copy_byte.solved_from", []), FITTED),
        (without("steps.copy_byte.solved_from"), FITTED),
        (at("steps.copy_byte.solved_from", [""]), "steps.copy_byte.solved_from.0: "),
        (
            without("bus.solved_from"),
            "bus: solved_from: missing; what is fitted names the cells that it was solved from",
        ),
        (
            at("variation.origin", "fitted"),
            "variation: solved_from: missing; what is fitted names the cells that it was solved from",
        ),
        (
            at("steps.copy_byte.solved_from", ["XCIX/no row/no column"]),
            "steps.copy_byte.solved_from.0: XCIX/no row/no column: the paper has no such table; there are I, ",
        ),
        (
            at("bus.solved_from", ["V/remote/32 bytes"]),
            "bus.solved_from.0: V/remote/32 bytes: V has no row remote; it has procedure call, two traps, ",
        ),
        (
            at("variation.solved_from", ["Figure 2/4/LRPC/MP"]),
            "variation.solved_from.0: Figure 2/4/LRPC/MP: Figure 2 has no column LRPC/MP; it has LRPC, SRC RPC",
        ),
        (
            at("message_passing.buffers.count", 0),
            "message_passing.buffers.count: Input should be greater than or equal to 1; it is 0",
        ),
        (at("message_passing.buffers.count", 2.5), "message_passing.buffers.count: Input should be a valid integer"),
        (without("message_passing.buffers.origin"), "message_passing.buffers.origin: missing; add it"),
        (at("message_passing.source", ""), "message_passing.source: "),
        (without("message_passing.origin"), "message_passing.origin: missing; add it"),
        (
            at("message_passing.origin", "fitted"),
            "message_passing: solved_from: missing; what is fitted names the cells that it was solved from",
        ),
        (without("message_passing.locked"), "message_passing.locked: missing; add it"),
        (at("message_passing.locked.source", ""), "message_passing.locked.source: "),
        (
            at("message_passing.locked.steps", ["message_validate", "message_transfer"]),
            "message_passing.locked: steps: message_validate, message_transfer: name none, or some that follow",
        ),
        (at("message_passing.locked.steps", ["trap"]), "message_passing.locked: steps: trap: name none, or some that"),
        (at("message_passing.one_lock", True), "message_passing.one_lock: unknown key; remove it or correct its"),
        (without("steps.trap.us"), "steps.trap.us: missing; add it"),
        (without("steps.trap"), "steps.trap: missing; machine needs it"),
        (without("steps.message_buffer"), "steps.message_buffer: missing; message passing needs it"),
        (without("steps.wakeup"), "steps.wakeup: missing; packets needs it"),
        (without("steps.remote_server"), "steps.remote_server: missing; network needs it"),
        (at("retransmission.us", 0.0), "retransmission.us: Input should be greater than 0; it is 0.0"),
        (at("retransmission.tries", 0), "retransmission.tries: Input should be greater than or equal to 1; it is 0"),
        (without("retransmission.backoff"), "retransmission.backoff: missing; add it"),
        (at("steps.tarp", NUMBER), "steps.tarp: unknown step; known are procedure_call, trap,"),
        (without("steps"), "steps: missing; add it"),
        (without("tlb"), "tlb: missing; add it"),
        (at("tlb.on_call.kernel", -1), "tlb.on_call.kernel: Input should be greater than or equal to 0; it is -1"),
        (at("tlb.on_call.domain", 22.0), "tlb.on_call.domain: Input should be a valid integer; it is 22.0"),
        (at("tlb.on_return.domain", 10**9), "tlb.on_return.domain: "),
        (at("bus.us", -0.1), "bus.us: Input should be greater than or equal to 0; it is -0.1"),
        (at("bus.us", 1.0), "bus.us: its shares add up to 23, not to 1; correct one"),
        (at("bus.shares.tlb_miss.us", 1.0), "bus.shares.tlb_miss.us: occupies the bus for 1 of its 0.9; lower it"),
        (at("bus.shares.trap", NUMBER), "bus.shares.trap: does not use the bus; tlb_miss, kernel_call, "),
        (without("bus.shares.kernel_call"), "bus.shares.kernel_call: missing; bus.of counts it"),
        (without("bus.shares"), "bus.shares: missing; add it"),
        (at("bus.of.kernel_call", 0), "bus.of.kernel_call: "),
        (at("variation.floor", 0.0), "variation.floor: Input should be greater than 0; it is 0.0"),
        (at("variation.floor", 1.5), "variation.floor: Input should be less than or equal to 1; it is 1.5"),
        (without("variation.origin"), "variation.origin: missing; add it"),
        (without("steps.marshal_nil"), "steps.marshal_nil: missing; marshaling needs it"),
        (at("message_passing.discipline", "pigeons"), "message_passing.discipline: Input should be 'shared buffers', "),
        (without("message_passing"), "message_passing: missing; message passing needs to know its discipline"),
        (at("steps.trap", {"ms": 18.0, "origin": "assumed", "source": "x"}), "steps.trap.ms: unknown key; "),
        (at("tlb.tagged", "no"), "tlb.tagged: Input should be a valid boolean; it is 'no'"),
        (at("name", ""), "name: "),
        (at("nmae", "x"), "nmae: unknown key; remove it or correct its spelling"),
        (at("totals.0.us", 67.0), "totals: two context switches: its steps add up to 66, not to 67"),
        (at("steps.switch.us", 13.0), "totals: two context switches: its steps add up to 64.7, not to 66"),
        (at("totals.0.us", float("nan")), "totals.0.us: "),
        (at("totals.0.of.twitch", 1), "totals: two context switches: twitch is no step of this file"),
        (at("totals.0.of", {}), "totals.0.of: "),
        (at("totals.0.of.trap", 0), "totals.0.of.trap: "),
        (at("totals.0.of.trap", -1), "totals.0.of.trap: "),
        (at("totals.0.of.trap", 10**400), "totals.0.of.trap: "),
    ],
)
def test_a_wrong_cost_file_is_refused_with_file_and_key(change: Callable[[Tables], None], said: str) -> None:
    assert said in refusal(change)


def test_a_file_may_leave_out_a_part_but_not_what_a_machine_needs() -> None:
    tables = firefly()
    for step in PARTS["message passing"]:
        del tables["steps"][step]
    tables["totals"] = [one for one in tables["totals"] if not any("message" in step for step in one["of"])]
    model = cost_model(tables, "mine.toml")
    model.require("lrpc")
    model.require("network")
    with pytest.raises(Refused, match=r"has no costs for message passing; add steps\.message_client_stub and the rest"):
        model.require("message passing")
    for step in PARTS["machine"]:
        del tables["steps"][step]
    with pytest.raises(Refused, match=r"^mine\.toml: .*steps\.procedure_call: missing; machine needs it"):
        cost_model(tables | {"totals": []}, "mine.toml")


def test_the_parts_divide_the_steps() -> None:
    assert tuple(step for part in PARTS.values() for step in part) == STEPS


@pytest.mark.parametrize("name", cost_model_names())
def test_every_model_that_ships_loads_under_its_name_and_by_its_path(name: str) -> None:
    assert load_cost_model(name).name == name
    assert load_cost_model(str(COST_MODELS / f"{name}.toml")) == load_cost_model(name)


def test_table_iis_systems_ship_and_python_on_linux() -> None:
    assert cost_model_names() == ["accent", "amoeba", "cvax-firefly", "dash", "linux-python", "mach", "v"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "vax",
            r"^cost model vax: unknown; known are accent, amoeba, .*, v, or a \.toml file's path$",
        ),
        ("nowhere/vax.toml", r"^nowhere/vax\.toml: cannot be read: No such file or directory$"),
    ],
)
def test_a_model_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        load_cost_model(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "not TOML: "),
        (b"\xff", "byte 0: not UTF-8"),
        (b"a = 1" + b"0" * 5000, "not TOML that can be read: "),
        (b"a = " + b"[" * 5000, "not TOML that can be read: "),
        (b"#" + bytes([32]) * LARGEST_DOCUMENT, "larger than"),
        (b"", "name: missing; add it (and 3 more)"),
    ],
)
def test_a_file_that_is_no_document_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(Refused) as error:
        load_cost_model(str(path))
    assert str(error.value).startswith(f"{path}: {said}")
    assert len(str(error.value).splitlines()) == 1


def test_a_directory_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(Refused, match="cannot be read: Is a directory"):
        load_cost_model(str(tmp_path / "mine.toml"))


def test_costs_are_kept_in_picoseconds() -> None:
    assert FIREFLY.ps[STEPS.index("copy_byte")] == 166_667
    assert FIREFLY.ns[STEPS.index("copy_byte")] == 167
    assert FIREFLY.ns[STEPS.index("trap")] == 18_000


def test_a_machine_looks_ahead_by_what_sending_costs_once_nothing_intervenes() -> None:
    assert FIREFLY.lookahead_ns == 70_000 // 2  # the floor of a packet's time in the controller
    assert FIREFLY.without_variation().lookahead_ns == 70_000
    assert load_cost_model("linux-python").lookahead_ns == 73_750


def test_messages_are_sent_whole_or_in_packets_and_network_needs_to_know() -> None:
    tables = firefly()
    for step in PARTS["packets"]:
        del tables["steps"][step]
    with pytest.raises(
        Refused, match=r"steps\.network_send: missing; network needs it and the rest of messages, or of"
    ):
        cost_model(tables, "mine.toml")
    for step in PARTS["messages"]:
        tables["steps"][step] = NUMBER
    assert cost_model(tables, "mine.toml").lookahead_ns == 1_000


def test_a_call_is_sent_again_after_waits_that_grow_up_to_a_bound() -> None:
    waits = [FIREFLY.retransmission.wait_ns(tries) / 1e6 for tries in (1, 2, 3, 8)]
    assert waits == [600, 1200, 2400, 76_800]
    assert FIREFLY.retransmission.wait_ns(100) == 10**12
