"""What keeping a run's machines in step took, what was lost meanwhile, and what more actors would make of it."""

from collections.abc import Mapping
from typing import Final

from lrpc.cluster.run import Outcome
from lrpc.cluster.synchronisation import Progress

ACTORS: Final = (1, 2, 4, 8)  # that a speed-up is predicted for


def synchronisation(outcome: Outcome) -> dict[str, object]:
    """Return how many windows, rounds, messages and bytes a run had, and what share of its time they took.

    `predicted_speedup` is by what factor the run would be quicker on so many actors with a processor each: work is
    dealt out to them as machines are, the busiest decides in each window, and what windows cost beside that stays.
    """
    progress = outcome.progress
    calls = sum(machine.counts["cross_machine"] for machine in outcome.machines)
    return {
        "windows": progress.windows,
        "rounds": progress.rounds,
        "messages": progress.messages,
        "bytes": progress.bytes,
        "rounds_per_remote_call": round(progress.rounds / calls, 3) if calls else None,
        "wall_s": round(progress.wall_ns / 1e9, 3),
        "share_of_wall": round(1 - progress.work_ns / progress.wall_ns, 4) if progress.wall_ns else None,
        "predicted_speedup": predicted_speedup(progress),
        "losses": progress.losses,
        "events_executed_again": progress.again,
        "strangers": sum(station.strangers for station in outcome.stations),
        "retries": sum(station.retries for station in outcome.stations),
        "duplicates_dropped": sum(station.duplicates for station in outcome.stations),
        "memory_bytes_per_actor": [station.memory_bytes for station in outcome.stations],
    }


def predicted_speedup(progress: Progress) -> Mapping[str, float]:
    """Return by what factor a run would be quicker on each of `ACTORS`, against itself."""
    between = progress.wall_ns - progress.work_ns
    return {
        str(actors): round(progress.wall_ns / max(1, between + progress.ideal_ns[actors - 1]), 3) for actors in ACTORS
    }
