"""Draws the slowest traces of a replay: each span as a bar, from when it began to when it ended."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final

from lrpc.workloads.records.call_tables import CROSSINGS
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import SLOWEST, Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.words import FIELDS, shortened, span, time_unit

TEXTS: Final = ("trace", "domain", "operation", "crosses")
FIGURES: Final = ("simulated_us", "spans", "begins_us", "takes_us")
FIRST: Final = "first span"
KINDS_OF_SPANS: Final = (FIRST, *(FIELDS[crosses] for crosses in CROSSINGS))
IDENTIFIER: Final = 16  # most characters of a trace's in a title


def waterfalls(record: Record) -> Iterator[Plot | Table]:
    """Yield a picture of each of the slowest traces of a replay, and the table of their spans."""
    for table in () if record.trace is None else record.trace.more:
        if table.name != SLOWEST or not {*TEXTS, *FIGURES} <= set(table.columns):
            continue
        rows = [row for row in (dict(zip(table.columns, one, strict=False)) for one in table.rows) if _is_whole(row)]
        for _, spans in groupby(rows, lambda row: row["trace"]):
            yield _waterfall(list(spans))
        if rows:
            yield table


def _is_whole(row: Mapping[str, TableValue]) -> bool:
    """Return whether a row of a file has texts and figures where they belong."""
    texts = all(isinstance(row.get(name), str) for name in TEXTS)
    return texts and all(isinstance(row.get(name), int | float) for name in FIGURES)


def _waterfall(spans: list[Mapping[str, TableValue]]) -> Plot:
    """Return the picture of one trace. Bars are coloured by what the calls cross."""
    begins, takes = ([_figure(row, name) for row in spans] for name in ("begins_us", "takes_us"))
    scale, unit = time_unit(max(begin + took for begin, took in zip(begins, takes, strict=True)))
    first = spans[0]
    kinds = [FIELDS.get(str(row["crosses"]), FIRST) for row in spans]
    named = f"{shortened(str(first['trace']), IDENTIFIER)}, {first['domain']}: {first['operation']}"
    took = f"{span(takes[0])} as recorded, {span(_figure(first, 'simulated_us'))} in the replay"
    some = f"; the {len(spans)} longest of {first['spans']:,} spans" if len(spans) != first["spans"] else ""
    return plots.waterfall(
        f"{named}: {took}{some}",
        [f"{row['domain']} {row['operation']}" for row in spans],
        kinds,
        [begin / scale for begin in begins],
        [us / scale for us in takes],
        f"{unit} from its beginning, as recorded",
        KINDS_OF_SPANS,
    )


def _figure(row: Mapping[str, TableValue], name: str) -> float:
    value = row[name]
    return float(value) if isinstance(value, int | float) else 0.0
