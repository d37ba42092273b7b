"""Says what the columns of a CSV file hold: each has a role, and those of times a unit.

A layout is written as `role=Column`, between commas, as in `trace=TraceID,start=Begin:us`.
Published sets of traces have layouts here, which are found out by a file's header; `--columns`
gives one for any other file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.spans import shown

NEEDED: Final = ("trace", "span", "operation", "start")
PLACES: Final = ("pod", "service", "instance")  # one of which a file must have
ENDS: Final = ("end", "duration")  # of which it must have one
OPTIONAL: Final = ("parent", "host", "node", "kind", "peer", "request", "response")
UNITS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
TIMES: Final = ("start", "end", "duration")
ROLES: Final = (*NEEDED, *PLACES, *ENDS, *OPTIONAL)
# The columns of Alibaba's call graphs: calls of `caller` to `service`, numbered like chapters.
CALL_GRAPH: Final = ("path", "caller")


@dataclass(frozen=True)
class ColumnLayout:
    """The columns of a CSV file: by role the column's name, and for times the unit in ns."""

    columns: dict[str, str]
    units: dict[str, int]

    @property
    def is_call_graph(self) -> bool:
        """Return whether its rows are calls, whose places in a trace their numbers tell."""
        return "path" in self.columns

    def positions(self, header: Sequence[str]) -> dict[str, int] | None:
        """Return the position of each role's column in a header; None unless it has all once.

        Letters may be small or large.
        """
        found = [column.strip().lower() for column in header]
        if any(found.count(column.lower()) != 1 for column in self.columns.values()):
            return None
        return {role: found.index(column.lower()) for role, column in self.columns.items()}

    def missing(self, header: Sequence[str]) -> list[str]:
        """Return the names of its columns that a file's header does not have once."""
        found = [column.strip().lower() for column in header]
        return [column for column in self.columns.values() if found.count(column.lower()) != 1]


def _parsed(text: str) -> ColumnLayout:
    columns: dict[str, str] = {}
    units: dict[str, int] = {}
    for part in text.split(","):
        role, _, column = part.strip().partition("=")
        if role in TIMES:
            name, _, unit = column.rpartition(":")
            column, units[role] = (name, UNITS[unit]) if name and unit in UNITS else (column, 1)
        columns[role] = column
    return ColumnLayout(columns, units)


def layout_of(text: str) -> ColumnLayout:
    """Return the layout that `--columns` gives.

    Raises `Refused` for a role that there is not, or that is missing.
    """
    for part in text.split(","):
        role, equals, column = part.strip().partition("=")
        if not (equals and column) or role not in ROLES:
            known = f"roles are {', '.join(ROLES)}; units of times are {', '.join(UNITS)}"
            raise Refused(f"--columns: {shown(part)}: give role=Column, or role=Column:unit; {known}")
    found = _parsed(text)
    for one_of in (*((role,) for role in NEEDED), PLACES, ENDS):
        if not any(role in found.columns for role in one_of):
            raise Refused(f"--columns: no column for {' or '.join(one_of)}; add {one_of[0]}=Column")
    return found


OWN: Final = _parsed(
    "trace=TraceID,span=SpanID,parent=ParentID,pod=PodName,operation=OperationName,"
    "start=StartTimeUnixNano:ns,end=EndTimeUnixNano:ns"
)
PUBLISHED: Final = {
    "RCAEval": _parsed(
        "trace=traceID,span=spanID,parent=parentSpanID,service=serviceName,operation=operationName,"
        "start=startTime:us,duration=duration:us"
    ),
    "AIOps Challenge 2022": _parsed(
        "trace=trace_id,span=span_id,parent=parent_span,pod=cmdb_id,operation=operation_name,"
        "start=timestamp:ms,duration=duration:us"
    ),
    "Alibaba's MSCallGraph": _parsed(
        "trace=traceid,path=rpcid,caller=um,service=dm,kind=rpctype,operation=interface,"
        "start=timestamp:ms,duration=rt:ms"
    ),
}
