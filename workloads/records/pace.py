"""What synchronisation cost a run, and how much faster it would be on more actors.

`predicted_speedup` answers whether more actors would help, without running them. A run keeps two
sums for each number of actors in `ACTORS`: how long the busiest of them would work in each window
(`ideal_ns`), and how many rounds it would need (`ideal_rounds`). The time of a round is measured as
the run begins (`round_ns`).

The predicted wall time is the work of the busiest actor, plus the rounds at that price, plus the
rest of the measured wall time. That rest is taken to stay the same, and each actor to have a
processor of its own. With the transport "memory" there are no rounds to measure, and where one
actor took over all machines (`gathered_s`) none of those that the rest of the run would have taken.
Then no speed-up is predicted.
"""

from collections.abc import Mapping

from lrpc.cluster.run import Outcome
from lrpc.cluster.synchronisation import Progress
from lrpc.cluster.synchronisation_state import ACTORS


def synchronisation(outcome: Outcome) -> dict[str, object]:
    """Return what keeping the machines in step took, by name.

    `wall_s` and `round_us` are wall-clock times in seconds and microseconds. `share_of_wall` is the
    share of wall time, from 0 to 1, that was not work of machines. `gathered_s` is the wall time
    after which one actor took over all machines. Figures that this run does not have are None, such
    as `predicted_speedup` with the transport "memory".
    """
    progress = outcome.progress
    calls = sum(machine.counts["cross_machine"] for machine in outcome.machines)
    foretold = outcome.transport == "grpc" and progress.gathered_ns is None
    return {
        "windows": progress.windows,
        "rounds": progress.rounds,
        "messages": progress.messages,
        "bytes": progress.bytes,
        "rounds_per_remote_call": round(progress.rounds / calls, 3) if calls else None,
        "wall_s": round(progress.wall_ns / 1e9, 3),
        "share_of_wall": round(1 - progress.work_ns / progress.wall_ns, 4) if progress.wall_ns else None,
        "round_us": round(progress.round_ns / 1000, 1),
        "predicted_speedup": predicted_speedup(progress) if foretold else None,
        "gathered_s": None if progress.gathered_ns is None else round(progress.gathered_ns / 1e9, 3),
        "losses": progress.losses,
        "events_executed_again": progress.again,
        "strangers": sum(station.strangers for station in outcome.stations),
        "retries": sum(station.retries for station in outcome.stations),
        "duplicates_dropped": sum(station.duplicates for station in outcome.stations),
        "memory_bytes_per_actor": [station.memory_bytes for station in outcome.stations],
    }


def predicted_speedup(progress: Progress) -> Mapping[str, float]:
    """Return the predicted speed-up of a run, by number of actors.

    2.0 means half the measured wall time. Keys are the numbers in `ACTORS`, as text.
    """
    # Wall time that is neither work nor rounds: the same on any number of actors.
    rest_ns = max(0, progress.wall_ns - progress.work_ns - progress.rounds * progress.round_ns)
    found = predicted_ns(progress, progress.round_ns)
    return {
        str(actors): round(progress.wall_ns / max(1.0, rest_ns + takes_ns), 3) for actors, takes_ns in found.items()
    }


def predicted_ns(progress: Progress, round_ns: int) -> dict[int, float]:
    """Return how long the busiest of so many actors would work and wait for rounds, in ns."""
    return {
        actors: work_ns + rounds * round_ns
        for actors, work_ns, rounds in zip(ACTORS, progress.ideal_ns, progress.ideal_rounds, strict=True)
    }
