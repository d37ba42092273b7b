"""Table I's systems against results known without simulation: bounds, directions, operations."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from lrpc.cluster.description import describe
from lrpc.cluster.parameters import resolve
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.kernel.documents import read_toml, validate
from lrpc.kernel.random import Stream
from lrpc.workloads import scenarios
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.records.records import total_counts
from lrpc.workloads.reproduction.paper import TABLE_I, table_i
from lrpc.workloads.runs.jobs import RunJob
from lrpc.workloads.runs.planned import planned_calls
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.environment import kept_on_disk
from lrpc.workloads.systems.people import LibraryTable, ProcessTable
from lrpc.workloads.systems.recorded import Recorded
from lrpc.workloads.systems.recording import Recording
from tests.support.clusters import joined
from tests.support.command import refused

ENDLESS: Final = 10**8
# Each scenario's path to its people, the stream of their processes, and its block size in bytes.
PEOPLE: Final[dict[str, tuple[tuple[str | int, ...], str, int]]] = {
    "taos": (("domains", "taos", "exports", "taos", "parameters"), "user/", 4096),
    "v": (("domains", "programs", "exports", "programs", "parameters"), "user/boot", 8192),
    "sun": (("domains", "unix", "threads", 0, "parameters"), "unix/unix/0", 8192),
}


@dataclass(frozen=True)
class Ran:
    """A run, and its counts."""

    tables: Mapping[str, Any]
    outcome: Outcome

    @property
    def counts(self) -> Mapping[str, int]:
        return total_counts(self.outcome)

    @property
    def local(self) -> int:
        return self.counts["trap"] + self.counts["cross_domain"]

    @property
    def remote(self) -> int:
        return self.counts["cross_machine"]


def inside(tables: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        tables = tables[part]
    return tables


def described(name: str, scale: float, only: str | None = None, **values: Any) -> tuple[dict[str, Any], Any]:
    """Return a scenario's tables and cluster with other parameters and, by `only`, one process."""
    tables = read_toml(scenarios.find(name))
    parameters: Any = tables["parameters"]
    for key, value in values.items():
        parameters[key]["value"] = value
        if "range" in parameters[key]:
            parameters[key]["range"] = [0, 10.0**9]
    processes = inside(tables, (*PEOPLE[name][0], "processes"))
    if only is not None:
        for process in set(processes) - {only}:
            del processes[process]
    used = repr({key: table for key, table in tables.items() if key != "parameters"})
    tables["parameters"] = {key: one for key, one in parameters.items() if f"'${key}'" in used}
    resolved = resolve(tables, name, scale).tables
    return resolved, describe(validate(ClusterTable, resolved, name), REGISTRY, name)


@cache
def ran(name: str, scale: float, only: str | None = None, *, seed: int = 0, **values: Any) -> Ran:
    """Return the run of a scenario, which several tests may share."""
    tables, cluster = described(name, scale, only, **values)
    return Ran(tables, run_cluster(cluster, seed=seed, actors=0, transport="memory"))


def recorded(name: str, run: Ran, seed: int = 0) -> Recorded:
    path, thread, block_bytes = PEOPLE[name]
    people = inside(run.tables, path)
    return Recorded(people, seed=seed, machine="workstation", thread=thread, rank=1, block_bytes=block_bytes)


def kept_for_ever(people: Recorded) -> int:
    """Return the number of a server's calls when everything seen once is cached for ever."""
    calls = 0
    names: set[int] = set()
    blocks: set[tuple[int, int]] = set()
    unsent: set[tuple[int, int]] = set()
    for name, file, block in people.operations:
        if name in ("execute", "status", "open"):
            calls += file not in names
            names.add(file)
        elif name in ("read", "touch"):
            calls += (file, block) not in blocks
            blocks.add((file, block))
        elif name == "write":
            unsent.add((file, block))
            blocks.add((file, block))
        elif name == "close":
            calls += len(unsent)
            unsent.clear()
        elif name in ("create", "remove"):
            calls += 1
            blocks = {one for one in blocks if one[0] != file}
            names = names | {file} if name == "create" else names - {file}
    return calls


NOTHING: Final[dict[str, dict[str, Any]]] = {
    "sun": {"names": 0, "cache_kb": 0, "attributes_s": 0.0, "memory_kb": 2000, "kernel_kb": 2000, "data_kb": 0},
    "v": {"names": 0, "lease_s": 0.0, "memory_kb": 2000, "kernel_kb": 2000, "data_kb": 0},
}
EVERYTHING: Final[dict[str, dict[str, Any]]] = {
    "sun": {"names": ENDLESS, "cache_kb": ENDLESS, "attributes_s": 1e6, "memory_kb": 3 * ENDLESS},
    "v": {"names": ENDLESS, "lease_s": 1e6, "memory_kb": ENDLESS},
}
UNCACHED: Final = ("execute", "touch", "status", "open", "create", "read", "write", "remove")


@pytest.mark.parametrize(("name", "scale"), [("sun", 0.001), ("v", 0.02)])
def test_without_caches_every_operation_on_a_file_is_remote(name: str, scale: float) -> None:
    run = ran(name, scale, "person", **NOTHING[name])
    done = recorded(name, run)
    counts = done.counts
    # A page is sent each time and fetched each time except the first.
    paged = 2 * counts["use"] - len({page for _, _, page in done.of("use")})
    assert run.remote == sum(counts[one] for one in UNCACHED) + paged > 300


@pytest.mark.parametrize(("name", "scale"), [("sun", 0.001), ("v", 0.02)])
def test_with_endless_caches_only_what_is_new_is_remote(name: str, scale: float) -> None:
    run = ran(name, scale, "person", **EVERYTHING[name])
    assert run.remote == kept_for_ever(recorded(name, run)) > 30


def test_every_operation_of_unix_is_a_trap_and_so_is_a_fault() -> None:
    run = ran("sun", 0.001, "person", **NOTHING["sun"])
    counts = recorded("sun", run).counts
    assert (run.local, run.counts["cross_domain"]) == (sum(counts.values()), 0)


def test_an_event_of_v_is_two_messages_and_a_program_three() -> None:
    run = ran("v", 0.02, "person", **NOTHING["v"])
    counts = recorded("v", run).counts
    assert run.local == sum(counts.values()) + counts["event"] + 2 * counts["execute"]
    assert run.counts["trap"] == 0


@pytest.mark.parametrize("kilobytes", [0, 8000, ENDLESS])
def test_what_is_not_on_the_disk_of_taos_is_remote_each_time(kilobytes: int) -> None:
    """Expect every file operation without a disk; with an endless one, those on what is shared."""
    run = ran("taos", 0.02, files_kb=kilobytes, drive_kb=2 * ENDLESS)
    people = recorded("taos", run)
    library = people.library
    shared = {*library.shared.numbers, *library.mailboxes.numbers}
    disk = kept_on_disk(library, kilobytes * 1024 // 4096)

    def away(file: int) -> bool:
        if kilobytes in (0, ENDLESS):  # known without the contents of the disk
            return not kilobytes or file in shared
        return file not in disk

    remote = sum(away(file) for _, file, _ in people.of("status", "open", "create", "read", "write", "remove"))
    remote += sum(library.programs.size(file) for _, file, _ in people.of("execute") if away(file))
    assert run.remote == remote > 100
    assert run.local == sum(count for name, count in people.counts.items() if name != "touch")


def test_a_disk_holds_what_is_used_most_and_never_more_than_fits() -> None:
    library = recorded("taos", ran("taos", 0.001)).library
    kinds = (library.programs, library.shared, library.own, library.temporary)
    sizes = {files.first + at: size for files in kinds for at, size in enumerate(files.blocks)}
    smaller: set[int] = set()
    for blocks in (0, 100, 1000, 3000):
        held = kept_on_disk(library, blocks)
        assert smaller <= held
        assert sum(sizes[file] for file in held) <= blocks
        assert not any(file in held for file in range(library.shared.first, library.shared.first + len(library.shared)))
        smaller = held
    assert library.programs.first in smaller


# Parameters to halve and double, and the direction of the share as each grows.
DIRECTIONS: Final = [
    ("taos", 0.0125, "files_kb", -1),
    ("taos", 0.0125, "compile_s", -1),
    ("taos", 0.0125, "paints", -1),
    ("taos", 0.0125, "buffer_bytes", -1),
    ("v", 0.0125, "lease_s", -1),
    ("v", 0.05, "data_kb", 1),
    ("v", 0.05, "compile_s", -1),
    ("sun", 0.00125, "attributes_s", -1),
    ("sun", 0.005, "compile_s", -1),
    ("sun", 0.00125, "event_calls", -1),
    ("sun", 0.00125, "job_calls", -1),
    ("sun", 0.00125, "shared_kb", 1),
]
LONGER: Final = [(name, 4 * scale, key, sign) for name, scale, key, sign in DIRECTIONS if scale < 0.05]


@pytest.mark.parametrize(
    ("name", "scale", "key", "sign"), [*DIRECTIONS, *(pytest.param(*one, marks=pytest.mark.long) for one in LONGER)]
)
def test_halving_and_doubling_a_parameter_moves_the_share_as_structure_says(
    name: str, scale: float, key: str, sign: int
) -> None:
    parameters: Any = read_toml(scenarios.find(name))["parameters"]
    value = parameters[key]["value"]
    values: dict[str, Any] = {"drive_kb": ENDLESS} if name == "taos" else {}
    shares = []
    for one in (value / 2, value * 2):
        run = ran(name, scale, **{**values, key: type(value)(one)})
        shares.append(run.remote / run.local)
    assert sign * (shares[1] - shares[0]) > 0


@pytest.mark.parametrize(("name", "scale"), [("taos", 0.003), ("v", 0.002)])
def test_the_digest_is_the_same_wherever_machines_are(name: str, scale: float) -> None:
    _, cluster = described(name, scale)
    alone = run_cluster(cluster, seed=3, actors=0, transport="memory")
    assert alone.digest == run_cluster(cluster, seed=3, actors=0, transport="grpc").digest
    with joined(cluster, 2, seed=3) as run:
        run.run()
        assert run.digest() == alone.digest


def test_rows_stand_beside_the_papers() -> None:
    counts = {"trap": 0, "within_domain": 0, "cross_domain": 344_888, "cross_machine": 18_366}
    assert [cell.paper for cell in table_i("Taos", counts)] == [5.3, 5.06]
    assert [cell.paper for cell in table_i("V", counts)] == [None, 3.0]
    assert [cell.paper for cell in table_i("Sun UNIX+NFS", counts)] == [None, 0.6]
    for name, row in (("taos", "Taos"), ("v", "V"), ("sun", "Sun UNIX+NFS")):
        tables = read_toml(scenarios.find(name))
        assert tables["row"] == row
        parameters = resolve(tables, name).parameters
        found = {own: {cell.kind for cell in table_i(own, counts, parameters)} for own in TABLE_I}
        assert found == {own: {"fitted" if own == row == "Taos" else "predicted"} for own in TABLE_I}


def test_messages_between_v_machines_take_what_was_measured() -> None:
    """32 bytes take 2,540 us there and back, from which the network steps are solved."""
    _, cluster = described("v", 0.001)
    costs = cluster.machines[0].costs
    steps = {name: one.us for name, one in costs.file.steps.items()}
    packet = steps["network_send"] + steps["network_receive"] + 2 * 32 * steps["network_byte"]
    wire = (cluster.link.delay_ns + (32 * cluster.link.ps_per_byte + 500) // 1000) / 1000
    assert steps["remote_client"] + steps["remote_server"] + 2 * (packet + wire) == pytest.approx(2540, abs=0.1)


def changed(folder: Path, name: str, old: str, new: str) -> Path:
    text = scenarios.find(name).read_text()
    assert old in text
    path = folder / f"{name}.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "key"),
    [
        ("taos", "share = 0.53", "share = 0.63", "domains.taos.exports.taos.parameters: processes.person"),
        ("taos", 'drive_kb = "$drive_kb"', "drive_kb = 20000", "domains.taos.exports.taos.parameters.drive_kb"),
        ("taos", 'imports = { files = "files" }', 'imports = { files = "disks" }', "domains.taos.imports.files"),
        ("taos", 'imports = { files = "files" }', "", "domains.taos.exports.taos"),
        ("v", "share = 0.53", "share = 0.5", "domains.programs.exports.programs.parameters: processes.person"),
        ("v", 'kernel_kb = "$kernel_kb"', "kernel_kb = 9000", "domains.memory.exports.memory.parameters.memory_kb"),
        ("v", 'storage = "storage"', 'storage = "disk"', "domains.memory.imports.storage"),
        ("sun", 'cache_kb = "$cache_kb"', "cache_kb = 9000", "domains.unix.threads.0.parameters.memory_kb"),
        ("sun", "share = 0.53", "share = 0.5", "domains.unix.threads.0.parameters: processes.person"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line_that_names_file_and_key(
    tmp_path: Path, name: str, old: str, new: str, key: str
) -> None:
    path = changed(tmp_path, name, old, new)
    text = path.read_text()
    for unused in ("drive_kb", "kernel_kb", "cache_kb"):  # an unused parameter would be refused first
        if f'"${unused}"' not in text:
            text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{unused} = {{ value"))
    path.write_text(text)
    line = refused("run", path, "--actors", "0", "--links", "memory", "--out", tmp_path / "run")
    assert f"{path}: {key}" in line


def test_a_shipped_scenario_is_fitted_where_it_says_so() -> None:
    outcome = ran("taos", 0.002).outcome
    cells = RunJob(scenario="taos", scale=0.002).prepare([]).cells_of(outcome)
    assert {cell.kind for cell in cells} == {"fitted"}


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("taos", 0.05),
        ("v", 0.03),
        ("sun", 0.005),
        *(pytest.param(*one, marks=pytest.mark.long) for one in (("taos", 0.3), ("v", 0.1), ("sun", 0.02))),
    ],
)
def test_progress_knows_about_how_many_operations_people_will_do(name: str, scale: float) -> None:
    ready = RunJob(scenario=name, scale=scale).prepare([])
    counts = total_counts(run_cluster(ready.cluster, actors=0, transport="memory"))
    assert planned_calls(ready.cluster) == pytest.approx(counts["trap"] + counts["cross_domain"], rel=0.3)


def test_temporary_files_live_as_long_as_the_4_2bsd_study_found() -> None:
    """A quarter are removed within 30 s, half within 5 minutes, some as their number is reused."""
    people = inside(described("sun", 0.2, "builds", compile_s=30.0, hours=300.0)[0], PEOPLE["sun"][0])
    table = ProcessTable.model_validate(people["processes"]["builds"] | {"day_hours": 24.0, "awake_hours": 24.0})
    library = LibraryTable.model_validate(people["library"] | {"temporary": 20_000})
    recording = Recording()
    table.process(Dice(Stream(0, "", "")), library.library(0, 1, 8192), 8192).run(recording, table.end_ms)
    created: dict[int, int] = {}
    lives = []
    for (name, file, _), now in zip(recording.operations, recording.times, strict=True):
        if name == "create":
            created[file] = now
        elif name == "remove":
            lives.append(now - created[file])
    assert len(lives) > 3000
    shares = [sum(one <= 1000 * seconds for one in lives) / len(lives) for seconds in (30, 300)]
    # Some live longer than drawn: until the pause after the task in which their time comes.
    assert shares == [pytest.approx(0.25, abs=0.05), pytest.approx(0.5, abs=0.05)]


def test_each_user_of_a_machine_has_files_of_his_own_and_shares_its_caches() -> None:
    changes: dict[str, Any] = {"domains.unix.threads.0.parameters.processes.person.users": 3}
    cluster = RunJob(scenario="sun", scale=0.001, changes=changes).prepare([]).cluster
    outcome = run_cluster(cluster, actors=0, transport="memory")
    (tasks,) = (one["tasks"] for machine in outcome.machines for one in machine.findings.values() if "tasks" in one)
    assert isinstance(tasks, dict)
    assert [name for name in tasks if name.startswith("person")] == ["person", "person 2", "person 3"]
    table = LibraryTable(own=50)
    mine = [set(table.library(0, 1, 8192, user, 3).own.numbers) for user in range(3)]
    assert len(set.union(*mine)) == sum(map(len, mine))
    assert len({tuple(table.library(0, 1, 8192, user, 3).shared.numbers) for user in range(3)}) == 1


def test_only_others_letters_change_files_that_a_workstation_knows() -> None:
    def found(workstations: int) -> Counter[str]:
        run = ran("sun", 0.01, workstations=workstations, event_calls=0.0, poll_calls=0.0, job_calls=0.0)
        return sum((Counter(one) for one in sums(run.outcome)), Counter())

    alone, together = found(1), found(3)
    opened = recorded("sun", ran("sun", 0.01, workstations=1, event_calls=0.0, poll_calls=0.0, job_calls=0.0))
    assert alone["opens"] == opened.counts["open"] + opened.counts["create"]
    assert alone["changed_by_others"] == 0 < together["changed_by_others"] < together["opens"] / 10


def sums(outcome: Outcome) -> list[dict[str, int]]:
    """Return the numbers that the workstations of `sun` found."""
    every = (one for machine in outcome.machines for one in machine.findings.values() if "opens" in one)
    return [{name: count for name, count in one.items() if isinstance(count, int)} for one in every]


def test_what_is_drawn_on_taos_is_drawn_by_as_many_procedures_as_the_survey_saw() -> None:
    machine = next(one for one in ran("taos", 0.05).outcome.machines if one.name == "workstation")
    calls = [(one.count, route.procedure) for route, one in machine.latencies.items() if route.export == "taos"]
    drawn = sorted((count for count, procedure in calls if procedure.startswith("draw_") and count), reverse=True)
    assert 60 < len(drawn) <= 103
    # 1 / n ** 2: the first is called four times as often as the second, and 0.61 of all.
    assert drawn[0] / drawn[1] == pytest.approx(4, rel=0.1)
    assert drawn[0] / sum(drawn) == pytest.approx(0.61, abs=0.02)
