"""A run's digest is the same however the run is carried out, and changes with any event."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from lrpc.cluster.description import Cluster, read_cluster
from lrpc.cluster.run import digest_of, run_cluster
from lrpc.kernel.simulated.costs import COST_MODELS, load_cost_model
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.runs.jobs import RunJob
from tests.support.clusters import bank, cluster, digest, in_memory, joined, pair
from tests.support.command import office
from tests.support.places import PROJECT

FIREFLY = (COST_MODELS / "cvax-firefly.toml").read_text()


def with_cost(folder: Path, step: str, us: float) -> str:
    """Return the Firefly's cost model with one cost changed."""
    steps = FIREFLY[FIREFLY.index("[steps]") :]  # others name the step too
    old = next(line for line in steps.splitlines() if line.startswith(f"{step} = "))
    before = load_cost_model("cvax-firefly").file.steps[step].us
    path = folder / f"{step}.toml"
    path.write_text(FIREFLY.replace(old, old.replace(f"us = {before}", f"us = {us}", 1)))
    return str(path)


@pytest.fixture(scope="module", params=["bank", "office"])
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    if request.param == "bank":
        return cluster(bank())
    return read_cluster(office(tmp_path_factory.mktemp("office"), actions=40), REGISTRY)


def test_the_scenario_has_calls_of_every_kind_and_contention() -> None:
    machines = in_memory(cluster(bank()))
    assert all(machine.counts["cross_machine"] for machine in machines)
    assert sum(machine.counts["cross_domain"] for machine in machines) > 100
    assert sum(machine.astack_waits for machine in machines) > 0


def test_a_run_done_again_has_the_same_digest(described: Cluster) -> None:
    assert digest(described) == digest(described)


def test_grpc_transport_within_one_process_changes_nothing(described: Cluster) -> None:
    assert run_cluster(described, actors=0, transport="grpc").digest == digest(described)


@pytest.mark.parametrize("stations", [3])
def test_how_many_processes_hold_the_machines_changes_nothing(described: Cluster, stations: int) -> None:
    with joined(described, stations) as run:
        run.run()
        assert digest_of([(one.name, one.digest) for one in run.outcomes()]) == digest(described)


def test_another_seed_has_another_digest(described: Cluster) -> None:
    assert len({digest(described, seed) for seed in range(3)}) == 3


@pytest.mark.parametrize("step", ["trap", "copy_byte", "receive_handling"])
def test_one_changed_cost_changes_the_digest(step: str, tmp_path: Path) -> None:
    us = load_cost_model("cvax-firefly").file.steps[step].us
    same = cluster(bank(machine={"cost_model": with_cost(tmp_path, step, us)}))
    assert digest(same) == digest(cluster(bank()))
    other = cluster(bank(machine={"cost_model": with_cost(tmp_path, step, us + 0.5)}))
    assert digest(other) != digest(same)


def test_a_longer_link_changes_the_digest() -> None:
    tables = bank()
    tables["links"]["delay_us"] = 60.001
    assert digest(cluster(tables)) != digest(cluster(bank()))


def test_one_call_reordered_changes_the_digest() -> None:
    digests = {digest(cluster(bank(teller={"ledgers": "drawer", "swapped": number}))) for number in (-1, 0, 2)}
    assert len(digests) == 3


def test_one_call_to_another_machine_reordered_changes_the_digest() -> None:
    """Swap two calls that take equally long."""
    one = cluster(pair("teller", "drawer", ledgers="drawer"))
    other = cluster(pair("teller", "drawer", ledgers="drawer", swapped=5))
    assert [machine.end_ns for machine in in_memory(one)] == [machine.end_ns for machine in in_memory(other)]
    assert digest(one) != digest(other)


def test_names_are_part_of_the_digest() -> None:
    assert digest_of([("ab", bytes(32)), ("c", bytes(32))]) != digest_of([("a", bytes(32)), ("bc", bytes(32))])


SCALES: Final = {"taos": 0.005, "v": 0.002, "sun": 0.0002}
HERE_AND_THERE: Final = """
from lrpc.kernel.compiled import runs_compiled
from tests.support.clusters import bank, cluster, digest
from tests.workloads.runs.test_digest import SCALES, system
print(runs_compiled(), digest(cluster(bank())), *(digest(system(name)) for name in SCALES))
"""


def system(name: str) -> Cluster:
    """Return one of Table I's systems, for a short time."""
    return RunJob(scenario=name, scale=SCALES[name]).prepare([]).cluster


@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_another_process_with_other_hashes_compiled_or_not_comes_to_the_same_digests(interpreted: str) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "1", "LRPC_INTERPRETED": interpreted}
    command = [sys.executable, "-c", HERE_AND_THERE]
    said = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True, text=True)
    compiled, *digests = said.stdout.split()
    assert digests == [digest(cluster(bank())), *(digest(system(name)) for name in SCALES)]
    assert interpreted == "0" or compiled == "False"


# The digests of what ships, by scenario and scale, seed 0: the same anywhere, and from version to
# version. A commit that changes one says why, and so does CHANGELOG.md.
KNOWN: Final = {
    ("office", 1.0): "1d894b3c66a327edc73a75160c52ce3a",
    ("sun", 0.001): "32e96c4f4f47b52d41e68955a9174667",
    ("taos", 0.02): "47392f2ef1ec6d323e32e8a50006aaad",
    ("v", 0.02): "52dc7e1118caed63f52876a4b93810f3",
    ("survey", 1.0): "dc8db15d6330a035dd917ccb475b37fa",
    ("table-iv", 1.0): "9ca4dd5bf19fe50eb98c67310ace9090",
}
LONG: Final = ("survey", "table-iv")  # without a scale, and seconds long


@pytest.mark.parametrize(
    ("name", "scale"), [pytest.param(*one, marks=pytest.mark.long) if one[0] in LONG else one for one in KNOWN]
)
def test_what_ships_does_what_it_did_before(name: str, scale: float) -> None:
    ready = RunJob(scenario=name, scale=scale).prepare(["lrpc", "run", name])
    assert run_cluster(ready.cluster, actors=0, transport="memory").digest.startswith(KNOWN[name, scale])
