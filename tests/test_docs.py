"""The pages are true: they show the output of real runs, and every name on them exists.

Their Python examples run as doctests.
"""

import ast
import builtins
import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Final

import pytest

from lrpc.cluster import actors, scenario, transport
from lrpc.cluster.parameters import ParameterTable
from lrpc.cluster.scenario import ClusterTable
from lrpc.kernel.documents import Document
from lrpc.kernel.simulated import costs, disciplines
from lrpc.workloads import launcher, traces
from lrpc.workloads.placing.constraints import ConstraintTables
from lrpc.workloads.records import records
from lrpc.workloads.runs.jobs import ReplayJob, RunJob
from lrpc.workloads.studies import sweep
from lrpc.workloads.traces import read as trace_files
from lrpc.workloads.traces import rows
from lrpc.workloads.traces.formats import json_rows
from tests.conftest import HAS_HOST
from tests.support import reference, shown
from tests.support.command import lrpc
from tests.support.places import PROJECT, SAMPLE

README: Final = PROJECT / "README.md"
DOCS: Final = PROJECT / "docs"
REPRODUCTION: Final = DOCS / "reproduction.md"
DESIGN: Final = DOCS / "design.md"
MAP: Final = DOCS / "paper-to-code.md"
MEASURE: Final = DOCS / "measure.md"
EXAMPLES: Final = PROJECT / "examples"
PAGES: Final = sorted([*PROJECT.glob("*.md"), *DOCS.glob("*.md"), *EXAMPLES.glob("*.md")])
ROOMS: Final = ("kernel", "domains", "cluster", "workloads", "protos", "tests", "benchmarks", "examples", "lrpc")

# Names, and the file that defines them:
# "`Clerk.export`, `Clerk` in [`domains/clerk.py`](../domains/clerk.py)".
WHERE: Final = re.compile(r"(?P<names>`[^`]+`(?:, `[^`]+`)*) in \[`(?P<path>[^`]+)`\]\((?P<link>[^)]+)\)")
A_PATH: Final = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|py|toml|txt|cff|json|csv)")
A_CLASS: Final = re.compile(r"(?:lrpc\.)?(?P<name>[A-Z][a-z]\w*(?:\.\w+)?)(?:\(\))?")


def text_of(page: Path) -> str:
    """Return a page as text."""
    return page.read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def prose(text: str) -> str:
    """Return a page without its fenced and its indented blocks; lines keep their numbers."""
    blank = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^    .*$", "", blank, flags=re.MULTILINE)


def spans(text: str) -> list[str]:
    """Return the pieces of code within a page's sentences and tables."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def printed(said: str) -> str:
    """Return the output of a command up to the latencies, without trailing spaces."""
    return "\n".join(line.rstrip() for line in said.partition("Latency")[0].splitlines()).strip()


@cache
def definitions(path: Path) -> frozenset[str]:
    """Return the names in a Python file, as `name` and `Class.name`, or the keys of a TOML file."""
    if path.suffix == ".toml":
        return frozenset(_keys(tomllib.loads(path.read_text()), ""))
    return frozenset(_defined(ast.parse(path.read_text()).body, ""))


def _keys(table: dict[str, object], before: str) -> Iterator[str]:
    for key, value in table.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")


def _defined(body: list[ast.stmt], before: str) -> Iterator[str]:
    for one in body:
        if isinstance(one, ast.FunctionDef | ast.ClassDef):
            yield f"{before}{one.name}"
        if isinstance(one, ast.ClassDef):
            yield from _defined(one.body, f"{one.name}.")
        elif isinstance(one, ast.FunctionDef) and before:
            for inner in ast.walk(one):
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    yield f"{before}{inner.attr}"
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        yield from (f"{before}{target.id}" for target in targets if isinstance(target, ast.Name))


@cache
def defined_anywhere() -> frozenset[str]:
    """Return the names that Python and all files of the project define."""
    files = [path for room in ROOMS if room != "lrpc" for path in (PROJECT / room).rglob("*.py")]
    return frozenset(vars(builtins)).union(*(definitions(path) for path in files))


@cache
def help_of(command: str) -> str:
    """Return the output of `lrpc COMMAND --help`."""
    return lrpc(command, "--help").out


def commands(text: str) -> Iterator[list[str]]:
    """Yield every lrpc command line on a page, as words."""
    for line in [*(line.strip().removeprefix("$ ") for line in text.splitlines()), *spans(text)]:
        words = line.partition("  ")[0].partition(" #")[0].split()
        if len(words) > 1 and words[0] == "lrpc" and re.fullmatch(r"[a-z]+", words[1]):
            yield words


WITH_COMMANDS: Final = [page for page in PAGES if shown.has_commands(page.read_text())]


def command_names() -> set[str]:
    """Return the names of all commands."""
    return set(launcher.SUBCOMMANDS)


def test_every_table_of_what_is_reproduced_is_one_that_reproduce_prints(tmp_path: Path) -> None:
    """Few calls suffice: the figures are means."""
    said = lrpc("reproduce", "--calls", "50", "--actors", "0", "--links", "memory", "--out", tmp_path / "run").out
    tables = re.split(r"\n(?=Table )", blocks(text_of(REPRODUCTION), "text")[0].strip())
    assert len(tables) == 4
    for table in tables:
        assert table in printed(said)


def test_the_page_of_what_is_reproduced_shows_what_the_office_prints(tmp_path: Path) -> None:
    said = lrpc("run", "office", "--actors", "0", "--links", "memory", "--out", tmp_path / "run").out
    assert blocks(text_of(REPRODUCTION), "text")[1].strip() == printed(said)


@pytest.mark.long
def test_the_readme_ends_its_first_command_as_reproduce_does(tmp_path: Path) -> None:
    said = lrpc("reproduce", "--actors", "0", "--links", "memory", "--out", tmp_path / "run").out
    assert blocks(text_of(README), "text")[0] in said


def test_the_limits_on_the_page_on_security_are_the_codes() -> None:
    said = dict(re.findall(r"^\| ([^|]+?) \| ([0-9][^|]*?) \|$", text_of(DOCS / "security.md"), flags=re.MULTILINE))
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "second": 1, "seconds": 1}
    found = {}
    for what, text in said.items():
        number, _, unit = text.partition(" ")
        found[what] = int(number.replace(",", "")) * units.get(unit, 1)
    limits = [
        trace_files.MOST_BYTES,
        json_rows.MOST_BYTES,
        json_rows.MOST_VALUES,
        rows.MOST_LEFT_OUT,
        rows.MOST_BEFORE_THE_FIRST,
        trace_files.MOST_FILES,
        traces.MOST_NESTED,
        records.LARGEST_RECORD,
        scenario.MOST_MACHINES,
        scenario.MOST_PARTS,
        sweep.MOST_RUNS,
        actors.MOST_ACTORS,
        transport.LARGEST_REQUEST,
        transport.CONNECTIONS,
        transport.STREAMS,
        transport.REFUSALS_A_SECOND,
    ]
    assert list(found.values())[-len(limits) :] == limits
    if HAS_HOST:
        from lrpc.kernel.host import client, kept, knocks, messages, segments, server

        quarantined = re.search(r"MOST_QUARANTINED (\d+)", (PROJECT / "kernel" / "host" / "native.c").read_text())
        assert quarantined
        assert list(found.values())[: -len(limits)] == [
            knocks.MOST_KNOCKS,
            knocks.HELLO_S,
            server.MOST_BINDINGS,
            server.MOST_BYTES,
            segments.MOST_SEGMENT,
            messages.MOST_BYTES,
            int(quarantined[1]),
            client.HELD_S,
            kept.MOST_KEPT_FOR_ONE,
            kept.MOST_KEPT,
            kept.KEPT_S,
        ]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_of_a_page_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name == "use-it.md" and not HAS_HOST:
        pytest.skip("needs the host kernel")
    monkeypatch.chdir(tmp_path)
    for one in shown.run_page(text_of(page), tmp_path):
        assert one.code == 0, f"{one.command}: {one.printed}"
        assert one.holds, f"{one.command} prints:\n{one.printed}"


def test_the_guides_and_the_first_page_show_commands() -> None:
    assert {"index.md", "split.md", "teach.md", "measure.md", "use-it.md"} <= {page.name for page in WITH_COMMANDS}


@pytest.mark.skipif(not HAS_HOST, reason="needs the host kernel")
def test_the_commands_of_the_page_on_use_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve, call, doors = re.findall(r"^\$ (lrpc (?:serve|call|doors)[^&\n]*)", text_of(DOCS / "use-it.md"), flags=re.M)
    monkeypatch.setenv("LRPC_DOORS", str(tmp_path))
    here = [sys.executable, "-c", "import lrpc_command; lrpc_command.main()", *serve.split()[1:], "--json"]
    with subprocess.Popen(here, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        told = json.loads("".join(takewhile(lambda line: line != "}\n", server.stdout)) + "}")
        assert (told["name"], told["interface"], told["pid"]) == ("adder", "Adder", server.pid)
        assert lrpc(*call.split()[1:]).out == "3\n"
        assert "adder" in lrpc(*doors.split()[1:]).out
        server.send_signal(signal.SIGINT)
    assert server.returncode == 0


def test_the_reference_of_the_command_is_what_the_commands_say() -> None:
    assert text_of(reference.PAGE) == reference.reference()


def test_every_key_of_a_file_is_on_the_page_about_files() -> None:
    tables: list[type[Document]] = [
        *(ClusterTable, scenario.MachineTable, scenario.DomainTable, scenario.ExportTable, scenario.ThreadTable),
        *(scenario.LinksTable, scenario.PairTable, ParameterTable, sweep.SweepFile, sweep.DrawsTable, sweep.EachTable),
        *(RunJob, ReplayJob, ConstraintTables, costs.CostFile, costs.StepCost, costs.Total, costs.Tlb),
        *(disciplines.MessagePassing, disciplines.TransferLock, disciplines.BufferCount),
        *(costs.Variation, costs.Retransmission),
    ]
    said = set(re.findall(r"[a-z_]+", " ".join(spans(text_of(DOCS / "files.md")))))
    missing = {(table.__name__, key) for table in tables for key in table.model_fields if key not in said}
    assert missing == set()


def test_every_key_of_a_record_and_every_column_is_on_the_page_about_records(tmp_path: Path) -> None:
    text = text_of(DOCS / "records.md")
    said = set(spans(text))
    assert {one.name for one in fields(records.Record)} - said == set()
    page = {row[1]: re.findall(r"`([^`]+)`", row[2]) for row in re.finditer(r"^\| `([\w-]+)\.csv` \| (.*)", text, re.M)}
    run = lrpc("run", "v", "--scale", 0.001, "--actors", 0, "--links", "memory", "--out", tmp_path / "run")
    (tmp_path / "trace.csv").write_text(f"{SAMPLE.read_text()}t9,no,times\n")  # a row is left out
    where = ("--machines", 2, "--actors", 0, "--links", "memory", "--out", tmp_path / "replay")
    assert (run.code, lrpc("replay", tmp_path / "trace.csv", *where).code) == (0, 0)
    found = {}
    for file in [*(tmp_path / "run").glob("*.csv"), *(tmp_path / "replay").glob("*.csv")]:
        found[file.stem] = file.read_text().splitlines()[0].split(",")
    assert page == found


def test_the_page_on_designs_shows_the_example_whole() -> None:
    text = text_of(MEASURE)
    code = (EXAMPLES / "own_classes.py").read_text()
    parts = [block for block in blocks(text, "python") if not block.startswith(">>>")]
    assert len(parts) == 4
    for block in parts:
        assert block in code
    assert (EXAMPLES / "own_classes.toml").read_text() in blocks(text, "toml")


def test_the_commands_of_the_page_on_designs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run them in the folder that the page sets up, with the record that its Python saves."""
    monkeypatch.chdir(tmp_path)
    for ending in ("py", "toml"):
        shutil.copy(EXAMPLES / f"own_classes.{ending}", f"town.{ending}")
    text = text_of(MEASURE)
    for line in "".join(blocks(text, "sh")).splitlines():
        words = line.removeprefix("lrpc ").split()
        if words[0] == "events":
            lrpc(
                "run", "town.toml", "--registry", "town.py:REGISTRY", "--actors", 0, "--out", "kept", "--events", "log"
            )
        ended = lrpc(*words)
        assert ended.code == 0, f"{line}: {ended.err}"
        assert words[0] != "verify" or ended.out.startswith("the same: 3 machines")


def test_every_definition_on_the_map_is_in_the_file_that_it_names() -> None:
    rows = [line for line in text_of(MAP).splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 50
    for row in rows:
        for phrase in row.strip("| ").partition(" | ")[2].split("; "):
            found = WHERE.fullmatch(phrase.strip())
            assert found, f"{phrase}: write `name` in [`path`](../path)"
            assert found["link"] == f"../{found['path']}"
            there = definitions(PROJECT / found["path"])
            for name in re.findall(r"`([^`]+)`", found["names"]):
                assert name in there, f"{name} is not defined in {found['path']}"


def test_every_module_and_folder_of_the_rooms_is_in_the_design() -> None:
    named = set(re.findall(r"\w+", blocks(text_of(DESIGN), "text")[0]))
    for room in ("kernel", "domains", "cluster", "workloads"):
        for path in (PROJECT / room).rglob("*.py"):
            name = path.parent.name if path.stem == "__init__" else path.stem
            assert name in named, f"docs/design.md: the rooms lack {path.relative_to(PROJECT)}"


def test_every_contract_is_in_the_design() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    for contract in project["tool"]["importlinter"]["contracts"]:
        assert f"| {contract['name']} |" in text_of(DESIGN)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = prose(text_of(page))
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name}: no file {link}"
    for span in spans(text):
        if A_PATH.fullmatch(span) and span.partition("/")[0] in {path.name for path in PROJECT.iterdir()}:
            assert (PROJECT / span).exists(), f"{page.name}: no file {span}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_class_that_a_page_names_is_defined(page: Path) -> None:
    """Check every class name, except where old names stand beside new ones."""
    for span in spans(text_of(page)):
        found = A_CLASS.fullmatch(span)
        if found and (span.startswith("lrpc.") or "." in span or re.search("[a-z][A-Z]", span)):
            assert found["name"] in defined_anywhere(), f"{page.name}: nothing is called {span}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_heading_that_a_page_links_to_is_there(page: Path) -> None:
    for link, heading in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text_of(page)):
        target = text_of(page.parent / link if link else page)
        headings = [
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()) for line in target.splitlines() if line[:1] == "#"
        ]
        assert heading in [one.replace(" ", "-") for one in headings], f"{page.name}: no heading {heading} in {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    for words in commands(text_of(page)):
        assert words[1] in command_names(), f"{page.name}: no command {words[1]}"
        for option in [word for word in words if re.fullmatch(r"--[a-z-]+", word)]:
            assert option in help_of(words[1]), f"{page.name}: {' '.join(words)}: no option {option}"


def test_the_readme_lists_every_command() -> None:
    assert {words[1] for words in commands(text_of(README))} == command_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_keeps_within_100_columns(page: Path) -> None:
    for number, line in enumerate(prose(text_of(page)).splitlines(), 1):
        assert len(line) <= 100 or line.startswith("|"), f"{page.name}, line {number}: {len(line)} columns"
