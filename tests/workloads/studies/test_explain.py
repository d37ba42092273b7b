"""A call explained: its steps are those that were charged, and add up to the time that it took."""

import csv
import importlib
import json
import operator
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

import lrpc
from lrpc.domains.codecs import Int32
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.explain import WARM_UP, WORDS, Explanation
from lrpc.kernel.simulated.costs import PARTS, REMOTE_STEPS, STEPS, load_cost_model
from lrpc.workloads.programs.four_tests import TESTS, Test
from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note
from lrpc.workloads.studies.explain import GROUPS, LINK_DELAY_US, LINK_MBPS, REMOTE, REMOTE_GROUPS, WIRE, report, ways
from tests.support.command import lrpc as command
from tests.support.command import refused

FIREFLY: Final = load_cost_model("cvax-firefly")
# Where the definitions are that WORDS names.
HOUSES: Final = {
    "marshaling": "kernel.simulated.network.marshaling",
    "transfer": "kernel.simulated.transfer",
    "ClientStub": "domains.simulated.stubs",
    "LrpcStub": "domains.simulated.stubs",
    "MessageStub": "domains.simulated.stubs",
    "AStackGroup": "kernel.simulated.astacks",
    "Binding": "kernel.simulated.bindings",
    "Charges": "kernel.simulated.charges",
    "ConcreteThread": "kernel.simulated.message_turns",
    "Dispatcher": "kernel.simulated.dispatcher",
    "Network": "kernel.simulated.network.remote",
    "Packets": "kernel.simulated.network.packets",
    "Port": "kernel.simulated.message_passing",
    "Processor": "kernel.simulated.processor",
}


class Adder(Interface):
    def add(self, a: Int32, b: Int32) -> Int32: ...


class AdderServer(Adder):
    def add(self, a: int, b: int) -> int:
        return a + b


@pytest.fixture(scope="module")
def explained() -> Mapping[Test, Mapping[str, Explanation]]:
    return {test: ways(test, FIREFLY, LINK_DELAY_US, LINK_MBPS) for test in TESTS}


def test_each_step_has_words_and_names_definitions_that_exist() -> None:
    assert list(WORDS) == list(STEPS)
    for _, where in WORDS.values():
        for name in where.split(", "):
            house, _, rest = name.partition(".")
            module = importlib.import_module(f"lrpc.{HOUSES[house]}")
            owner = module if house in ("marshaling", "transfer") else getattr(module, house)
            assert operator.attrgetter(rest)(owner), name


@pytest.mark.parametrize("test", TESTS)
def test_the_steps_add_up_to_table_iv(explained: Mapping[Test, Mapping[str, Explanation]], test: Test) -> None:
    paper = {"Null": (157, 125, 464), "Add": (164, 130, 480), "BigIn": (192, 173, 539), "BigInOut": (227, 219, 636)}
    found = explained[test]
    assert [one.elsewhere_us for way, one in found.items() if way != REMOTE] == [0, 0, 0]
    for way, us in zip(("LRPC", "LRPC/MP", "SRC RPC"), paper[test], strict=True):
        assert found[way].took_us == pytest.approx(us, rel=0.015)


def test_what_no_step_takes_of_a_call_to_another_machine_is_the_wire(
    explained: Mapping[Test, Mapping[str, Explanation]],
) -> None:
    assert explained["Null"][REMOTE].elsewhere_us == 2 * LINK_DELAY_US
    assert explained["Add"][REMOTE].elsewhere_us == pytest.approx(2 * LINK_DELAY_US + 12 * 8 / LINK_MBPS, abs=0.01)
    machines = [machine for machine, _ in groupby(step.machine for step in explained["Null"][REMOTE].steps)]
    assert machines == ["here", "there", "here"]


def test_a_switch_is_followed_by_its_misses_in_the_other_domain(
    explained: Mapping[Test, Mapping[str, Explanation]],
) -> None:
    steps = explained["Null"]["LRPC"].steps
    assert [(step.domain, step.times) for step in steps if step.name == "tlb_miss"] == [("server", 22), ("client", 21)]
    assert [step.domain for step in steps if step.name == "switch"] == ["server", "client"]
    assert [step.name for step in steps[:5]] == [
        "procedure_call",
        "client_stub",
        "astack_queue",
        "trap",
        "kernel_call",
    ]


def test_a_machine_explains_any_call_and_changes_nothing() -> None:
    machine = lrpc.Machine()
    machine.export(Adder, AdderServer(), "adder")
    adder = machine.bind(Adder, "adder")
    found = machine.explain(lambda: adder.add(1, 2))
    assert found.took_us == 164.0
    assert str(found).endswith("164.000 µs  in all")
    assert len(str(found).splitlines()) == len(found.steps) + 1
    counts = dict(machine.outcome().charges)
    plain = lrpc.Machine()
    plain.export(Adder, AdderServer(), "adder")
    other = plain.bind(Adder, "adder")

    def eleven() -> None:
        for _ in range(WARM_UP + 1):
            other.add(1, 2)

    plain.spawn(eleven)
    plain.run()
    assert plain.outcome().charges == counts
    assert plain.outcome().digest == machine.outcome().digest


def test_a_call_that_raises_ends_the_observation() -> None:
    machine = lrpc.Machine()
    machine.export(Adder, AdderServer(), "adder")
    adder = machine.bind(Adder, "adder")
    with pytest.raises(lrpc.RunFailed, match="ArgumentError"):
        machine.explain(lambda: adder.add(2**40, 2))


def test_a_model_without_messages_or_network_is_explained_by_what_it_has() -> None:
    assert set(ways("Null", load_cost_model("linux-python"), LINK_DELAY_US, LINK_MBPS)) == {"LRPC", "LRPC/MP", REMOTE}
    assert set(ways("Null", load_cost_model("mach"), LINK_DELAY_US, LINK_MBPS)) == {"message passing"}


class TestCommand:
    def test_it_ends_with_the_ways_beside_each_other(self) -> None:
        ended = command("explain", "null")
        assert ended.code == 0
        last = ended.out.splitlines()[-1]
        assert last.startswith(
            "LRPC takes 157.0 µs, LRPC/MP 0.80 times that (125.0 µs), SRC RPC 2.96 times that (464.0 µs), "
        )

    def test_a_model_of_message_passing_alone_is_compared_with_itself(self) -> None:
        assert command("explain", "--cost-model", "mach").out.splitlines()[-1] == "message passing takes 754.0 µs."

    def test_a_way_has_one_name_in_the_terminal_the_picture_and_its_steps(
        self, explained: Mapping[Test, Mapping[str, Explanation]]
    ) -> None:
        names = ["LRPC", "LRPC/MP", "SRC RPC", "remote"]
        made = report(explained["Null"], "Null", FIREFLY)
        note, local, _, table = made.answer
        assert isinstance(note, Note)
        assert isinstance(local, Plot)
        assert isinstance(table, Table)
        assert [name for name, _, _ in local.told] == names[:-1]
        assert list(table.columns) == ["step", *names]
        assert [section.title for section in made.sections] == [f"{name}, step by step" for name in names]
        assert all(f"{name} " in note.text for name in names)

    def test_a_page_opens_on_the_comparison_and_has_every_step(self, tmp_path: Path) -> None:
        assert command("explain", "--out", tmp_path / "page").out.splitlines()[-2].startswith("report ")
        text = (tmp_path / "page" / "report.html").read_text()
        assert text.index("LRPC takes 157.0") < text.index("<details")
        assert len(list((tmp_path / "page").glob("steps-*.csv"))) == 4
        assert "--force" in refused("explain", "--out", tmp_path / "page")
        assert command("explain", "--out", tmp_path / "page", "--force").code == 0

    def test_a_folder_that_holds_more_than_a_page_is_never_replaced(self, tmp_path: Path) -> None:
        command("explain", "--out", tmp_path / "page")
        (tmp_path / "page" / "thesis.txt").write_text("years of work")
        assert "page" in refused("explain", "--out", tmp_path / "page", "--force")
        assert (tmp_path / "page" / "thesis.txt").read_text() == "years of work"

    def test_each_step_of_a_call_on_one_machine_is_in_one_part_of_the_picture(self) -> None:
        grouped = [step for steps in GROUPS.values() for step in steps]
        here = [step for part in ("machine", "lrpc", "message passing") for step in PARTS[part]]
        assert sorted(grouped) == sorted(here)
        assert sorted(step for steps in REMOTE_GROUPS.values() for step in steps) == sorted(REMOTE_STEPS)

    @pytest.mark.parametrize("test", TESTS)
    def test_the_pictures_have_all_that_a_call_takes_by_each_way(
        self, explained: Mapping[Test, Mapping[str, Explanation]], test: Test
    ) -> None:
        made = report(explained[test], test, FIREFLY)
        local, remote = (part for part in made.answer if isinstance(part, Plot))
        for name, whole, parts in (*local.told, *remote.told):
            assert whole == pytest.approx(sum(us for _, us in parts)), name
        assert {name: whole for name, whole, _ in local.told} == {
            way: one.took_us for way, one in explained[test].items() if way != REMOTE
        }
        assert sum(whole or 0.0 for _, whole, _ in remote.told) == pytest.approx(explained[test][REMOTE].took_us)
        assert {part for _, _, parts in remote.told for part, _ in parts} == {*REMOTE_GROUPS, WIRE}

    def test_json_has_each_step_with_its_origin_and_source(self) -> None:
        found = json.loads(command("explain", "Add", "--json").out)
        assert list(found) == ["LRPC", "LRPC/MP", "SRC RPC", REMOTE]
        first = found["LRPC"]["steps"][0]
        assert (first["name"], first["us"], first["origin"], first["source"]) == (
            "procedure_call",
            7.0,
            "source",
            "Table V",
        )

    def test_each_step_has_its_kind_and_its_source(self, tmp_path: Path) -> None:
        """Costs whose sum is quoted are input where all of it is charged."""
        command("explain", "Add", "--out", tmp_path / "page")
        text = (tmp_path / "page" / "steps-lrpc.csv").read_text()
        rows = list(csv.DictReader(text.splitlines()))
        kinds = {row["what"].partition(" (x")[0]: (row["kind"], row["source"]) for row in rows}
        assert kinds["run the server's stub, entered by an upcall"] == ("input", "section 5: 3 of the stubs' 21")
        assert kinds["copy a byte between stub and A-stack"] == ("fitted", "Table IV")
        assert {kind for kind, _ in kinds.values()} == {"input", "fitted"}
        assert "section 5" in command("explain", "Add").out
        far = json.loads(command("explain", "Add", "--json").out)[REMOTE]["steps"]
        assert {step["kind"] for step in far} == {"input"}

    def test_a_test_that_is_not_there_is_refused_with_those_that_are(self) -> None:
        assert refused("explain", "Nil") == "lrpc: test Nil: there is none; give one of Null, Add, BigIn, BigInOut"
