"""Reads a trace file in CSV, JSON or OTLP's protobuf, plain or compressed with gzip or zstd.

The format is recognised by the content, not by the file's name, since exports carry all sorts of
names. Every row goes through the checks of `rows`: what cannot be trusted is left out and reported,
so that one bad row does not cost a whole trace. A file that cannot be read at all is refused. The
size is limited before and after unzipping, so that a small gzip file cannot fill the memory.
"""

import codecs
import gzip
import io
import os
import zlib
from typing import Final

import zstandard

from lrpc.workloads.traces import csv_rows, json_rows, otlp_protobuf
from lrpc.workloads.traces.clocks import corrected
from lrpc.workloads.traces.depth import MOST_NESTED, without_deep
from lrpc.workloads.traces.spans import AnyPath, Reason, Trace, TraceRefused, shown

MOST_BYTES: Final = 1 << 30  # the largest file, also after it is unzipped


def read_trace(path: AnyPath, *, strict: bool = False, max_depth: int = MOST_NESTED) -> Trace:
    """Read a trace file, whose form is found out by looking, plain, gzipped or in zstd.

    CSV needs the columns `csv_rows.COLUMNS`, in any order; other columns are ignored. The ParentID
    of a trace's first span is `root` or empty. JSON is one document, or one on each line.

    A span's domain is found by the rule in `sources`, whatever the format. Times are corrected by
    `clocks`.

    Bad rows are left out together with all their descendants, and traces that nest deeper than
    `max_depth` spans; all are listed in `left_out`.

    Raises `TraceRefused` if the file cannot be read, is too large or has no good span; with
    `strict`, also at the first bad row.
    """
    name = shown(os.fspath(path), limit=None, quote=False)
    data = _content(path, name)
    if json_rows.is_json(data):
        trace = json_rows.read(name, data).trace()
    elif otlp_protobuf.is_protobuf(data):
        trace = otlp_protobuf.read(name, data).trace()
    else:
        trace = csv_rows.read(name, data).trace()
    trace = without_deep(trace, max_depth)
    _refuse_if_useless(name, trace, strict)
    return corrected(trace)


def _refuse_if_useless(name: str, trace: Trace, strict: bool) -> None:
    if trace.left_out and (strict or not trace.spans):
        first = trace.left_out[0]
        remedy = "correct it" if trace.spans else f"none of {len(trace.left_out)} rows is good; correct the file"
        if first.reason is Reason.TOO_DEEP:
            remedy = f"raise --max-depth, to {MOST_NESTED} at most, or leave that trace out"
        raise TraceRefused(name, first.place, f"{first.reason}: {first.detail}; {remedy}")
    if not trace.spans:
        raise TraceRefused(name, "whole file", "holds no spans; record the trace again")


def _content(path: AnyPath, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL byte
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceRefused(name, "whole file", f"cannot be read ({why}); check its path and permissions") from None
    if data.startswith(b"\x1f\x8b"):
        data = _unzipped(name, data)
    elif data.startswith(zstandard.FRAME_HEADER):
        data = _of_zstd(name, data)
    if len(data) > MOST_BYTES:
        raise TraceRefused(name, "whole file", f"holds more than {MOST_BYTES} bytes; give a smaller part of it")
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data or data.isspace():
        raise TraceRefused(name, "whole file", "is empty; record the trace again")
    return data


def _unzipped(name: str, data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return file.read(MOST_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        place, why = f"{len(data)} bytes of gzip", shown(str(error), quote=False)
        raise TraceRefused(name, place, f"cut short or damaged ({why}); copy the file again") from None


def _of_zstd(name: str, data: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
            return stream.read(MOST_BYTES + 1)
    except zstandard.ZstdError as error:
        place, why = f"{len(data)} bytes of zstd", shown(str(error), quote=False)
        raise TraceRefused(name, place, f"damaged ({why}); copy the file again") from None
