"""Lightweight RPC: a cluster to simulate, a kernel to use, and the question of where calls cross."""

__version__ = "0.1.0"
