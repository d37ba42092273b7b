"""Reads a trace: a file in CSV, JSON or OTLP's protobuf, plain or compressed, or a folder of files.

The format is recognised by the content, not by the file's name, since exports carry all sorts of
names. Every row goes through the checks of `rows`: what cannot be trusted is left out and reported,
so that one bad row does not cost a whole trace. A file that cannot be read at all is refused. The
size is limited before and after unzipping, so that a small gzip file cannot fill the memory.
"""

import codecs
import os
from pathlib import Path
from typing import Final

from lrpc.kernel.collector import collector_paused
from lrpc.workloads.traces import MOST_NESTED
from lrpc.workloads.traces.clocks import corrected
from lrpc.workloads.traces.compressed import unpacked
from lrpc.workloads.traces.depth import without_deep
from lrpc.workloads.traces.formats import csv_rows, json_rows, otlp_protobuf
from lrpc.workloads.traces.formats.columns import ColumnLayout, layout_of
from lrpc.workloads.traces.rows import Misshapen, RowCollector
from lrpc.workloads.traces.spans import AnyPath, Reason, TraceRefused, shown
from lrpc.workloads.traces.trace import Trace

MOST_BYTES: Final = 1 << 30  # the largest trace, also after it is unzipped
MOST_FILES: Final = 10_000  # in a folder


@collector_paused(without_cycles=True)
def read_trace(
    path: AnyPath,
    *,
    strict: bool = False,
    max_depth: int = MOST_NESTED,
    columns: str = "",
    group: str = "",
) -> Trace:
    """Read a trace from a file, whose form is found out by looking, or from all files of a folder.

    The columns of a CSV file are found out by its header, or given by `columns`
    (`formats.columns`). The parent of a trace's first span is `root` or empty. JSON is one
    document, or one on each line. Spans of a folder's files are one trace set: in which of them a
    span is makes no difference.

    A span's domain is found by the rule in `sources`, whatever the format; `group` joins those that
    are alike. Times are corrected by `clocks`.

    Bad rows are left out together with all their descendants, and traces that nest deeper than
    `max_depth` spans; all are listed in `left_out`.

    Raises `TraceRefused` if a file cannot be read, is too large or has no good span; with `strict`,
    also at the first bad row.
    """
    name = shown(os.fspath(path), limit=None, quote=False)
    layout = layout_of(columns) if columns else None
    files = trace_files(path)
    names = [shown(os.fspath(file), limit=None, quote=False) for file in files]
    collector = RowCollector(names)
    left = MOST_BYTES
    for file, shown_name in zip(files, names, strict=True):
        try:
            left -= _add(file, shown_name, collector, layout, left)
        except Misshapen as wrong:
            raise TraceRefused(shown_name, wrong.key, f"{wrong.message}; correct the file") from None
    try:
        trace = collector.trace(group)
    except Misshapen as wrong:
        raise TraceRefused(name, wrong.key, wrong.message) from None
    trace = without_deep(trace, max_depth)
    _refuse_if_useless(name, trace, strict)
    return corrected(trace)


def trace_files(path: AnyPath) -> list[Path]:
    """Return the files of a trace, in the order of their names: itself, or those of a folder.

    Hidden files and folders within are no part of it. Raises `TraceRefused` for a folder without
    files, or with more than `MOST_FILES`.
    """
    try:
        whole = Path(path)
        if not whole.is_dir():
            return [whole]
        files = sorted(file for file in whole.iterdir() if not file.name.startswith(".") and file.is_file())
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL byte
        why = error.strerror if isinstance(error, OSError) else error
        name = shown(os.fspath(path), limit=None, quote=False)
        raise TraceRefused(name, "whole file", f"cannot be read ({why}); check its path and permissions") from None
    name = shown(os.fspath(path), limit=None, quote=False)
    if not files:
        raise TraceRefused(name, "whole folder", "has no file in it; give a file, or a folder of them")
    if len(files) > MOST_FILES:
        raise TraceRefused(name, "whole folder", f"has more than {MOST_FILES} files; give a part of it")
    return files


def _add(path: Path, name: str, collector: RowCollector, layout: ColumnLayout | None, most: int) -> int:
    """Add a file's spans to `collector`; return its size in bytes once it is unzipped."""
    data = _content(path, name, most)
    is_json, is_protobuf = json_rows.is_json(data), otlp_protobuf.is_protobuf(data)
    if layout is not None and (is_json or is_protobuf):
        form = "JSON" if is_json else "protobuf"
        raise TraceRefused(name, "whole file", f"is {form}, which has no columns; leave --columns out")
    if is_json:
        json_rows.read(name, data, collector)
    elif is_protobuf:
        otlp_protobuf.read(name, data, collector)
    else:
        csv_rows.read(name, data, collector, layout)
    return len(data)


def _refuse_if_useless(name: str, trace: Trace, strict: bool) -> None:
    if trace.left_out and (strict or not trace.spans):
        first = trace.left_out[0]
        remedy = "correct it" if trace.spans else f"none of {len(trace.left_out)} rows is good; correct the file"
        if first.reason is Reason.TOO_DEEP:
            remedy = f"raise --max-depth, to {MOST_NESTED} at most, or leave that trace out"
        raise TraceRefused(name, first.place, f"{first.reason}: {first.detail}; {remedy}")
    if not trace.spans:
        raise TraceRefused(name, "whole file", "holds no spans; record the trace again")


def _content(path: Path, name: str, most: int) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a device may have no end, and a pipe may never begin
            raise TraceRefused(name, "whole file", "is not a regular file; give a file, or a folder of them")
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL byte
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceRefused(name, "whole file", f"cannot be read ({why}); check its path and permissions") from None
    data = unpacked(name, data, most)
    if len(data) > most:
        raise TraceRefused(name, "whole file", f"holds more than {MOST_BYTES} bytes; give a smaller part of it")
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data or data.isspace():
        raise TraceRefused(name, "whole file", "is empty; record the trace again")
    return data
