"""Every reader reads a spoilt file or refuses it: in one line, in seconds, and in little memory.

Half of the cases are spoilt as bytes, half as tables that are written again. `make test` gives each
reader 200 of them, always the same; `make test-all` 10,000, drawn from the seed in the header.
"""

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import COST_MODELS, load_cost_model
from lrpc.kernel.text import one_line
from lrpc.workloads.records import events, records
from lrpc.workloads.replay import placement
from lrpc.workloads.reports import page
from lrpc.workloads.runs import verify
from lrpc.workloads.runs.jobs import RunJob
from lrpc.workloads.studies.sweep import read_sweep
from tests.support.command import HERE, lrpc, office
from tests.support.fuzzing import (
    MOST_MIB,
    as_toml,
    bounded,
    cases,
    forget_peak,
    peak_mib,
    spoil_bytes,
    spoil_tables,
)

Reader = Callable[[Path], object]
SWEEPS = {
    "combinations": '[parameters]\nseed = [1, 2]\n"machines.workstation.processors" = [1, 2]\n',
    "draws": "[draws]\ncount = 3\n",
    "each": "[each]\nfactors = [0.5, 2.0]\n",
}
PLACEMENT = '[placement]\n"front" = 0\n"back" = 1\n"cart-79d8" = 1\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_parameter(scenario: Path) -> Path:
    """Give a scenario a parameter that draws and factors can vary."""
    text = scenario.read_text()
    assert "blocks = 512" in text
    parameter = 'blocks = { value = 512, range = [100, 1000], why = "assumed" }'
    scenario.write_text(text.replace("blocks = 512", parameter))
    return scenario


def fuzz(read: Reader, good: Path, options: pytest.Config, write: Callable[[dict[str, Any]], bytes] | None) -> None:
    """Let `read` read the file `good`, and then it spoilt, in turn as bytes and as tables."""
    read(good)
    data = good.read_bytes()
    tables = None
    if write is not None:
        tables = json.loads(data) if write is as_json else tomllib.loads(data.decode())
    count = cases()
    seed = options.getoption("seed") if count == 10_000 else 0
    if sys.platform == "linux":
        forget_peak()
        before_mib = peak_mib()
    reasons: list[str] = []
    for number in range(count):
        random = Random(f"{seed} {number}")
        as_tables = write is not None and tables is not None and number % 2
        spoilt = write(spoil_tables(tables, random)) if as_tables and write and tables else spoil_bytes(data, random)
        good.write_bytes(spoilt)
        case = f"case {number} of seed {seed}, in {good.absolute()}"
        try:
            with bounded(case):
                read(good)
        except Refused as error:
            reasons.append(one_line(str(error)))
        except Exception as error:
            raise AssertionError(case) from error
    assert len(reasons) > count / 10  # otherwise nothing was spoilt
    if sys.platform == "linux":
        assert peak_mib() - before_mib < MOST_MIB


def as_json(tables: dict[str, Any]) -> bytes:
    return json.dumps(tables).encode()


def test_scenarios(folder: Path, pytestconfig: pytest.Config) -> None:
    fuzz(lambda path: RunJob(scenario=str(path)).prepare([]), with_parameter(office(folder)), pytestconfig, as_toml)


def test_cost_models(folder: Path, pytestconfig: pytest.Config) -> None:
    good = folder / "model.toml"
    good.write_bytes((COST_MODELS / "linux-python.toml").read_bytes())
    fuzz(lambda path: load_cost_model(str(path)), good, pytestconfig, as_toml)


@pytest.mark.parametrize("varies", SWEEPS)
def test_sweeps_of(varies: str, folder: Path, pytestconfig: pytest.Config) -> None:
    with_parameter(office(folder))
    good = folder / "sweep.toml"
    good.write_text(f'name = "s"\njob = {{ kind = "run", scenario = "office.toml" }}\n{SWEEPS[varies]}')
    fuzz(lambda path: read_sweep(path, folder / "out"), good, pytestconfig, as_toml)


def test_placements(folder: Path, pytestconfig: pytest.Config) -> None:
    good = folder / "placement.toml"
    good.write_text(PLACEMENT)
    pods = list(tomllib.loads(PLACEMENT)["placement"])
    fuzz(lambda path: placement.place(pods, 2, path), good, pytestconfig, as_toml)


def test_records(folder: Path, pytestconfig: pytest.Config) -> None:
    office(folder)
    assert lrpc("run", "office.toml", "--out", "out", *HERE).code == 0

    def read(path: Path) -> None:
        found = records.read(path.parent)
        page.check("out", found)
        made = page.report({"out": found})
        assert "".join(page.as_markdown(made))
        with verify.prepared(verify.check(path.parent), "out"):
            pass

    fuzz(read, folder / "out" / "record.json", pytestconfig, as_json)


def test_event_logs(folder: Path, pytestconfig: pytest.Config) -> None:
    office(folder, actions=2)
    assert lrpc("run", "office.toml", "--events", "log", "--out", "out", *HERE).code == 0

    def read(path: Path) -> None:
        assert all("\x1b" not in line for line in events.lines(path))
        assert events.digest(path)

    fuzz(read, folder / "log", pytestconfig, None)
