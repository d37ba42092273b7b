"""One report of each kind, small; and screenshots of reports.

    python -m tests.support.pages FOLDER [report.html …]

makes the reports, or takes those that are given, and writes a screenshot of each one's first screen
to FOLDER, in light and dark and at each width.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import copytree
from typing import Final

from benchmarks import cluster_page
from lrpc.workloads.reports import page
from lrpc.workloads.reports.page import PAGES
from tests.conftest import HAS_HOST
from tests.support.browser import Browser
from tests.support.command import HERE, lrpc, office

SAMPLE: Final = Path(__file__).parents[2] / "workloads" / "traces" / "sample-trace.csv"
SWEEP: Final = """
name = "V: one parameter changed at a time"
[job]
kind = "run"
scenario = "v"
scale = 0.002
[each]
parameters = ["memory_kb", "think_s", "event_calls"]
"""
COMBINATIONS: Final = """
name = "V: memory and how long people think"
[job]
kind = "run"
scenario = "v"
scale = 0.002
[parameters]
"parameters.memory_kb.value" = [4096, 6144, 8192]
"parameters.think_s.value" = [10.0, 20.0]
"""
DRAWS: Final = """
name = "Sun: draws from the ranges of its parameters"
[job]
kind = "run"
scenario = "sun"
scale = 0.0001
[draws]
count = 6
"""
SPEED: Final = {  # of a cluster on more actors, as `benchmarks.cluster` prints it
    "speedup": {"1": 1.0, "2": 1.5},
    "predicted_speedup": {"2": 1.7, "4": 2.9},
    "us_per_call": {"1": 6.0, "2": 4.0},
    "windows": 33,
}


def done(*arguments: object) -> None:
    """Run a command, which must succeed."""
    ended = lrpc(*arguments)
    assert ended.code == 0, ended


def of_reproduce(folder: Path) -> Path:
    """Return the report of the paper's tables, from few calls."""
    done("reproduce", "--calls", 10, *HERE, "--out", folder)
    return folder / "report"


def of_run(folder: Path) -> Path:
    """Return the report of a run."""
    folder.mkdir(parents=True)
    done("run", office(folder), *HERE, "--out", folder / "run")
    done("report", folder / "run")
    return folder / "run" / "report"


def of_incomplete(folder: Path) -> Path:
    """Return the report of a run that failed."""
    folder.mkdir(parents=True)
    path = office(folder)
    path.write_text(path.read_text().replace('{ names = "names@', '{ names = "windows@'))
    assert lrpc("run", path, *HERE, "--out", folder / "run").code == 3
    done("report", folder / "run")
    return folder / "run" / "report"


def of_replay(folder: Path) -> Path:
    """Return the report of a replayed trace."""
    done("replay", SAMPLE, "--machines", 2, *HERE, "--out", folder)
    done("report", folder)
    return folder / "report"


def of_place(folder: Path) -> Path:
    """Return the report of a found placement."""
    done("place", SAMPLE, "--machines", 2, "--slack", 1.7, *HERE, "--record", folder)
    return folder / "report"


def of_placements(folder: Path) -> Path:
    """Return the report that compares replays of one trace."""
    for name in ("spread", "pack"):
        done("replay", SAMPLE, "--machines", 2, "--placement", name, *HERE, "--out", folder / name)
    done("report", folder / "spread", folder / "pack", "--out", folder / "report")
    return folder / "report"


def of_scaling(folder: Path) -> Path:
    """Return the report that compares runs on one and two actors; their wall times are made up."""
    done("run", office(folder.parent), *HERE, "--out", folder / "one")
    copytree(folder / "one", folder / "two")
    for actors, (name, wall_s) in enumerate((("one", 2.0), ("two", 1.25)), 1):
        path = folder / name / "record.json"
        changed = {"actors": actors, "wall_s": wall_s, "synchronisation": {"predicted_speedup": {"2": 1.9}}}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    done("report", folder / "one", folder / "two", "--out", folder / "report")
    return folder / "report"


def of_sweep(folder: Path, text: str = SWEEP) -> Path:
    """Return the report of a sweep that changes one parameter at a time."""
    file = folder.with_suffix(".toml")
    file.write_text(text)
    done("sweep", file, "--out", folder, "--parallel", 0)
    return folder / "report"


def of_draws(folder: Path) -> Path:
    """Return the report of a sweep that draws parameters."""
    return of_sweep(folder, DRAWS)


def of_combinations(folder: Path) -> Path:
    """Return the report of a sweep over combinations of values."""
    return of_sweep(folder, COMBINATIONS)


def of_unlike(folder: Path) -> Path:
    """Return the report that compares runs of different workloads, which scale nothing."""
    done("run", office(folder.parent), *HERE, "--out", folder / "office")
    done("run", "v", "--scale", 0.001, *HERE, "--out", folder / "v")
    done("report", folder / "office", folder / "v", "--out", folder / "report")
    return folder / "report"


def of_bench(folder: Path) -> Path:
    """Return the report of a benchmark of this computer, with few calls."""
    from lrpc.workloads.bench import measure, record
    from lrpc.workloads.bench.peers import PEERS

    tiny = measure.Effort(rounds=1, calls=20, large_calls=3, paced_calls=2, computing_calls=3, clients_s=0.05, pairs=5)
    peers = [peer for peer in PEERS if peer.name in {name for _, name, _ in record.TABLE_IV}]
    found = measure.measure(peers, record.FOUR_TESTS, tiny, lambda text: None)
    made = record.BenchRecord(["lrpc", "bench"], tiny, found.cells(), [], [], [], found.repeated, found.disturbed)
    record.write(folder, made)
    return folder


def of_explain(folder: Path) -> Path:
    """Return the page of a call, explained step by step."""
    done("explain", "Add", "--out", folder)
    return folder


def of_cluster(folder: Path) -> Path:
    """Return the report on what a simulated cluster costs, of results that are made up."""
    machines = {"us_per_call": {"10": 20.5, "100": 21.5, "1000": 24.5}, "memory_KiB_per_machine": 228.6}
    clients = {"remote_calls_per_s": {"1": 18_000, "2": 10_000}}
    fast, slow = SPEED, SPEED | {"speedup": {"1": 1.0, "2": 0.4}, "predicted_speedup": {"2": 0.5, "4": 0.3}}
    results = {"actors": {"workstations": fast, "ring": slow}, "machines": machines, "clients": clients}
    page.write(cluster_page.report(results), folder)
    return folder


KINDS: Final[Mapping[str, Callable[[Path], Path]]] = {
    "reproduce": of_reproduce,
    "run": of_run,
    "incomplete": of_incomplete,
    "replay": of_replay,
    "place": of_place,
    "placements": of_placements,
    "scaling": of_scaling,
    "unlike": of_unlike,
    "sweep": of_sweep,
    "draws": of_draws,
    "combinations": of_combinations,
    "cluster": of_cluster,
    "explain": of_explain,
    **({"bench": of_bench} if HAS_HOST else {}),
}


def main(arguments: Sequence[str]) -> None:
    """Make reports, unless some are given, and screenshots of them."""
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    pages = {path.resolve().parent.parent.name: path for path in map(Path, arguments[1:])}
    if not pages:
        pages = {kind: make(out / "reports" / kind) / PAGES[0] for kind, make in KINDS.items()}
    with Browser() as browser:
        for name, path in pages.items():
            for scheme, width in browser.settings():
                browser.open(path)
                browser.look(scheme, width)
                browser.screenshot(out / f"{name}-{scheme}-{width}.png")
    print(f"{len(pages)} reports, in {out}")


if __name__ == "__main__":
    main(sys.argv[1:])
