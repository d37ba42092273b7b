"""Plans a run: its options, what they ask for, and whether that can be carried out.

A dry run needs no more than this. What runs a cluster and what records it take longer to import
than a plan takes to make, so neither is imported here.

`Options` say how to carry out a run. None of them changes its result, so none is part of a job.
"""

from dataclasses import dataclass
from pathlib import Path

from lrpc.cluster.actors import choose_actors
from lrpc.cluster.description import Cluster, construct
from lrpc.cluster.envelope import Transport
from lrpc.domains.simulated.timeline import TimelineBounds
from lrpc.kernel.errors import Refused
from lrpc.workloads.records import folders
from lrpc.workloads.records.asked import Run
from lrpc.workloads.reports.output import print_note, say


@dataclass(frozen=True)
class Options:
    """How to carry out a run: the options of the command line that do not change the result."""

    out: Path | None = None  # the record's folder; None for a new one under records/
    force: bool = False  # replace an existing record and event log
    actors: int | None = None  # None: as many as `choose_actors` says
    transport: Transport = "grpc"
    address: str | None = None
    events: Path | None = None  # the file for the event log
    dry_run: bool = False
    anywhere: bool = False  # in this process or on actors, as `fastest.chosen` predicts
    stay: bool = False  # each machine on its actor, also where one actor would be faster
    # Where a run is stopped, and fails: at the end of the window that reaches one of these.
    until_us: float | None = None  # virtual time
    max_calls: int | None = None  # traps and calls of every kind
    timeline: TimelineBounds | None = None  # what a timeline in the record's folder may hold


def check_plan(run: Run, cluster: Cluster, options: Options) -> tuple[int, Path]:
    """Return how many actors a run gets, and the folder for its record.

    Raises `Refused` where the options cannot be followed.
    """
    if options.until_us is not None and not options.until_us >= 0:  # also refuses what is no number
        raise Refused(f"--until {options.until_us}: give 0 or more microseconds")
    actors = choose_actors(cluster, options.actors, options.transport, options.address)
    if options.actors is not None and options.actors > actors:
        print_note(f"note: {actors} actors, one for each machine; more would have no machine to run")
    folder = folders.for_record(options.out, run.workload, force=options.force)
    if options.events is not None:
        check_events(options.events, folder, force=options.force)
    return actors, folder


def say_plan(run: Run, cluster: Cluster, options: Options) -> None:
    """Print what would run, and where, without running it.

    Raises `Refused` as `check_plan` does.
    """
    actors, folder = check_plan(run, cluster, options)
    where = ("in this process" if actors == 0 else f"on {actors} Ray actors") + f", links {options.transport}"
    if options.address is not None:
        where = f"on {actors} Ray actors of the cluster at {options.address}, links {options.transport}"
    if options.anywhere:
        where = "in this process or on Ray actors, as is predicted to be faster"
    say(f"{run.workload}: {len(cluster.machines)} machines {where}, seed {run.seed}")
    for machine in cluster.machines:
        say(f"  {machine.name}: {machine.processors} processors, cost model {machine.costs.name}")
        for domain in machine.domains:
            exports = ", ".join(export.name for export in domain.exports) or "nothing"
            say(f"    {domain.name}: exports {exports}; {len(domain.threads)} threads")
    say(f"  about {planned_calls(cluster):,} calls; the record would go to {folder}")


def planned_calls(cluster: Cluster) -> int:
    """Return about how many calls and traps a cluster will make; 0 if any program does not know."""
    domains = [domain for machine in cluster.machines for domain in machine.domains]
    threads = [thread for domain in domains for thread in domain.threads]
    programs = [construct(one.program, one.parameters, one.name).planned_calls for one in threads]
    exports = [export for domain in domains for export in domain.exports]
    servers = [construct(one.server, one.parameters, one.name).planned_calls for one in exports]
    return sum(programs) + sum(servers) if all(programs) else 0


def check_events(
    path: Path, folder: Path | None, *, force: bool, option: str = "--events", force_option: str = "--force"
) -> None:
    """Raise `Refused` if an event log cannot be written to `path`.

    It must not lie in `folder`, the record's, since writing the record replaces that folder. An
    existing file needs `force`.
    """
    if path.exists() and not (force and path.is_file()):
        fix = f"name another file, or add {force_option}" if force_option else "name another file"
        raise Refused(f"{option} {path}: exists already; {fix}")
    if not path.parent.is_dir():
        raise Refused(f"{option} {path}: there is no folder {path.parent}; make it first")
    if folder is not None and folder.resolve() in (path.resolve(), *path.resolve().parents):
        raise Refused(f"{option} {path}: is inside the record's folder, which the run replaces; name a file outside it")
    from lrpc.workloads.records import events  # here, since few runs leave a log

    events.check_writable(path)
