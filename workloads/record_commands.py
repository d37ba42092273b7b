"""The subcommands of `lrpc` that read what runs have left: reports on records, and event logs."""

from pathlib import Path
from typing import Annotated

import typer

from lrpc.kernel.errors import Refused
from lrpc.workloads.options import AsJson, Parquet
from lrpc.workloads.records import events
from lrpc.workloads.reports import page
from lrpc.workloads.reports.output import say, say_json, say_json_list


def make_report(
    record: Annotated[list[Path], typer.Argument(help="Folders of one or more records.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report.",
            show_default="report/ in the record's folder; for several, a new one under records/",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that exists already.")] = False,
    parquet: Parquet = False,
    as_json: AsJson = False,
) -> None:
    """Write a report on one record, or compare several.

    A report is a web page, Markdown and CSV files. It is made from the records; nothing is run.
    """
    folder = page.make(record, out, force=force, parquet=parquet)
    if as_json:
        say_json({"report": str(folder / page.PAGES[0])})
    else:
        say(f"report {folder / page.PAGES[0]}")


def show_events(
    log: Annotated[Path, typer.Argument(help="File that a run wrote with --events.")],
    digest_only: Annotated[bool, typer.Option("--digest", help="Print only the digest of the log.")] = False,
    in_words: Annotated[
        bool, typer.Option("--words", help="Print what happened in words, a line for each event.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the event log of a run as CSV, in words, or its digest.

    The digest of the log is that of the run. The columns of CSV are machine, virtual time in ns,
    event, subject and object.
    """
    if digest_only and in_words:
        raise Refused("--digest and --words exclude each other; leave one of the two out")
    if in_words and as_json:
        raise Refused("--words and --json exclude each other: JSON has the words too; leave one of the two out")
    if digest_only:
        found = events.digest(log)
        say_json({"digest": found}) if as_json else print(found)
        return
    if as_json:
        say_json_list(events.objects(log))
        return
    for line in events.words(log) if in_words else events.lines(log):
        print(line)
