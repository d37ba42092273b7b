"""What the README and the tutorial show is what runs print; their Python examples run as doctests."""

import re
import tomllib
from pathlib import Path

from lrpc.cluster.description import ClusterTable, describe
from lrpc.kernel.documents import validate
from lrpc.workloads.programs.registry import REGISTRY
from tests.support.command import lrpc
from tests.support.places import PROJECT, SAMPLE

README = (PROJECT / "README.md").read_text()
TUTORIAL = (PROJECT / "docs" / "tutorial.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def printed(said: str) -> str:
    """Return what a command printed up to the latencies, without the spaces that end its lines."""
    return "\n".join(line.rstrip() for line in said.partition("Latency")[0].splitlines()).strip()


def test_every_table_in_the_readme_is_one_that_reproduce_prints(tmp_path: Path) -> None:
    """Whatever the number of calls: the figures are means."""
    said = lrpc("reproduce", "--calls", "50", "--actors", "0", "--links", "memory", "--out", tmp_path / "run").out
    shown = re.split(r"\n(?=Table )", blocks(README, "text")[0].strip())
    assert len(shown) == 4
    for table in shown:
        assert table in printed(said)


def test_the_readme_shows_what_the_office_prints(tmp_path: Path) -> None:
    said = lrpc("run", "office", "--actors", "0", "--links", "memory", "--out", tmp_path / "run").out
    assert blocks(README, "text")[1].strip() == printed(said)


def test_the_tutorials_scenario_can_be_run() -> None:
    tables = [tomllib.loads(block) for block in blocks(TUTORIAL, "toml")]
    scenario = next(one for one in tables if "machines" in one)
    assert describe(validate(ClusterTable, scenario, "tutorial"), REGISTRY, "tutorial").talks


def test_the_tutorial_shows_what_replaying_and_placing_its_trace_prints(tmp_path: Path) -> None:
    trace = SAMPLE
    times, places = blocks(TUTORIAL, "text")
    where = ("--machines", 2, "--actors", 0, "--links", "memory")
    assert times.strip() in printed(lrpc("replay", trace, *where, "--out", tmp_path / "run").out)
    placed = lrpc("place", trace, *where, "--slack", 1.7, "--out", tmp_path / "p.toml", "--record", tmp_path / "runs")
    assert printed(placed.out).startswith(places.strip())
