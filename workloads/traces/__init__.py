"""Reads traces (CSV, Jaeger, OpenTelemetry) and leaves out what cannot be trusted."""

from typing import Final

MOST_NESTED: Final = 72  # what every build manages: the recursion of Python 3.11, interpreted, ends at 78
