"""A sweep runs each combination of its parameters once, resumes, and ends with one table."""

import csv
import html
from collections.abc import Sequence
from pathlib import Path

import pytest

from lrpc.workloads import scenarios
from lrpc.workloads.studies import sweep
from tests.support.command import lrpc, office, record, refused
from tests.support.places import SAMPLE


def written(folder: Path, parameters: str, job: str = "") -> Path:
    """Write a sweep over a small office, and return its file."""
    scenario = office(folder, actions=10)
    path = folder / "sweep-of-offices.toml"
    job = job or f'kind = "run"\nscenario = "{scenario}"'
    path.write_text(f'name = "offices"\n[job]\n{job}\n[parameters]\n{parameters}\n')
    return path


def rows(out: Path) -> Sequence[dict[str, str]]:
    with (out / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


SEEDS_AND_SIZES = 'seed = [1, 2]\n"machines.workstation.count" = [1, 2]'


def test_every_combination_is_a_run_with_a_record_and_a_row(tmp_path: Path) -> None:
    ended = lrpc("sweep", written(tmp_path, SEEDS_AND_SIZES), "--out", tmp_path / "out", "--parallel", 0)
    assert (ended.code, ended.err) == (0, "")
    found = rows(tmp_path / "out")
    assert [(row["run"], row["seed"], row["machines.workstation.count"], row["status"]) for row in found] == [
        ("1", "1", "1", "complete"),
        ("2", "1", "2", "complete"),
        ("3", "2", "1", "complete"),
        ("4", "2", "2", "complete"),
    ]
    assert len({row["digest"] for row in found}) == 4
    for row in found:
        one = record(tmp_path / "out" / f"{int(row['run']):05d}")
        assert (one["digest"], one["counts"]["cross_machine"]) == (row["digest"], int(row["cross_machine"]))
        assert len(one["machines"]) == 1 + int(row["machines.workstation.count"])


def said_of(folder: Path, parameters: str) -> str:
    """Return all that the page of a sweep says."""
    assert lrpc("sweep", written(folder, parameters), "--out", folder / "out", "--parallel", 0).code == 0
    page = (folder / "out" / "report" / "report.html").read_text()
    return html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")


def test_a_mean_stands_only_for_runs_that_differ_in_their_seeds(tmp_path: Path) -> None:
    grid, seeds, both = (tmp_path / name for name in ("grid", "seeds", "both"))
    for folder in (grid, seeds, both):
        folder.mkdir()
    said = said_of(grid, '"machines.workstation.count" = [1, 2, 3]')
    assert "% of traps and cross-domain calls (remote/local) over 3 combinations of values" in said
    assert "confidence" not in said
    assert "standard deviation" not in said
    said = said_of(seeds, "seed = [1, 2, 3]")
    assert "% of traps and cross-domain calls (remote/local) on average in 3 runs (95 % confidence: " in said
    assert "Rank correlation" not in said  # a seed moves nothing
    said = said_of(both, SEEDS_AND_SIZES)
    assert "of traps and cross-domain calls (remote/local) over 2 combinations of values" in said
    assert "confidence interval over seeds" in said
    found = list(csv.DictReader((both / "out" / "report" / "share.csv").read_text().splitlines()))
    assert [(row["machines.workstation.count"], row["seeds"]) for row in found] == [("1", "2"), ("2", "2")]
    shares = [float(row["cross_machine_percent_of_trap_and_cross_domain"]) for row in rows(both / "out")]
    assert [float(row["mean, %"]) for row in found] == pytest.approx(
        [(shares[0] + shares[2]) / 2, (shares[1] + shares[3]) / 2], abs=1e-3
    )


def test_what_is_done_is_kept_and_the_rest_is_run(tmp_path: Path) -> None:
    file, out = written(tmp_path, SEEDS_AND_SIZES), tmp_path / "out"
    assert lrpc("sweep", file, "--out", out, "--parallel", 0).code == 0
    (out / "00003" / "record.json").unlink()
    kept = (out / "00001" / "record.json").stat().st_mtime_ns
    assert "4 runs, 3 of them done" in lrpc("sweep", file, "--out", out, "--dry-run").out
    assert lrpc("sweep", file, "--out", out, "--parallel", 0).code == 0
    assert (out / "00001" / "record.json").stat().st_mtime_ns == kept
    assert [row["status"] for row in rows(out)] == ["complete"] * 4


@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    def test_runs_in_parallel_come_to_what_they_come_to_one_by_one(self, tmp_path: Path) -> None:
        file = written(tmp_path, SEEDS_AND_SIZES)
        for name, parallel in (("here", 0), ("there", 2)):
            assert lrpc("sweep", file, "--out", tmp_path / name, "--parallel", parallel).code == 0
        here, there = ([row["digest"] for row in rows(tmp_path / name)] for name in ("here", "there"))
        assert here == there


def test_a_record_of_a_sweep_can_be_verified(tmp_path: Path) -> None:
    file = written(tmp_path, '"machines.workstation.count" = [1]')
    assert lrpc("sweep", file, "--out", tmp_path / "out", "--parallel", 0).code == 0
    assert lrpc("verify", tmp_path / "out" / "00001", "--actors", 0, "--links", "memory").code == 0


def test_a_run_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    scenario = office(tmp_path, actions=10)
    text = scenario.read_text()
    file = written(tmp_path, '"domains.user.imports.names" = ["names@{machine}", "windows@{machine}"]')
    scenario.write_text(text)
    ended = lrpc("sweep", file, "--out", tmp_path / "out", "--parallel", 0)
    assert ended.code == 3
    last = ended.err.splitlines()[-1]
    assert last.startswith("lrpc: 1 of 2 runs failed; run 2: machine workstation1, thread user/0 of domain user, at ")
    assert [row["status"] for row in rows(tmp_path / "out")] == ["complete", "incomplete"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("seed = []", "parameters.seed: no values; give at least one"),
        ("seed = 1", "parameters.seed: "),
        ('seed = ["one"]', "job: run.seed: "),
        ('"machines.nobody.count" = [1]', "machines.nobody: there is no such place; correct the key"),
        ('"machines.workstation.counts" = [1]', "machines.workstation.counts: unknown key"),
        ('"domains.user.threads.7.parameters" = [1]', "domains.user.threads.7: there is no such place"),
        ('"machines.workstation.count" = ["two"]', "machines.workstation.count: "),
        ("", "parameters: "),
    ],
)
def test_parameters_that_cannot_be_are_refused_before_any_run(parameters: str, said: str, tmp_path: Path) -> None:
    line = refused("sweep", written(tmp_path, parameters), "--out", tmp_path / "out", "--parallel", 0)
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_job_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for job, said in (('kind = "walk"', "job: "), ('kind = "run"', "job: run.scenario: missing"), ("a = 1", "job: ")):
        assert said in refused("sweep", written(tmp_path, "seed = [1]", job), "--out", tmp_path / "out")


def test_a_folder_of_another_sweep_is_refused_without_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert lrpc("sweep", written(tmp_path, "seed = [1]"), "--out", out, "--parallel", 0).code == 0
    other = written(tmp_path, "seed = [2]")
    assert "holds runs of another sweep-of-offices.toml" in refused("sweep", other, "--out", out, "--parallel", 0)
    assert lrpc("sweep", other, "--out", out, "--parallel", 0, "--force").code == 0
    assert [row["seed"] for row in rows(out)] == ["2"]
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "letter").touch()
    assert "not a sweep's folder" in refused("sweep", other, "--out", tmp_path / "busy", "--parallel", 0)


def test_more_combinations_than_anybody_waits_for_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MOST_RUNS", 3)
    assert "more than 3 combinations" in refused("sweep", written(tmp_path, SEEDS_AND_SIZES), "--out", tmp_path / "out")


def test_other_jobs_take_their_own_arguments_as_parameters(tmp_path: Path) -> None:
    job = f'kind = "replay"\ntrace = "{SAMPLE}"'
    file = written(tmp_path, "machines = [1, 2]", job)
    assert lrpc("sweep", file, "--out", tmp_path / "out", "--parallel", 0).code == 0
    found = rows(tmp_path / "out")
    assert [row["machines"] for row in found] == ["1", "2"]
    assert found[0]["cross_machine"] == "0" != found[1]["cross_machine"]


SUN = 'kind = "run"\nscenario = "sun"\nscale = 0.0001'


def varied(folder: Path, how: str) -> Path:
    path = folder / "varied.toml"
    path.write_text(f'name = "sun"\n[job]\n{SUN}\n{how}\n')
    return path


def test_draws_are_runs_with_a_distribution_and_a_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = lrpc("sweep", varied(tmp_path, "[draws]\ncount = 6"), "--out", out, "--parallel", 0)
    assert (ended.code, ended.err) == (0, "")
    found = rows(out)
    assert len({row["digest"] for row in found}) == 6
    assert len({row["cache_kb"] for row in found}) > 1
    shares = sorted(float(row["cross_machine_percent_of_trap_and_cross_domain"]) for row in found)
    with (out / "report" / "share.csv").open() as file:
        summary = {row["what"]: float(row["value"]) for row in csv.DictReader(file)}
    assert summary["runs"] == 6
    assert summary["the paper's, %"] == pytest.approx(100 * 0.6 / 99.4)  # 0.6 % of all calls
    assert summary["least, %"] == pytest.approx(shares[0], abs=1e-4)
    assert summary["most, %"] == pytest.approx(shares[-1], abs=1e-4)
    for row in found:  # a run's cells and the sweep's columns are the same figures
        cells = {cell["column"]: cell["ours"] for cell in record(out / f"{int(row['run']):05d}")["cells"]}
        assert cells["remote/local"] == pytest.approx(
            float(row["cross_machine_percent_of_trap_and_cross_domain"]), abs=1e-4
        )
        assert cells["remote/total"] == pytest.approx(float(row["cross_machine_percent_of_all_crossings"]), abs=1e-4)
    page = (out / "report" / "report.html").read_text()
    assert "What moves it" in page
    assert "https://" not in page.split("</script>")[-1]


def test_parameters_changed_one_at_a_time_are_compared_with_none_changed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    how = '[each]\nfactors = [0.0, 2.0]\nparameters = ["poll_calls"]'
    assert lrpc("sweep", varied(tmp_path, how), "--out", out, "--parallel", 0).code == 0
    assert [row["poll_calls"] for row in rows(out)] == ["", "0.0", "240.0"]
    with (out / "report" / "one-at-a-time.csv").open() as file:
        moved = {row["value"]: float(row["difference"]) for row in csv.DictReader(file)}
    assert moved["0.0"] > 0 > moved["240.0"]  # fewer local calls, a larger share of remote ones


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("[draws]\ncount = 1", "draws.count"),
        ("[draws]\ncount = 2\n[each]", "exactly one of"),
        ('[each]\nparameters = ["blokcs"]', "each.parameters: blokcs: is not a number among the scenario's parameters"),
        ("[each]\nfactors = [-1.0]", "each.factors.0"),
    ],
)
def test_variations_that_cannot_be_are_refused(how: str, said: str, tmp_path: Path) -> None:
    assert said in refused("sweep", varied(tmp_path, how), "--out", tmp_path / "out", "--parallel", 0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name.endswith("-draws") else ())
        for name in scenarios.names(scenarios.SWEEPS)
    ],
)
def test_sweeps_that_ship_can_all_be_prepared(name: str, tmp_path: Path) -> None:
    ended = lrpc("sweep", name, "--out", tmp_path / "out", "--dry-run")
    assert ended.code == 0
    assert " 0 of them done" in ended.out
