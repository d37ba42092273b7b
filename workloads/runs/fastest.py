"""Chooses where a run is predicted to be fastest: in this process, or on Ray's actors.

Where machines call each other all the time, what keeps actors in step costs more than they gain: a
replay of a million spans on four machines takes ten times as long on two actors as in one process.
So the run's beginning is simulated here first, for half a second at most. Its sums say how long the
busiest of so many actors would have worked, and how many round trips they would have needed.
"""

from dataclasses import replace
from typing import Final

from lrpc.cluster.actors import processors_here
from lrpc.cluster.description import Cluster
from lrpc.cluster.run import run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel.errors import RunFailed
from lrpc.workloads.records.pace import predicted_ns
from lrpc.workloads.runs.planned import Options

TRIAL_NS: Final = 500_000_000
ROUND_NS: Final = 500_000  # a round trip to an actor of the same computer; a run's record has its own
WORTH: Final = 1.5  # how many times as fast actors must be, since Ray takes seconds to start


class _Enough(Exception):
    """Raised to end a trial."""


def chosen(options: Options, cluster: Cluster, seed: int) -> Options:
    """Return the options for where a run is predicted to be fastest, if they leave that open."""
    if not options.anywhere:
        return options
    actors = fastest(cluster, seed)
    return replace(options, actors=actors, transport="grpc" if actors else "memory")


def fastest(cluster: Cluster, seed: int) -> int:
    """Return the number of actors on which a run is predicted to be fastest; 0 for this process.

    A run that fails does so here too, and is left to fail where it leaves a record.
    """
    most = min(processors_here(), len(cluster.machines))
    reached = Progress()

    def look(progress: Progress) -> None:
        nonlocal reached
        reached = progress
        if progress.wall_ns >= TRIAL_NS:
            raise _Enough

    try:
        run_cluster(cluster, seed=seed, actors=0, transport="memory", on_progress=look, windows=True)
    except _Enough:
        return best_of(reached, most)
    except RunFailed:
        pass
    return 0  # it is soon over


def best_of(progress: Progress, most: int) -> int:
    """Return the best number of actors, up to `most`, by the sums of a trial in one process."""
    takes_ns = {actors: ns for actors, ns in predicted_ns(progress, ROUND_NS).items() if 1 < actors <= most}
    best = min(takes_ns, key=lambda actors: takes_ns[actors], default=0)
    return best if best and takes_ns[best] * WORTH <= progress.ideal_ns[0] else 0
