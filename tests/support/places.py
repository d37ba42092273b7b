"""Paths: the checkout, the sample traces in it, and the real traces that may lie beside it."""

from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
SAMPLE: Final = PROJECT / "workloads" / "traces" / "sample-trace.csv"
SAMPLE_OTLP: Final = PROJECT / "workloads" / "traces" / "sample-trace.otlp.jsonl"
REAL_TRACES: Final = PROJECT.parent / "shared" / "traces"  # in some checkouts only
