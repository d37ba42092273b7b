"""A timeline has every call of a run, step by step, and changes nothing of it."""

import io
import json
import os
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig

from lrpc.cluster.description import Cluster
from lrpc.domains.simulated.timeline import TimelineBounds
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.workloads.records import folders
from lrpc.workloads.records.nesting import Slices
from lrpc.workloads.records.perfetto import PerfettoWriter
from lrpc.workloads.records.records import COUNTS, total_counts
from lrpc.workloads.records.timeline import FILE
from tests.support.clusters import bank, cluster, digest
from tests.support.command import HERE, lrpc, office, record, refused
from tests.support.places import SAMPLE
from tests.support.timelines import ReadTimeline, Slice, decoded, ran, read

PROCESSOR = "TRACE_PROCESSOR"
ONE_MACHINE = """
name = "alone"

[machines.here]
cost_model = "cvax-firefly"
processors = {processors}
domain_caching = {caching}

[domains.windows]
machine = "here"
exports.windows = {{ server = "window server" }}

[domains.names]
machine = "here"
exports.names = {{ server = "name server" }}

[domains.files]
machine = "here"
exports.files = {{ server = "file server", parameters = {{ buffers = 2000 }} }}

[domains.user]
machine = "here"
imports = {{ names = "names", windows = "windows", files = "files" }}
threads = [{{ program = "office user", parameters = {{ actions = 60 }} }}]
"""

COPIES = """
name = "copies"

[machines.here]
cost_model = "cvax-firefly"

[domains.server]
machine = "here"
exports.tests = {{ server = "copies" }}

[domains.client]
machine = "here"
imports = {{ tests = "tests" }}
threads = [{{ program = "copies", parameters = {{ transfer = "{transfer}" }} }}]
"""


def alone(folder: Path, processors: int = 1, caching: bool = False) -> Path:
    """Write a scenario of one machine, and return its file."""
    path = folder / "alone.toml"
    path.write_text(ONE_MACHINE.format(processors=processors, caching=str(caching).lower()))
    return path


def assert_counts(found: ReadTimeline, counts: dict[str, int]) -> None:
    """Check that calls and arrows are those that a record counts."""
    assert {name: found.counted[name] for name in COUNTS} == {name: counts[name] for name in COUNTS}
    flows = found.flows()
    crossing = counts["cross_domain"] + counts["cross_machine"]
    assert found.counted["procedure"] == crossing
    assert len(flows) == 2 * crossing
    for begins, ends in flows:
        assert begins.end <= ends.begin or ends.category == "procedure"


@pytest.mark.parametrize(("processors", "caching"), [(1, False), (2, True)])
def test_one_machine_has_the_calls_of_its_record(processors: int, caching: bool, tmp_path: Path) -> None:
    ended = lrpc("run", alone(tmp_path, processors, caching), *HERE, "--out", tmp_path / "run", "--timeline")
    assert ended.code == 0
    assert f"timeline {tmp_path / 'run' / FILE}: " in ended.out
    found = read(tmp_path / "run" / FILE)
    assert_counts(found, record(tmp_path / "run")["counts"])
    assert {one.process for one in found.slices} == {"here"}
    assert {one.track for one in found.of("processor")} == {f"processor {number}" for number in range(processors)}
    tracks = {one.track for one in found.slices if one.category not in ("processor", "step")}
    # The user's thread may have the same track in a server's domain that the clerk had before.
    where = {track.removeprefix("user/0 in ").removesuffix(", 1") for track in tracks if "clerk" not in track}
    assert where == {"user", "names", "windows", "files"}


@pytest.mark.parametrize("transfer", ["lrpc", "message passing"])
def test_procedures_whose_arguments_are_copied_to_the_servers_stack_are_in_it_too(
    transfer: str, tmp_path: Path
) -> None:
    path = tmp_path / "copies.toml"
    path.write_text(COPIES.format(transfer=transfer))
    lrpc("run", path, *HERE, "--out", tmp_path / "run", "--timeline")
    counts = record(tmp_path / "run")["counts"]
    assert counts["cross_domain"] == 3
    assert_counts(read(tmp_path / "run" / FILE), counts)


def test_a_replay_has_the_calls_of_its_record(tmp_path: Path) -> None:
    lrpc("replay", SAMPLE, "--machines", 2, *HERE, "--out", tmp_path / "run", "--timeline")
    counts = record(tmp_path / "run")["counts"]
    assert min(counts[name] for name in COUNTS if name != "trap") > 0
    assert_counts(read(tmp_path / "run" / FILE), counts)


@pytest.mark.skipif(not os.environ.get(PROCESSOR), reason=f"{PROCESSOR} names no binary of Perfetto's trace processor")
def test_perfettos_trace_processor_finds_the_calls_of_the_record(tmp_path: Path) -> None:
    lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run", "--timeline")
    found, counts = read(tmp_path / "run" / FILE), record(tmp_path / "run")["counts"]
    config = TraceProcessorConfig(bin_path=os.environ[PROCESSOR])
    with TraceProcessor(trace=str(tmp_path / "run" / FILE), config=config) as processor:
        rows = list(
            processor.query("select category, count(*) as times, min(dur) as least from slice group by category")
        )
        flows = list(processor.query("select count(*) as times from flow"))
        errors = list(processor.query("select name from stats where severity != 'info' and value > 0"))
    assert {row.category: row.times for row in rows} == found.counted + Counter(one.category for one in found.instants)
    assert {name: row.times for row in rows if (name := row.category) in COUNTS} == {
        name: counts[name] for name in COUNTS if counts[name]
    }
    assert min(row.least for row in rows) >= 0  # every slice ends
    assert [row.times for row in flows] == [2 * (counts["cross_domain"] + counts["cross_machine"])]
    assert [row.name for row in errors] == []


def test_the_time_of_a_call_is_that_of_its_steps_and_its_procedure(tmp_path: Path) -> None:
    """One processor and one thread: nothing is waited for."""
    lrpc("run", alone(tmp_path), *HERE, "--out", tmp_path / "run", "--timeline")
    found = read(tmp_path / "run" / FILE)
    inner = sorted((one.begin, one.end) for one in (*found.of("step"), *found.of("procedure")))
    for call in found.of("cross_domain"):
        reached = call.begin
        for begin, end in (one for one in inner if call.begin <= one[0] and one[1] <= call.end):
            assert begin <= reached
            reached = max(reached, end)
        assert reached == call.end


def test_it_changes_nothing_of_the_run_and_is_the_same_however_that_is_carried_out(tmp_path: Path) -> None:
    file = office(tmp_path)
    lrpc("run", file, *HERE, "--out", tmp_path / "without")
    lrpc("run", file, *HERE, "--out", tmp_path / "here", "--timeline")
    lrpc("run", file, "--actors", 0, "--out", tmp_path / "grpc", "--timeline")
    assert record(tmp_path / "without")["digest"] == record(tmp_path / "here")["digest"]
    assert not (tmp_path / "without" / FILE).exists()
    assert (tmp_path / "here" / FILE).read_bytes() == (tmp_path / "grpc" / FILE).read_bytes()


@pytest.mark.ray
class TestOnRay:
    def test_an_office_over_two_actors_has_the_calls_of_its_record(self, tmp_path: Path) -> None:
        file = office(tmp_path)
        assert lrpc("run", file, "--actors", 2, "--out", tmp_path / "there", "--timeline").code == 0
        assert_counts(read(tmp_path / "there" / FILE), record(tmp_path / "there")["counts"])
        lrpc("run", file, *HERE, "--out", tmp_path / "here", "--timeline")
        assert (tmp_path / "there" / FILE).read_bytes() == (tmp_path / "here" / FILE).read_bytes()


@pytest.fixture(scope="module")
def described() -> Cluster:
    """Return a cluster with contention, messages, callers that are released, and raising."""
    return cluster(bank())


@pytest.fixture(scope="module")
def whole(described: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ReadTimeline:
    """Return the timeline of all of it."""
    outcome, found = ran(described, tmp_path_factory.mktemp("whole"))
    assert outcome.digest == digest(described)
    counts = total_counts(outcome)
    assert {name: found.counted[name] for name in COUNTS} == {name: counts[name] for name in COUNTS}
    return found


def test_arrows_lead_from_calls_to_their_procedures_and_back(whole: ReadTimeline) -> None:
    names = defaultdict(set)
    for begins, ends in whole.flows():
        assert ends.begin >= begins.begin
        names[begins.name].add(ends.category if ends.category == "procedure" else ends.name)
    assert names == {"leaves": {"procedure"}, "returns": {"is back"}}
    far = [(begins, ends) for begins, ends in whole.flows() if begins.process != ends.process]
    assert len(far) > len(whole.of("cross_machine"))


@pytest.mark.parametrize("seed", [1, 2])
def test_calls_that_are_lost_and_sent_again_are_one_call(seed: int, tmp_path: Path) -> None:
    tables = bank()
    tables["links"] = {"delay_us": 60.0, "loss": 0.1}
    outcome, found = ran(cluster(tables), tmp_path, seed=seed)
    counts = total_counts(outcome)
    assert counts["calls_retransmitted"] > 10
    assert {name: found.counted[name] for name in COUNTS} == {name: counts[name] for name in COUNTS}
    assert len(found.flows()) > 2 * counts["cross_machine"]


def test_a_window_holds_what_begins_in_it(described: Cluster, whole: ReadTimeline, tmp_path: Path) -> None:
    times = sorted(one.begin for one in whole.of("cross_domain"))
    begins, ends = times[len(times) // 3], times[2 * len(times) // 3]
    _, found = ran(described, tmp_path, TimelineBounds(begins, ends, 1_000_000))
    assert found.flows()
    assert all(begins <= one.begin <= one.end <= ends for one in (*found.slices, *found.instants))
    kinds = ("procedure", *COUNTS)
    within = sorted(_told(one, ends) for one in whole.slices if one.category in kinds and begins <= one.begin < ends)
    assert sorted(_told(one, ends) for one in found.slices if one.category in kinds) == within


@pytest.mark.parametrize("most", [1, 7, 100, 1000, 5000])
def test_one_that_is_cut_lacks_nothing_until_its_end(
    most: int, described: Cluster, whole: ReadTimeline, tmp_path: Path
) -> None:
    _, found = ran(described, tmp_path, TimelineBounds(0, FOREVER, most))
    assert len(found.slices) <= most + 40 * len(described.machines)
    found.flows()
    ends = max((one.end for one in found.slices), default=0)
    kept = [_told(one, ends) for one in found.slices if one.category != "processor"]
    there = [_told(one, ends) for one in whole.slices if one.category != "processor" and one.begin < ends]
    assert sorted(kept) == sorted(there)


def _told(one: Slice, ends: int) -> tuple[str, str, str, int, int]:
    return one.process, one.category, one.name, one.begin, min(one.end, ends)


@given(
    slices=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(-3, 3)), max_size=20),
    instants=st.lists(st.integers(0, 18), max_size=5),
)
def test_slices_that_cross_the_ends_of_others_go_to_tracks_beside(
    slices: list[tuple[int, int, int]], instants: list[int]
) -> None:
    """An end is that of the last slice that began: `decoded` would find others if they crossed."""
    file = io.BytesIO()
    writer = PerfettoWriter(file)
    left = Slices()
    for at, (begin, lasts, flow) in enumerate(slices):
        left.add(begin, begin + lasts, writer.name("slice", str(at)), flow)
    for time in instants:
        left.add_instant(time, writer.name("instant", str(time)), 0)
    writer.process(1, 1, "machine")
    uuid = 1
    while uuid == 1 or len(left):
        uuid += 1
        writer.thread(uuid, 1, uuid, str(uuid))
        left = left.write(writer, uuid)
    writer.flush()
    found = decoded(file.getvalue())
    assert {int(one.name): (one.begin, one.end, _flow(one)) for one in found.slices} == {
        at: (begin, begin + lasts, flow) for at, (begin, lasts, flow) in enumerate(slices)
    }
    assert sorted((int(one.name), one.begin) for one in found.instants) == sorted((time, time) for time in instants)


def _flow(one: Slice) -> int:
    return sum(one.begins) - sum(one.ends)


@pytest.mark.parametrize("order", [1, -1])
def test_slices_that_nest_share_a_track_in_whatever_order_they_come(order: int) -> None:
    file = io.BytesIO()
    writer = PerfettoWriter(file)
    slices = Slices()
    for begin, end in [(0, 2), (2, 4), (0, 4), (0, 4), (4, 4), (4, 6), (5, 6), (0, 6)][::order]:
        slices.add(begin, end, writer.name("slice", f"{begin} to {end}"))
    writer.process(1, 1, "machine")
    writer.thread(2, 1, 2, "thread")
    assert len(slices.write(writer, 2)) == 0
    writer.flush()
    depths = {one.name: one.depth for one in decoded(file.getvalue()).slices}
    assert (depths["0 to 6"], depths["5 to 6"], depths["2 to 4"]) == (0, 2, 3)


def test_one_that_is_cut_says_so(tmp_path: Path) -> None:
    ended = lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run", "--timeline", "--timeline-slices", 500)
    assert ended.code == 0
    assert ended.line.startswith("note: the timeline ends at ")
    told = lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "told", "--timeline", "--json")
    found = json.loads(told.out)["timeline"]
    assert (found["file"], found["cut"]) == (FILE, False)
    assert found["slices"] == len(read(tmp_path / "told" / FILE).slices)


def test_a_run_that_is_stopped_keeps_its_timeline_until_then(tmp_path: Path) -> None:
    path = office(tmp_path)
    ended = lrpc("run", path, *HERE, "--out", tmp_path / "run", "--timeline", "--max-calls", 50)
    assert ended.code == 3
    note, stopped = ended.err.splitlines()
    assert note.startswith(f"note: the timeline until then is {tmp_path / 'run' / FILE}: ")
    assert "stopped after " in stopped
    counts = json.loads((tmp_path / "run" / "record.json").read_text())["counts"]
    found = read(tmp_path / "run" / FILE)
    assert len(found.of("cross_domain")) == counts["cross_domain"] > 0
    whole = lrpc("run", path, *HERE, "--out", tmp_path / "whole", "--timeline")
    assert whole.code == 0
    # What a track is called depends on who else has it later.
    begun = {(one.process, one.name, one.begin) for one in found.slices}
    assert begun <= {(one.process, one.name, one.begin) for one in read(tmp_path / "whole" / FILE).slices}


def test_temporary_folders_of_killed_runs_are_removed_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, young = tmp_path / "lrpc-timeline-left", tmp_path / "lrpc-timeline-young"
    for folder in (left, young):
        folder.mkdir()
    os.utime(left, (0, 0))
    with folders.scratch("lrpc-timeline-") as held:
        os.utime(held, (0, 0))
        assert not left.exists()
        with folders.scratch("lrpc-timeline-"):
            assert held.exists()
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--timeline-from", 5), "--timeline-from 5: it bounds a timeline; add --timeline"),
        (("--timeline", "--timeline-from", 10, "--timeline-to", 5), "--timeline-to 5: the timeline begins at 10; "),
        (("--timeline", "--timeline-to", 0), "--timeline-to 0: the timeline begins at 0; give a later time"),
        (("--timeline", "--timeline-from", -1), "--timeline-from -1: give 0 or more microseconds"),
        (("--timeline", "--timeline-to", "nan"), "--timeline-to nan: give 0 or more microseconds"),
        (("--timeline", "--timeline-from", "1e300"), "--timeline-from 1e+300: give 0 or more microseconds"),
        (("--timeline", "--timeline-slices", 0), "--timeline-slices 0: give 1 to 5,000,000"),
        (("--timeline", "--timeline-to", "soon"), "Invalid value for '--timeline-to'"),
    ],
)
def test_bounds_that_cannot_be_are_refused(options: tuple[object, ...], why: str, tmp_path: Path) -> None:
    assert refused("run", office(tmp_path), *HERE, "--out", tmp_path / "run", *options).startswith(f"lrpc: {why}")
    assert refused("replay", SAMPLE, "--machines", 2, *HERE, "--out", tmp_path / "run", *options).startswith(
        f"lrpc: {why}"
    )
    assert not (tmp_path / "run").exists()
