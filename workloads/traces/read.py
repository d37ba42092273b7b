"""Reads a trace (CSV, Jaeger's or OpenTelemetry's JSON, plain or gzipped) and leaves out what cannot be trusted."""

import codecs
import gzip
import io
import os
import zlib
from typing import Final

from lrpc.workloads.traces import csv_rows, json_rows
from lrpc.workloads.traces.spans import AnyPath, Trace, TraceRefused, shown

MOST_BYTES: Final = 1 << 30  # of a file, once it is unzipped


def read_trace(path: AnyPath, *, strict: bool = False) -> Trace:
    """Reads a trace: CSV, Jaeger's JSON or OTLP's; the content, not the name, says which, and whether it is gzipped.

    CSV needs the columns `csv_rows.COLUMNS`, in any order, others beside; a first span's ParentID is `root` or empty.
    JSON is one document, or a document on each line. A span's pod is, in Jaeger's, its process's tag `k8s.pod.name`,
    `pod` or `hostname`, else its serviceName; in OTLP's, its resource's attribute `k8s.pod.name`,
    `service.instance.id`, `host.name` or `service.name`.

    Bad rows are left out with all their descendants, and named in `left_out`; with `strict` the first of them
    refuses the file. Raises `TraceRefused` for a file that cannot be read, is too large or has no good span.
    """
    name = shown(os.fspath(path), limit=None, quote=False)
    data = _content(path, name)
    if json_rows.is_json(data):
        trace = json_rows.read(name, data).trace()
    else:
        trace = csv_rows.read(name, data).trace()
    _refuse_if_useless(name, trace, strict)
    return trace


def _refuse_if_useless(name: str, trace: Trace, strict: bool) -> None:
    if trace.left_out and (strict or not trace.spans):
        first = trace.left_out[0]
        mend = "correct it" if trace.spans else f"none of {len(trace.left_out)} is good; correct the file"
        raise TraceRefused(name, first.place, f"{first.reason}: {first.detail}; {mend}")
    if not trace.spans:
        raise TraceRefused(name, "whole file", "holds no spans; record the trace again")


def _content(path: AnyPath, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceRefused(name, "whole file", f"cannot be read ({why}); check path and rights") from None
    if data.startswith(b"\x1f\x8b"):
        data = _unzipped(name, data)
    if len(data) > MOST_BYTES:
        raise TraceRefused(name, "whole file", f"holds more than {MOST_BYTES} bytes; give a part of it")
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
