"""The subcommands of `lrpc` that read traces: what is in one, its replay, and a placement."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.workloads.commands import carry_out, check_result, timeline_of
from lrpc.workloads.options import (
    Address,
    AsJson,
    CapacityOption,
    CostModelName,
    DryRun,
    Events,
    Force,
    LimitOption,
    LinkDelay,
    LinkMbps,
    MachinesOption,
    MaxDepth,
    Out,
    Parquet,
    Placement,
    PlacementFile,
    Processors,
    ReplayActors,
    ReplayLinks,
    SearchNodes,
    SearchSeconds,
    Seed,
    Slack,
    Strict,
    Timeline,
    TimelineFrom,
    TimelineSlices,
    TimelineTo,
    TraceFile,
    command_line,
)
from lrpc.workloads.placing import place, told
from lrpc.workloads.placing.partition import SearchLimits
from lrpc.workloads.records.tables import check_parquet
from lrpc.workloads.replay import DEFAULT_PROCESSORS, MESSAGE_BYTES, contents
from lrpc.workloads.reports import terminal
from lrpc.workloads.reports.bars import spinner
from lrpc.workloads.reports.output import say_json
from lrpc.workloads.runs.jobs import ReplayJob
from lrpc.workloads.runs.planned import Options
from lrpc.workloads.traces import MOST_NESTED
from lrpc.workloads.traces.read import read_trace

LinkCosts = Annotated[
    Literal["model", "trace", "trace-median"],
    typer.Option(
        help="What a cross-machine call costs: what the cost model and the link say, gaps drawn from "
        "those that the trace recorded between the two domains, or their medians."
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        help="What the columns of a CSV file hold: role=Column, between commas, for times role=Column:unit.",
        show_default="found out by the header",
    ),
]
GroupOption = Annotated[
    str,
    typer.Option(
        help="Join domains that are alike: `service`, `instance` (none), or a regular expression that "
        "matches their names, joined by its first group.",
        show_default="instance",
    ),
]


WeightOption = Annotated[
    Literal["calls", "gaps", "bytes"],
    typer.Option(
        help="What a crossing weighs: each call alike, the gap that the trace recorded for it, or the bytes of its "
        "messages."
    ),
]
MessageBytes = Annotated[
    int, typer.Option(min=1, max=2**40, help="Bytes of a request or a response that no span tells the size of.")
]
Utilisation = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        max=1e6,
        help="Most that a machine may be busy in the busiest interval, of its processors.",
        show_default="0.6, or the smallest that can be met",
    ),
]
IntervalOption = Annotated[float, typer.Option(min=1e-6, max=1e9, help="Seconds of an interval.")]
ConstraintsFile = Annotated[
    Path | None,
    typer.Option(help="TOML file with pods that are [fixed], [together] or [apart].", show_default="none"),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        help="Placement to compare with: today, spread, pack, or a .toml file.",
        show_default="today if the trace names nodes, else spread",
    ),
]
Curve = Annotated[
    bool,
    typer.Option(help="Compare numbers of machines, from 1 on, in a quarter of --seconds or what is left of them."),
]
Kubernetes = Annotated[
    Path | None, typer.Option(help="File to write affinity rules for Kubernetes to.", show_default="none")
]
TopologyOption = Annotated[Literal["node", "zone"], typer.Option(help="What a machine is to Kubernetes.")]
Records = Annotated[
    Path | None, typer.Option(help="Folder for the records of both replays.", show_default="a new one under records/")
]
ForceFiles = Annotated[
    bool, typer.Option("--force", help="Replace the files and the records that are to be written, if they exist.")
]


def replay(
    trace: TraceFile,
    machines: MachinesOption,
    placement: Placement = "spread",
    capacity: CapacityOption = None,
    processors: Processors = DEFAULT_PROCESSORS,
    cost_model: CostModelName = "linux-python",
    link: LinkCosts = "model",
    link_delay_us: LinkDelay = 50.0,
    link_mbps: LinkMbps = 10_000.0,
    message_bytes: MessageBytes = MESSAGE_BYTES,
    columns: Columns = "",
    group: GroupOption = "",
    strict: Strict = False,
    max_depth: MaxDepth = MOST_NESTED,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: ReplayActors = None,
    links: ReplayLinks = None,
    address: Address = None,
    event_log: Events = None,
    timeline: Timeline = False,
    timeline_from: TimelineFrom = None,
    timeline_to: TimelineTo = None,
    timeline_slices: TimelineSlices = None,
    limit: LimitOption = MOST_PARTS,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Replay a trace of calls between pods on simulated machines.

    Prints the trace's row of Table I, and what its calls cost under the given placement of pods.
    """
    job = ReplayJob(
        trace=str(trace),
        machines=machines,
        placement=placement,
        capacity=capacity,
        processors=processors,
        cost_model=cost_model,
        link=link,
        link_delay_us=link_delay_us,
        link_mbps=link_mbps,
        message_bytes=message_bytes,
        columns=columns,
        group=group,
        strict=strict,
        max_depth=max_depth,
        seed=seed,
    )
    options = replace(
        _options(out, force, actors, links, address, event_log, dry_run),
        timeline=timeline_of(timeline, timeline_from, timeline_to, timeline_slices),
    )
    carry_out(job, options, limit=limit, as_json=as_json)


def find_placement(
    trace: TraceFile,
    machines: MachinesOption,
    slack: Slack = None,
    utilisation: Utilisation = None,
    interval: IntervalOption = 1.0,
    weight: WeightOption = "calls",
    message_bytes: MessageBytes = MESSAGE_BYTES,
    constraints: ConstraintsFile = None,
    baseline: Baseline = None,
    curve: Curve = True,
    nodes: SearchNodes = 20_000,
    seconds: SearchSeconds = 30.0,
    processors: Processors = DEFAULT_PROCESSORS,
    cost_model: CostModelName = "linux-python",
    link: LinkCosts = "model",
    link_delay_us: LinkDelay = 50.0,
    link_mbps: LinkMbps = 10_000.0,
    columns: Columns = "",
    group: GroupOption = "",
    strict: Strict = False,
    max_depth: MaxDepth = MOST_NESTED,
    out: PlacementFile = None,
    kubernetes: Kubernetes = None,
    topology: TopologyOption = "node",
    record: Records = None,
    force: ForceFiles = False,
    seed: Seed = 0,
    actors: ReplayActors = None,
    links: ReplayLinks = None,
    address: Address = None,
    limit: LimitOption = MOST_PARTS,
    parquet: Parquet = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Place a trace's pods for the least that crosses machines.

    Searches for the best placement under caps on what each machine may hold. The trace is then
    replayed with that placement and with today's, or `spread`, to compare the two.
    """
    check_result(as_json=as_json, dry_run=dry_run)
    if parquet:
        check_parquet()
    job = ReplayJob(
        trace=str(trace),
        machines=machines,
        processors=processors,
        cost_model=cost_model,
        link=link,
        link_delay_us=link_delay_us,
        link_mbps=link_mbps,
        message_bytes=message_bytes,
        columns=columns,
        group=group,
        strict=strict,
        max_depth=max_depth,
        seed=seed,
    )
    aims = place.Aims(slack, utilisation, interval, weight, constraints, baseline, kubernetes, topology, curve)
    options = _options(record, force, actors, links, address, None, dry_run)
    done = place.compare(job, aims, SearchLimits(nodes, seconds), options, command_line(), out=out, limit=limit)
    if done is not None and as_json:
        say_json(told.as_json(done) | {"report": str(told.write(done, parquet=parquet))})
    elif done is not None:
        console = terminal.make_console()
        for table in place.tables(done):
            terminal.print_table(console, table)
        report = told.write(done, parquet=parquet)
        terminal.print_lines(console, [*place.lines(done), f"report {report}", place.answer(done)])


def tell(
    trace: TraceFile,
    columns: Columns = "",
    group: GroupOption = "",
    strict: Strict = False,
    max_depth: MaxDepth = MOST_NESTED,
    as_json: AsJson = False,
) -> None:
    """Tell what is in a trace: its domains, services, hosts, kinds of spans, first spans and gaps.

    Tells also what was corrected or left out, and what a replay would assume.
    """
    with spinner(f"reading {trace}"):
        found = contents.tell(read_trace(trace, strict=strict, max_depth=max_depth, columns=columns, group=group))
    if as_json:
        say_json(contents.as_json(found))
        return
    console = terminal.make_console()
    terminal.print_counts(console, str(trace), found.counts)
    for table in found.tables:
        terminal.print_table(console, table)
    terminal.print_lines(console, found.lines)


def _options(
    out: Path | None,
    force: bool,
    actors: int | None,
    links: Literal["grpc", "memory"] | None,
    address: str | None,
    event_log: Path | None,
    dry_run: bool,
) -> Options:
    """Return how to carry out a replay: where it is predicted to be fastest, unless options say."""
    anywhere = actors is None and links is None and address is None
    way = links or ("memory" if actors == 0 else "grpc")
    return Options(out, force, actors, way, address, event_log, dry_run, anywhere)
