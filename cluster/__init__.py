"""Simulated machines and what joins them: descriptions, links, actors and their synchronisation.

`description` reads a cluster from TOML, `machine` and `links` simulate it, `run` runs it to its
end. How it is kept in step in virtual time is explained, in this order, in `synchronisation`,
`reach`, `causes`, `paths`, `synchronisation_state` and `relay`; how it runs on several processes, in `station`,
`transport`, `peer`, `journal` and `actors`.
"""

import os

# Set before gRPC is imported: otherwise its core prints a line for each connection that ends, in
# between the output of a command.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
