"""Runs a record's job again, elsewhere if asked, and says whether it came to the same."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lrpc import __version__
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.station import Transport
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel import compiled
from lrpc.kernel.errors import Refused
from lrpc.workloads.programs.registry import UsersRegistry
from lrpc.workloads.records import records
from lrpc.workloads.records.records import Input, Record
from lrpc.workloads.runs.jobs import REGISTRY_INPUT, Prepared, RunJob, job_of, read_input


@dataclass(frozen=True)
class Difference:
    """What a second run did otherwise."""

    machine: str  # the first, in order of names
    machines: int  # how many differ


def check(folder: Path) -> Record:
    """Return a record that can be verified; `Refused` for one that is incomplete or another version's."""
    record = records.read(folder)
    if record.status != "complete":
        raise Refused(f"{folder}: incomplete ({record.reason}); only a run that came to its end can be verified")
    wrote = record.versions.get("lrpc")
    if wrote != __version__:
        raise Refused(f"{folder}: written by lrpc {wrote}, and this is {__version__}; verify it with that")
    return record


@contextmanager
def prepared(record: Record, origin: str, own: UsersRegistry | None = None) -> Iterator[Prepared]:
    """Prepare a record's job again, from the very files that it read; `Refused` where one has changed or is gone.

    `own` is the registry of a user's own that the job uses: a record alone does not make anybody's code run.
    """
    job = job_of(dict(record.job), f"{origin}: job")
    if own is None and isinstance(job, RunJob) and job.registry:
        raise Refused(f"{origin}: its run used code of {job.registry}; to run that code, add --registry {job.registry}")
    with tempfile.TemporaryDirectory(prefix="lrpc-verify-") as scratch:
        moved: dict[str, Path] = {}
        for number, one in enumerate(record.inputs):
            if one.argument == REGISTRY_INPUT:
                _check_registry(one, own, origin)
                continue
            if one.text is not None:
                moved[one.argument] = Path(scratch, f"{number}-{Path(one.path).name}")
                moved[one.argument].write_text(one.text)
            else:
                moved[one.argument] = Path(one.path)
            if read_input(one.argument, moved[one.argument]).digest != one.digest:
                raise Refused(f"{one.path}: has changed since {origin} was written; put back what it was")
        yield job.moved(moved).prepare(list(record.command), own)


def _check_registry(used: Input, own: UsersRegistry | None, origin: str) -> None:
    """Raise `Refused` where the registry that is given is not, byte for byte, the one that a record's run used."""
    if own is not None and own.file is not None and read_input(used.argument, own.file).digest != used.digest:
        raise Refused(f"{own.file}: is not the file that {origin} was made with ({used.path}); put back what it was")


def run_again(
    ready: Prepared,
    *,
    actors: int | None,
    links: Transport,
    address: str | None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run what was prepared."""
    return run_cluster(
        ready.cluster, seed=ready.run.seed, actors=actors, links=links, address=address, on_progress=on_progress
    )


def compare(record: Record, outcome: Outcome) -> Difference | None:
    """Return how a second run differs from a record; None where every machine did the same."""
    before = {name: str(machine.get("digest")) for name, machine in record.machines.items()}
    after = {machine.name: machine.digest.hex() for machine in outcome.machines}
    differ = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if differ:
        return Difference(differ[0], len(differ))
    if record.digest != outcome.digest:
        return Difference("(all alike, but not their order or names)", 0)
    return None


def in_words(record: Record, outcome: Outcome, difference: Difference | None) -> str:
    """Return what was found, in a line."""
    ways = [_way(record.actors, record.links, record.compiled)]
    ways.append(_way(outcome.actors, outcome.links, compiled.runs_compiled()))
    where = " and ".join(dict.fromkeys(ways))
    if difference is None:
        return f"the same: {len(outcome.machines)} machines, digest {outcome.digest}; {where}"
    first = f"machine {difference.machine} did something else"
    return f"not the same: {first}, the first of {difference.machines} of {len(outcome.machines)}; {where}"


def _way(actors: int | None, links: str | None, was_compiled: bool) -> str:
    place = "in one process" if not actors else f"on {actors} actors"
    return f"{place}, links {links}, {'compiled' if was_compiled else 'interpreted'}"
