"""The options that several commands share: their types, bounds and help texts."""

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from lrpc.kernel.errors import Refused
from lrpc.kernel.text import visible
from lrpc.workloads.traces import MOST_NESTED

TIMELINE_SLICES: Final = 100_000
MOST_SLICES: Final = 5_000_000  # two gigabytes of memory, if one machine has them all

Out = Annotated[
    Path | None,
    typer.Option(help="Folder to write the record to.", show_default="a new one under records/"),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace the record at --out, and the file at --events, if they exist.")
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random numbers; the same seed gives the same result.")
]
ACTORS: Final = "How many Ray actors the machines are divided among; 0 runs them in this process, without Ray."
LINKS: Final = "How messages between machines travel: over gRPC, or in memory (with 0 or 1 actors)."
ActorsOption = Annotated[
    int | None, typer.Option(help=ACTORS, show_default="one per machine, at most 8 or the processors here")
]
ReplayActors = Annotated[int | None, typer.Option(help=ACTORS, show_default="as many as are predicted to be fastest")]
LinksOption = Annotated[Literal["grpc", "memory"], typer.Option(help=LINKS)]
ReplayLinks = Annotated[
    Literal["grpc", "memory"] | None, typer.Option(help=LINKS, show_default="memory in this process, else grpc")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Use the Ray cluster whose head is at this host:port; this computer must be one of its nodes.",
        show_default=False,
    ),
]
Stay = Annotated[
    bool, typer.Option("--stay", help="Leave each machine on its actor, also where one actor for all is much faster.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one document of JSON.")]
TraceFile = Annotated[
    Path,
    typer.Argument(
        help="Trace, a file or a folder: CSV, JSON of Jaeger, OpenTelemetry or Zipkin, or OTLP; plain, gzip or zstd."
    ),
]
MachinesOption = Annotated[int, typer.Option(min=1, max=100_000, help="How many machines the pods are placed on.")]
Processors = Annotated[int, typer.Option(min=1, max=1024, help="Processors of each machine.")]
CostModelName = Annotated[str, typer.Option(help="Cost model: a name from `lrpc list`, or a .toml file.")]
Until = Annotated[
    float | None,
    typer.Option(
        min=0, max=1e15, help="Stop at this virtual time in microseconds, as a failed run.", show_default="the end"
    ),
]
Tracebacks = Annotated[
    bool,
    typer.Option("--tracebacks", help="Where code of yours fails the run, print its traceback before the last line."),
]
MaxCalls = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Stop after this many operations (traps and calls of every kind), as a failed run.",
        show_default="any number",
    ),
]
LinkDelay = Annotated[
    float, typer.Option(min=0.001, max=1e9, help="Delay of the links between machines, in microseconds.")
]
LinkMbps = Annotated[
    float, typer.Option(min=0.001, max=1e9, help="Bandwidth of the links between machines, in Mbit/s.")
]
Parquet = Annotated[
    bool, typer.Option("--parquet", help="Write each table of the page as Parquet too, which needs lrpc[parquet].")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a trace with a bad row. By default bad rows are left out.")
]
MaxDepth = Annotated[int, typer.Option(min=1, max=MOST_NESTED, help="Leave out traces whose spans nest deeper.")]
Placement = Annotated[
    str,
    typer.Option(
        help="Where pods are placed: spread (dealt out in turn, by name), pack (one machine is filled "
        "after another), or a .toml file."
    ),
]
CapacityOption = Annotated[
    int | None, typer.Option(min=1, help="Most pods on a machine, with pack.", show_default="pods / machines")
]
Events = Annotated[
    Path | None,
    typer.Option(
        "--events",
        help="Write a log of all events to this file, for `lrpc events`. Its digest is the run's.",
        show_default=False,
    ),
]
Timeline = Annotated[
    bool,
    typer.Option(
        "--timeline", help="Record who called whom when, step by step: a file in the record's folder, for Perfetto."
    ),
]
TimelineFrom = Annotated[
    float | None,
    typer.Option(help="Virtual time in microseconds at which the timeline begins.", show_default="the beginning"),
]
TimelineTo = Annotated[
    float | None, typer.Option(help="Virtual time in microseconds at which it ends.", show_default="the end")
]
TimelineSlices = Annotated[
    int | None,
    typer.Option(
        help="Most slices of the timeline, shared evenly by the machines; it ends where one has had its share.",
        show_default=f"{TIMELINE_SLICES:,}",
    ),
]
LimitOption = Annotated[
    int,
    typer.Option(min=1, help="Most machines, processors, domains, exports, imports and threads to prepare, in sum."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print what would run, without running it.")
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="Import your own servers and programs: module:NAME or path.py:NAME of an lrpc.Registry. Runs that code.",
        show_default=False,
    ),
]
Slack = Annotated[
    float | None,
    typer.Option(
        help="Most computation on a machine, in fair shares (all computation / machines); at least 1.",
        show_default="1.2, or the smallest that can be met",
    ),
]
SearchNodes = Annotated[
    int, typer.Option(min=1, max=2**31 - 1, help="End the search after this many nodes of the search tree.")
]
SearchSeconds = Annotated[
    float,
    typer.Option(min=0.1, max=1e6, help="End the search after this time; then another run may find another placement."),
]
PlacementFile = Annotated[
    Path | None,
    typer.Option(
        help="File to write the placement to, for `lrpc replay --placement`.",
        show_default="placement.toml beside the records",
    ),
]
SweepFolder = Annotated[
    Path,
    typer.Option(help="Folder for the records, the table and the report. An existing folder is resumed."),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=256,
        help="How many runs at a time. 0 runs them in this process, without Ray.",
        show_default="one per processor here",
    ),
]


def command_line() -> list[str]:
    """Return the command as records keep it, under the name `lrpc` however it was started."""
    return ["lrpc", *sys.argv[1:]]


def check_arguments() -> None:
    """Raise `Refused` where an argument, or the path of the current folder, is not UTF-8.

    Records keep both, as text.
    """
    try:
        here = os.getcwd()
    except OSError:
        raise Refused("the current folder is gone; go to another") from None
    for number, text in enumerate([here, *sys.argv[1:]]):
        try:
            text.encode()
        except UnicodeEncodeError:
            what = f"argument {number}" if number else "the current folder"
            raise Refused(f"{what}: {visible(text)}: not UTF-8; rename it") from None


def show_any_text() -> None:
    """Print what the terminal's encoding does not have as escapes, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
