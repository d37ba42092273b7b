"""Reports are made of records alone: a self-contained page, Markdown, and a CSV of every table."""

import csv
import re
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from lrpc.workloads.records import tables
from lrpc.workloads.reports import page
from lrpc.workloads.reports.sections import Section, flatten
from lrpc.workloads.reports.words import readable
from lrpc.workloads.runs import execute
from tests.support.command import HERE, change, lrpc, names, record, refused

HOSTILE = "</script><img src=x onerror=alert(1)>|\n`*_[a](javascript:b)\"'&"
SAMPLE = Path(__file__).parents[3] / "workloads" / "traces" / "sample-trace.csv"
TAGS = {"html", "head", "meta", "title", "style", "script", "body", "h1", "h2", "h3", "nav", "a", "p", "div", "table"}
TAGS |= {
    "tr",
    "th",
    "td",
    "thead",
    "tbody",
    "details",
    "summary",
    "button",
    "input",
    "pre",
    "main",
    "section",
    "ul",
    "li",
}
TAGS |= {"i", "span"}
LINK = re.compile(r"#[a-z0-9-]{1,70}|[a-z0-9-]{1,70}\.csv")


@dataclass
class Seen(HTMLParser):
    """The tags, texts and links that a browser finds on a page."""

    tags: list[str] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    text: str = ""
    scripts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.lasttag == "script" and self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.text += data


def seen(folder: Path) -> Seen:
    found = Seen()
    found.feed((folder / "report.html").read_text(encoding="utf-8"))
    return found


def markdown(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8")


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


# One record


def test_the_report_of_one_record_stands_in_its_folder(one: Path) -> None:
    ended = lrpc("report", one)
    assert (ended.code, ended.out, ended.err) == (0, f"report {one / 'report' / 'report.html'}\n", "")
    assert {"report.html", "report.md", "calls.csv", "latencies.csv", "machines.csv"} <= set(names(one / "report"))
    assert names(one.parent) == ["one"]


def test_the_record_itself_names_its_folder_as_well(one: Path, tmp_path: Path) -> None:
    assert lrpc("report", one / "record.json", "--out", tmp_path / "a" / "b").code == 0
    assert lrpc("report", one, "--out", tmp_path / "c").code == 0
    for name in names(tmp_path / "c"):
        assert (tmp_path / "a" / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_nothing_is_run_and_the_record_stays_as_it_is(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object, **options: object) -> None:
        raise AssertionError("a report runs nothing")

    monkeypatch.setattr(execute, "run_cluster", run)
    monkeypatch.setattr(execute, "execute", run)
    before = {name: (one / name).read_bytes() for name in names(one)}
    assert lrpc("report", one).code == 0
    assert {name: (one / name).read_bytes() for name in before} == before


def test_the_page_needs_nothing_from_elsewhere(one: Path) -> None:
    assert lrpc("report", one).code == 0
    found = seen(one / "report")
    assert set(found.tags) <= TAGS
    assert all(LINK.fullmatch(link) for link in found.links)
    assert {link for link in found.links if link.endswith(".csv")} == {
        name for name in names(one / "report") if name.endswith(".csv")
    }
    libraries = [script for script in found.scripts if len(script) > 1_000_000]
    assert len(libraries) == 1  # once for all plots
    assert sum(script.startswith('{"data"') for script in found.scripts) == 5


def test_both_say_what_was_run_and_what_came_of_it(one: Path) -> None:
    assert lrpc("report", one).code == 0
    found = record(one)
    for text in (seen(one / "report").text, markdown(one / "report").replace("\\", "")):
        for said in (found["digest"], " ".join(found["command"]), found["versions"]["ray"], "calls per wall second"):
            assert said in text
        for heading in ("What was run", "Beside the paper", "Calls", "Procedures", "Processors", "Synchronisation"):
            assert heading in text
        assert "INCOMPLETE" not in text


def test_matrices_add_up_to_the_calls_of_the_record(one: Path) -> None:
    assert lrpc("report", one).code == 0
    counts = record(one)["counts"]
    (head, *body) = rows(one / "report" / "machines-calls.csv")
    assert head == ["caller", "fileserver", "workstation1", "workstation2"]
    between = {(row[0], called): int(count) for row in body for called, count in zip(head[1:], row[1:], strict=True)}
    assert sum(count for (caller, called), count in between.items() if caller != called) == counts["cross_machine"]
    assert sum(count for (caller, called), count in between.items() if caller == called) == counts["cross_domain"]
    (head, *body) = rows(one / "report" / "domains-calls.csv")
    assert sum(int(count) for row in body for count in row[1:]) == counts["cross_machine"] + counts["cross_domain"]


def test_of_many_machines_the_busiest_are_shown_and_the_others_together(one: Path) -> None:
    def many(found: dict[str, Any]) -> None:
        (call, *_) = found["calls"]
        machine = found["machines"]["workstation1"]
        found["calls"] = [call | {"client_machine": f"m{at:03}", "calls": at} for at in range(1, 101)]
        found["machines"] = {f"m{at:03}": machine for at in range(1, 101)}

    assert lrpc("report", change(one, many)).code == 0
    (head, *body) = rows(one / "report" / "machines-calls.csv")
    assert (len(head), len(body), head[-1]) == (42, 41, "(others)")
    assert sum(int(count) for row in body for count in row[1:]) == 5050
    assert len(rows(one / "report" / "machines.csv")) == 101
    assert "and 40 more rows in machines.csv" in markdown(one / "report")
    assert (one / "report" / "report.html").stat().st_size < 2_500_000  # of which the plotting script is 1.9 MB


def of_tables(*rows: int) -> tuple[str, str]:
    """Return the page and the Markdown of a report with tables of so many rows."""
    found = [
        tables.Table(f"t{at}", f"Table {at}", ("name", "calls"), [(f"name-{one}é", one) for one in range(count)])
        for at, count in enumerate(rows)
    ]
    made = page.Report("many rows", [], [Section("Tables", found)])
    return "".join(page.as_html(made)), "".join(page.as_markdown(made))


def test_the_page_has_rows_to_search_that_markdown_leaves_to_the_file() -> None:
    html, text = of_tables(200)
    assert html.count("<tr>") == 201
    assert ">name-199é</th>" in html
    assert "more rows" not in html
    assert "and 140 more rows in t0.csv" in text
    assert "name-199é" not in text


@pytest.mark.parametrize("rows", [(30_000,), (30_000,) * 40])
def test_a_page_is_bounded_however_many_rows_there_are(rows: tuple[int, ...]) -> None:
    html, _ = of_tables(*rows)
    assert len(html.encode()) < 3_000_000
    parts = html.split("<table>")[1:]
    assert len(parts) == len(rows)
    for part in parts:
        shown = part.count("<tr>") - 1
        assert 60 <= shown <= 10_000
        assert f"and {30_000 - shown:,} more rows in " in part


def test_whatever_stands_under_synchronisation_is_shown(one: Path) -> None:
    added = {"bytes": 123_456, "rounds_per_remote_call": 1.25, "waits": {"share": 0.5, "of": [{"wall_s": 2.5}]}}
    assert lrpc("report", change(one, lambda found: found["synchronisation"].update(added))).code == 0
    text = markdown(one / "report")
    for line in ("| bytes | 123,456 |", "| rounds per remote call | 1.25 |", "| waits: of: 1: wall, s | 2.50 |"):
        assert line in text


def test_what_is_nested_is_spelt_out() -> None:
    assert flatten({"a": {"b": 1}, "c": [1, 2], "d": [{"e": None}], "f": True, "g": {}}) == [
        ("a: b", 1),
        ("c", "1 2"),
        ("d: 1: e", None),
        ("f", "yes"),
    ]
    assert readable("lock_wait_us") == "lock wait, µs"


def test_a_record_from_before_callers_were_told_apart_says_so(one: Path) -> None:
    def older(found: dict[str, Any]) -> None:
        del found["calls"], found["latency_ns"]

    assert lrpc("report", change(one, older)).code == 0
    assert "This record does not say who called what." in markdown(one / "report")


def test_a_record_without_calls_has_a_page_too(one: Path) -> None:
    def silent(found: dict[str, Any]) -> None:
        found.update(calls=[], latency_ns={}, latency_us={}, counts={}, machines={}, wall_s=0.0, virtual_us=0.0)

    assert lrpc("report", change(one, silent)).code == 0
    drawn = [script for script in seen(one / "report").scripts if script.startswith('{"data"')]
    assert drawn == []
    assert "NaN" not in seen(one / "report").text


def test_figures_of_the_paper_are_drawn(tmp_path: Path) -> None:
    run = ("reproduce", "--calls", 10, "--only", "Figure 1", "--only", "Figure 2")
    assert lrpc(*run, *HERE, "--out", tmp_path / "run").code == 0
    assert lrpc("report", tmp_path / "run", "--force").code == 0
    assert rows(tmp_path / "run" / "report" / "figure-2-curves.csv")[0] == ["curve", "processors", "calls per second"]
    drawn = [script for script in seen(tmp_path / "run" / "report").scripts if len(script) < 1_000_000]
    assert any("LRPC, the paper" in script for script in drawn)
    assert "SRC RPC, ours, 2" in markdown(tmp_path / "run" / "report")


# A record that is not whole


def test_an_incomplete_record_is_shown_as_such_first(made: Path, tmp_path: Path) -> None:
    assert lrpc("report", made / "failed", "--out", tmp_path / "out").code == 0
    body = (tmp_path / "out" / "report.html").read_text().partition("<main>\n")[2]
    assert body.startswith('<p class="warning">INCOMPLETE: this run did not complete: ')
    assert "BindingRefused" in body.splitlines()[0]
    assert markdown(tmp_path / "out").startswith("> **INCOMPLETE: this run did not complete")
    assert "(incomplete)" in body
    assert "Beside the paper" not in body


# Several records


def test_several_are_compared(made: Path, tmp_path: Path) -> None:
    assert lrpc("report", made / "one", made / "two", made / "more", "--out", tmp_path / "out").code == 0
    head, *body = rows(tmp_path / "out" / "comparison.csv")
    assert [row[head.index("machines")] for row in body] == ["3", "3", "5"]
    assert [row[head.index("digest")] for row in body] == ["D1", "D2", "D3"]
    assert "There are 3 different digests" in markdown(tmp_path / "out")
    head, *body = rows(tmp_path / "out" / "comparison-calls.csv")
    for row, name in zip(body, ("one", "two", "more"), strict=True):
        found = record(made / name)
        assert row[0] == str(made / name)
        assert int(row[head.index("cross_machine")]) == found["counts"]["cross_machine"]
        assert sum(float(row[head.index(f"{crosses}_share_of_all_calls")]) for crosses in head[2:5]) == pytest.approx(1)
    head, *body = rows(tmp_path / "out" / "scaling-machines.csv")
    assert [row[:2] for row in body] == [["office, no actors", "3"]] * 2 + [["office, no actors", "5"]]
    assert not (tmp_path / "out" / "scaling-actors.csv").exists()
    assert "Wall time of a call over machines" in seen(tmp_path / "out").text


def test_records_that_differ_in_actors_are_plotted_over_them(made: Path, tmp_path: Path) -> None:
    for actors in (1, 2):
        other = copytree(made / "one", tmp_path / f"actors{actors}")
        change(other, partial(dict.update, actors=actors))
    assert lrpc("report", tmp_path / "actors2", tmp_path / "actors1", "--out", tmp_path / "out").code == 0
    _, *body = rows(tmp_path / "out" / "scaling-actors.csv")
    assert [row[:2] for row in body] == [["office, 3 machines", "1"], ["office, 3 machines", "2"]]
    assert not (tmp_path / "out" / "scaling-machines.csv").exists()


def test_equal_digests_are_said_to_be_equal(made: Path, tmp_path: Path) -> None:
    assert lrpc("report", made / "one", made / "again", "--out", tmp_path / "out").code == 0
    assert "All digests are equal" in markdown(tmp_path / "out")


def test_an_incomplete_one_among_several_is_no_result(made: Path, tmp_path: Path) -> None:
    assert lrpc("report", made / "one", made / "failed", "--out", tmp_path / "out").code == 0
    assert markdown(tmp_path / "out").startswith("> **")
    assert "failed: INCOMPLETE" in seen(tmp_path / "out").text
    assert len(rows(tmp_path / "out" / "comparison-calls.csv")) == 2
    assert "All digests are equal" not in markdown(tmp_path / "out")


def test_without_out_several_have_a_fresh_folder_under_records(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lrpc("report", made / "one", made / "two").code == 0
    (folder,) = (tmp_path / "records").iterdir()
    assert folder.name.startswith("report-")
    assert (folder / "report.html").is_file()


# Hostile records


def hostile(found: dict[str, Any]) -> None:
    """Replace every name and text of a record by hostile text."""
    cell = {"table": HOSTILE, "row": HOSTILE, "column": HOSTILE, "paper": HOSTILE, "ours": HOSTILE, "unit": HOSTILE}
    found.update(workload=HOSTILE, command=[HOSTILE], reason=HOSTILE, digest=HOSTILE, links=HOSTILE)
    found.update(job={HOSTILE: HOSTILE}, inputs=[{"argument": HOSTILE, "path": HOSTILE, "digest": HOSTILE}])
    found.update(settings={HOSTILE: {HOSTILE: [HOSTILE]}}, versions={HOSTILE: HOSTILE})
    found.update(cells=[cell | {"kind": "input"}], trace={"summary": {HOSTILE: 1}, "left_out": [HOSTILE]})
    for name in ("counts", "bytes", "copies", "charges", "synchronisation"):
        found[name][HOSTILE] = 1
    for name in ("latency_us", "latency_ns", "machines"):
        found[name] = {HOSTILE + key: value for key, value in found[name].items()}
    texts = ("client_machine", "client_domain", "server_machine", "server_domain", "export", "procedure")
    found["calls"] = [row | {name: HOSTILE + row[name] for name in texts} for row in found["calls"]]


def innocent(folder: Path) -> None:
    found = seen(folder)
    assert set(found.tags) <= TAGS
    assert not {name for name in found.attributes if name.startswith("on")}
    assert all(LINK.fullmatch(link) for link in found.links)
    assert HOSTILE in found.text
    page_text = (folder / "report.html").read_text()
    assert "<img" not in "".join(script for script in found.scripts if len(script) < 1_000_000)
    assert page_text.count("</script") == len([tag for tag in found.tags if tag == "script"])
    text = markdown(folder)
    assert not re.search(r"^(?!    ).*(?<!\\)[<`\[]", text, re.MULTILINE)  # except bars, which are indented
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 2


def test_names_and_texts_of_a_record_are_shown_as_they_are(one: Path) -> None:
    assert lrpc("report", change(one, hostile)).code == 0
    innocent(one / "report")


def test_so_they_are_where_records_are_compared(one: Path, made: Path, tmp_path: Path) -> None:
    assert lrpc("report", change(one, hostile), made / "more", "--out", tmp_path / "out").code == 0
    innocent(tmp_path / "out")


def test_so_they_are_where_placements_are_compared(tmp_path: Path) -> None:
    def also(found: dict[str, Any]) -> None:
        read, trace = found["inputs"], found["trace"]
        hostile(found)
        for table in trace["more"]:
            table["rows"] = [[HOSTILE + one if isinstance(one, str) else one for one in row] for row in table["rows"]]
            table["title"] = HOSTILE
        for part in trace["times"]:
            part["part"] += HOSTILE
        found.update(inputs=read, trace=trace)

    for name in ("spread", "pack"):
        run = ("replay", SAMPLE, "--machines", 2, "--placement", name, *HERE, "--out", tmp_path / name)
        assert lrpc(*run).code == 0
        assert lrpc("report", change(tmp_path / name, also)).code == 0
        innocent(tmp_path / name / "report")
    assert lrpc("report", tmp_path / "spread", tmp_path / "pack", "--out", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "moved.csv").exists()
    innocent(tmp_path / "out")


def test_numbers_that_are_none_do_no_harm(one: Path) -> None:
    def wild(found: dict[str, Any]) -> None:
        found["wall_s"], found["virtual_us"] = float("nan"), float("inf")
        for latency in found["latency_us"].values():
            latency.update(count=float("inf"), p50=float("nan"))
        for machine in found["machines"].values():
            machine.update(busy_us=float("nan"), end_us=0.0)

    ended = lrpc("report", change(one, wild))
    assert ended.code == 0, ended


def test_files_of_tables_never_share_a_name(one: Path) -> None:
    def twins(found: dict[str, Any]) -> None:
        (cell, *_) = found["cells"]
        found["cells"] = [cell | {"table": name} for name in ("I", "i", "../I", "I" * 300, "")]

    assert lrpc("report", change(one, twins)).code == 0
    found = [name for name in names(one / "report") if name.startswith("cells")]
    assert len(found) == 5
    assert all(re.fullmatch(r"[a-z0-9-]{1,70}\.csv", name) for name in found)


# Refusals


def test_a_report_stays_unless_it_is_replaced_with_force(one: Path) -> None:
    assert lrpc("report", one).code == 0
    (one / "report" / "report.md").write_text("mine")
    assert "exists already" in refused("report", one)
    assert markdown(one / "report") == "mine"
    assert lrpc("report", one, "--force").code == 0
    assert markdown(one / "report").startswith("# office")
    assert names(one.parent) == ["one"]


def test_force_replaces_nothing_but_a_report(one: Path, tmp_path: Path) -> None:
    assert "is not a report" in refused("report", one, "--out", one, "--force")
    assert lrpc("report", one, "--out", tmp_path / "out").code == 0
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert "is not a report" in refused("report", one, "--out", tmp_path / "out", "--force")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_report_that_cannot_be_written_any_more_fails(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write_csv", full)
    ended = lrpc("report", one)
    assert (ended.code, "the report cannot be written: No space left on device" in ended.line) == (3, True)
    assert "report" not in names(one)
