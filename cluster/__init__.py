"""Machines and what joins them: descriptions, actors, links, names and virtual-time synchronisation."""

import os

# Before gRPC is imported: its core would tell of every connection's end among what a command says.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
