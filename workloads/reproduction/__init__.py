"""Reproduces the paper's tables and figures on simulated machines."""

from typing import Final

CALLS: Final = 100_000  # of each test, in a whole reproduction
PARTS: Final = ("I", "Figure 1", "II", "III", "IV", "V", "Figure 2", "Firefly RPC")
