"""The office: only a block that is missing from a workstation's cache causes a remote call."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lrpc.cluster.description import read_cluster
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.domains.residents import Findings
from lrpc.domains.servers import FileServer
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.records.records import total_counts
from lrpc.workloads.reproduction.paper import table_i
from tests.support.command import office


@dataclass
class RememberingServer(FileServer):
    """A file server that knows which blocks were read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read: list[tuple[int, int]] = []

    def read(self, file: int, block: int) -> bytes:
        self._read.append((file, block))
        return super().read(file, block)

    def findings(self) -> Findings:
        return {**super().findings(), "reads": len(self._read), "different": len(set(self._read))}


def run(folder: Path, blocks: int, workstations: int = 2, actions: int = 300) -> Outcome:
    servers = {**REGISTRY.servers, "file server": RememberingServer}
    path = office(folder, actions=actions, blocks=blocks, workstations=workstations)
    return run_cluster(read_cluster(path, replace(REGISTRY, servers=servers)), actors=0, transport="memory")


def found(outcome: Outcome, what: str) -> int:
    """Return the sum of the counts of that name over the residents of all machines."""
    counted: list[Any] = [
        findings[what] for machine in outcome.machines for findings in machine.findings.values() if what in findings
    ]
    assert counted
    return sum(counted)


@pytest.mark.parametrize("blocks", [1, 8, 64, 512])
def test_what_crosses_machines_is_what_the_caches_missed_and_wrote_back(blocks: int, tmp_path: Path) -> None:
    outcome = run(tmp_path, blocks)
    crossed = total_counts(outcome)["cross_machine"]
    assert crossed == found(outcome, "misses") + found(outcome, "write_backs") == found(outcome, "requests") > 0


def test_a_larger_cache_sends_fewer_calls_across(tmp_path: Path) -> None:
    crossed = [total_counts(run(tmp_path, blocks, workstations=1))["cross_machine"] for blocks in (1, 16, 128, 10_000)]
    assert crossed == sorted(crossed, reverse=True)
    assert len(set(crossed)) == len(crossed)


def test_with_a_cache_that_holds_every_file_only_first_reads_cross(tmp_path: Path) -> None:
    outcome = run(tmp_path, blocks=10_000, workstations=1)
    assert found(outcome, "write_backs") == 0
    assert found(outcome, "reads") == found(outcome, "different") == total_counts(outcome)["cross_machine"]
    assert found(outcome, "hits") > 0  # files were opened again, without remote calls


def test_with_a_cache_of_one_block_nearly_every_read_crosses(tmp_path: Path) -> None:
    outcome = run(tmp_path, blocks=1)
    assert found(outcome, "misses") > 20 * found(outcome, "hits")
    assert found(outcome, "write_backs") > 0


def test_whoever_works_alone_has_the_same_day_whatever_others_do(tmp_path: Path) -> None:
    """Random streams belong to machines: a second workstation leaves the first unchanged."""

    def day(workstations: int) -> tuple[int, int]:
        first = next(
            machine
            for machine in run(tmp_path, 10_000, workstations).machines
            if machine.name in ("workstation", "workstation1")
        )
        return first.counts["cross_domain"], first.counts["cross_machine"]

    assert day(2) == day(3)


def test_table_i_states_both_denominators() -> None:
    """Taos made 344,888 local and 18,366 remote calls: 5.33 % of local ones, 5.06 % of all."""
    counts = {"trap": 0, "within_domain": 0, "cross_domain": 344_888, "cross_machine": 18_366}
    local, total = table_i("Taos", counts)
    assert (local.table, local.row, local.column, local.unit) == ("I", "Taos", "remote/local", "%")
    assert total.column == "remote/total"
    assert [round(float(cell.ours), 2) for cell in (local, total)] == [5.33, 5.06]
    assert local.kind == total.kind == "predicted"


def test_traps_are_local_operations_and_calls_within_a_domain_are_none() -> None:
    counts = {"trap": 60, "within_domain": 1_000, "cross_domain": 30, "cross_machine": 10}
    assert [cell.ours for cell in table_i("mixed", counts)] == pytest.approx([100 * 10 / 90, 100 * 10 / 100])


def test_a_row_without_what_it_would_divide_by_has_no_such_cell() -> None:
    nothing = {"trap": 0, "within_domain": 5, "cross_domain": 0, "cross_machine": 0}
    assert table_i("idle", nothing) == []
    (total,) = table_i("all across", nothing | {"cross_machine": 3})
    assert (total.column, total.ours) == ("remote/total", 100)
