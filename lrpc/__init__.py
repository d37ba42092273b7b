"""Lightweight RPC (Bershad, Anderson, Lazowska, Levy; SOSP 1989), alive in Python."""

__version__ = "0.1.0"
