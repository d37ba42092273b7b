"""Replays the spans of a trace as calls between domains, under a placement on machines."""

from typing import Final, Literal

LinkCost = Literal["model", "trace", "trace-median"]
DEFAULT_PROCESSORS: Final = 16
MESSAGE_BYTES: Final = 4  # of a replay's own requests and responses
