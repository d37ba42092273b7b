"""Bad cost models are refused in one line that names file and key."""

from pathlib import Path

import pytest

from lrpc.kernel.simulated.costs import COST_MODELS
from tests.support.command import HERE, refused


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_cost_model_with_a_cost_that_is_no_number(folder: Path) -> None:
    (folder / "costs.toml").write_text('name = "mine"\ndescription = ""\n[steps]\ntrap = "dear"\n')
    line = refused("reproduce", "--cost-model", "costs.toml", *HERE)
    assert line.startswith("lrpc: costs.toml: steps.trap: ")
    assert line.endswith("it is 'dear' (and 1 more)")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{ count = 256", "{ count = 0", "message_passing.buffers.count: Input should be greater than or equal to 1"),
        ('source = "section 2.3"', 'source = ""', "message_passing.source: "),
        (
            'steps = ["message_validate", "message_enqueue"',
            'steps = ["message_validate"',
            "message_passing.locked: steps: message_validate, message_transfer, message_schedule, message_switch: ",
        ),
        (
            ', solved_from = ["IV/Null/LRPC/MP"] }',
            " }",
            "steps.exchange: solved_from: missing; what is fitted names the cells that it was solved from",
        ),
        ('solved_from = ["IV/Null/LRPC/MP"] }', 'solved_from = ["Null"] }', "steps.exchange.solved_from.0: "),
        (
            'solved_from = ["IV/Null/LRPC/MP"] }',
            'solved_from = ["Table XCIX/no row/no column"] }',
            "steps.exchange.solved_from.0: Table XCIX/no row/no column: the paper has no such table; there are I, ",
        ),
        (
            'solved_from = ["IV/Null/LRPC/MP"] }',
            'solved_from = ["IV/Nil/LRPC/MP"] }',
            "steps.exchange.solved_from.0: IV/Nil/LRPC/MP: IV has no row Nil; it has Null, Add, BigIn, BigInOut",
        ),
        (
            'solved_from = ["IV/Null/LRPC/MP"] }',
            'solved_from = ["IV/Null/Mach"] }',
            "steps.exchange.solved_from.0: IV/Null/Mach: IV has no column Mach; it has LRPC/MP, LRPC, Taos",
        ),
        (
            'floor = 0.5\norigin = "assumed"',
            'floor = 0.5\norigin = "fitted"',
            "variation: solved_from: missing; what is fitted names the cells that it was solved from",
        ),
    ],
    ids=[
        "no buffers",
        "a source of no words",
        "a lock over steps that do not follow each other",
        "a fitted cost that names no cell",
        "a cell that is none",
        "a cell of no table",
        "a cell of no row",
        "a cell of no column",
        "a fitted variation that names no cell",
    ],
)
def test_a_cost_model_with(old: str, new: str, said: str, folder: Path) -> None:
    text = (COST_MODELS / "cvax-firefly.toml").read_text()
    assert old in text
    (folder / "costs.toml").write_text(text.replace(old, new, 1))
    line = refused("reproduce", "--cost-model", "costs.toml", *HERE)
    assert line.startswith(f"lrpc: costs.toml: {said}")


def test_a_cost_model_that_lacks_what_a_run_needs() -> None:
    line = refused("reproduce", "--cost-model", "linux-python", *HERE)
    assert "cost model linux-python: has no costs for message passing; add steps.message_client_stub and the" in line
