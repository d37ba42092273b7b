"""What keeping a run's machines in step took, what was lost meanwhile, and what more actors would make of it."""

from collections.abc import Mapping

from lrpc.cluster.run import Outcome
from lrpc.cluster.standing import ACTORS
from lrpc.cluster.synchronisation import Progress


def synchronisation(outcome: Outcome) -> dict[str, object]:
    """Return how many windows, rounds, messages and bytes a run had, and what share of its time they took.

    `predicted_speedup` is by what factor the run would be quicker on so many actors with a processor each: work is
    dealt out to them as machines are, and the busiest decides in each window; each that has work in a window shared
    with others takes a round, and what else windows cost stays. Links in memory take no rounds, and foretell nothing.
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
        "round_us": round(progress.round_ns / 1000, 1),
        "predicted_speedup": predicted_speedup(progress) if outcome.links == "grpc" else None,
        "losses": progress.losses,
        "events_executed_again": progress.again,
        "strangers": sum(station.strangers for station in outcome.stations),
        "retries": sum(station.retries for station in outcome.stations),
        "duplicates_dropped": sum(station.duplicates for station in outcome.stations),
        "memory_bytes_per_actor": [station.memory_bytes for station in outcome.stations],
    }


def predicted_speedup(progress: Progress) -> Mapping[str, float]:
    """Return by what factor a run would be quicker on each of `ACTORS`, against itself."""
    between = max(0, progress.wall_ns - progress.work_ns - progress.rounds * progress.round_ns)
    foretold = {
        actors: between + work_ns + rounds * progress.round_ns
        for actors, work_ns, rounds in zip(ACTORS, progress.ideal_ns, progress.ideal_rounds, strict=True)
    }
    return {str(actors): round(progress.wall_ns / max(1.0, takes_ns), 3) for actors, takes_ns in foretold.items()}
