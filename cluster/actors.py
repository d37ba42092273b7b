"""Chooses how many Ray actors a run gets, which is known before anything is made that runs."""

import os
import sys
from typing import Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Transport
from lrpc.kernel.errors import Refused

MOST_DEFAULT_ACTORS: Final = 8
MOST_ACTORS: Final = 256


def choose_actors(cluster: Cluster, actors: int | None, transport: Transport, address: str | None = None) -> int:
    """Return how many actors a run gets, given the number that is asked for; 0 means this process.

    None asks for one per machine, up to 8, and on this computer no more than it has processors.
    There are never more actors than machines. Raises `Refused` for a number that is impossible, or
    does not go with `transport` or `address`.
    """
    if actors == 0 and address is not None:
        raise Refused(f"--address {address}: --actors 0 does not use Ray; leave one of the two out")
    if actors is None:
        most = MOST_DEFAULT_ACTORS if address is not None else min(MOST_DEFAULT_ACTORS, processors_here())
        return 1 if transport == "memory" else min(len(cluster.machines), most)
    if not 0 <= actors <= MOST_ACTORS:
        raise Refused(f"--actors {actors}: give a number from 0 to {MOST_ACTORS}")
    if transport == "memory" and actors > 1:
        raise Refused(f"--actors {actors}: --links memory joins machines of one process only; use --links grpc")
    return min(actors, len(cluster.machines))


def processors_here() -> int:
    """Return how many processors this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return os.cpu_count() or 1
