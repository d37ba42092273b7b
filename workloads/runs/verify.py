"""Verifies a record: repeats its run, on other actors if asked, and compares the digests.

The digest of a run depends on its job, its files and the version of lrpc. It does not depend on
where the run is carried out, or on whether modules are compiled. Another digest therefore means a
fault in the record, in an installation, or in a program that is not deterministic; or, with a
user's registry, that a module which it imports has changed. Digests are compared machine by
machine, to name the first that differs.

The job's files are read again from where they were, or from the record where it keeps their text.
Each is copied first, and the copy is both hashed and run. It must have its old digest. A user's
code runs only if the command names its registry again.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lrpc import __version__
from lrpc.cluster.envelope import Transport
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.scenario import MOST_PARTS
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel import compiled
from lrpc.kernel.documents import read_file
from lrpc.kernel.errors import Refused
from lrpc.workloads.records import records
from lrpc.workloads.records.asked import Input
from lrpc.workloads.records.records import Record
from lrpc.workloads.runs.jobs import LARGEST_INPUT, REGISTRY_INPUT, Prepared, RunJob, job_of, read_input, registry_for
from lrpc.workloads.traces.read import trace_files


@dataclass(frozen=True)
class Difference:
    """How the digests of a repeated run differ from the record's."""

    machine: str  # the first that differs, in order of names
    machines: int  # the number that differ


def check(folder: Path) -> Record:
    """Return the record in a folder.

    Raises `Refused` if it is incomplete, or another version of lrpc wrote it.
    """
    record = records.read(folder)
    if record.status != "complete":
        raise Refused(f"{folder}: incomplete ({record.reason}); only the record of a complete run can be verified")
    wrote = record.versions.get("lrpc")
    if wrote != __version__:
        raise Refused(f"{folder}: written by lrpc {wrote}, and this is {__version__}; verify it with lrpc {wrote}")
    return record


@contextmanager
def prepared(record: Record, origin: str, registry: str | None = None, limit: int = MOST_PARTS) -> Iterator[Prepared]:
    """Run the block with the record's job, prepared again from the same files.

    `origin` names the record in errors. `registry` names the user's registry that the job uses, as
    `--registry` does. Raises `Refused` if a file has changed or is gone, or the job needs a
    registry and none is named, or it has more parts than `limit`.
    """
    job = job_of(dict(record.job), f"{origin}: job")
    if registry is None and isinstance(job, RunJob) and job.registry:
        raise Refused(f"{origin}: the run used code of a user's; to run that code, add --registry {_used(record, job)}")
    own = registry_for(job, registry)
    with tempfile.TemporaryDirectory(prefix="lrpc-verify-") as scratch:
        moved: dict[str, Path] = {}
        for number, one in enumerate(record.inputs):
            if one.argument == REGISTRY_INPUT:
                if own is not None and own.digest != one.digest:
                    differs = f"differs from the file that {origin} was made with ({one.path})"
                    raise Refused(f"{own.file}: {differs}; restore the old contents")
                continue
            moved[one.argument] = _copied(one, Path(scratch, str(number)))
            if read_input(one.argument, moved[one.argument]).digest != one.digest:
                raise Refused(f"{one.path}: has changed since {origin} was written; restore the old contents")
        yield job.moved(moved).prepare(list(record.command), own, limit)


def _copied(one: Input, folder: Path) -> Path:
    """Return a copy of an input's bytes in a new folder, where nobody else can change them."""
    folder.mkdir()
    if one.text is not None:
        copy = folder / "input.toml"
        copy.write_bytes(one.text.encode(errors="surrogatepass"))  # which the digest then refuses
        return copy
    path, copy = Path(one.path), folder / Path(one.path).name  # a trace's name is that of its run
    if os.path.isdir(path):  # false for a path that cannot be
        copy.mkdir()
        for file in trace_files(path):
            (copy / file.name).write_bytes(read_file(file, LARGEST_INPUT))
    else:
        copy.write_bytes(read_file(path, LARGEST_INPUT))
    return copy


def _used(record: Record, job: RunJob) -> str:
    """Return how to name the registry that a run used, from whatever directory."""
    where, _, name = job.registry.rpartition(":")
    files = [one.path for one in record.inputs if one.argument == REGISTRY_INPUT]
    if not where:
        return "module:NAME or path.py:NAME"  # it was given as an object, in Python
    return f"{files[0]}:{name}" if files and where.endswith(".py") else job.registry


def run_again(
    ready: Prepared,
    *,
    actors: int | None,
    transport: Transport,
    address: str | None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run a prepared job, and return the outcome. Raises the same errors as `run_cluster`."""
    return run_cluster(
        ready.cluster, seed=ready.run.seed, actors=actors, transport=transport, address=address, on_progress=on_progress
    )


def compare(record: Record, outcome: Outcome) -> Difference | None:
    """Return how a repeated run differs from the record; None if all digests are equal."""
    before = {name: str(machine.get("digest")) for name, machine in record.machines.items()}
    after = {machine.name: machine.digest.hex() for machine in outcome.machines}
    differ = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if differ:
        return Difference(differ[0], len(differ))
    if record.digest != outcome.digest:
        return Difference("(all alike, but not their order or names)", 0)
    return None


def in_words(record: Record, outcome: Outcome, difference: Difference | None) -> str:
    """Return the result of a comparison in one line."""
    ways = [_way(record.actors, record.links, record.compiled)]
    ways.append(_way(outcome.actors, outcome.transport, compiled.runs_compiled()))
    where = " and ".join(dict.fromkeys(ways))
    if difference is None:
        return f"the same: {len(outcome.machines)} machines, digest {outcome.digest}; {where}"
    first = f"machine {difference.machine} did something else"
    return f"not the same: {first}, the first of {difference.machines} of {len(outcome.machines)}; {where}"


def _way(actors: int | None, links: str | None, was_compiled: bool) -> str:
    """Return in words how a run was carried out."""
    place = "in one process" if not actors else f"on {actors} actors"
    return f"{place}, links {links}, {'compiled' if was_compiled else 'interpreted'}"
