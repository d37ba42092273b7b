"""Clusters of simulated machines: descriptions, links, actors and their synchronisation.

`description` reads a cluster from TOML, `machine` and `links` simulate it, `run` runs it to its
end. To learn how its machines are synchronised, read `synchronisation`, `reach`, `causes`, `paths`,
`nearest`, `synchronisation_state` and `relay`, in this order. To learn how it runs on several
processes, read `station`, `transport`, `peer`, `journal` and `actors`.
"""

import os

# Set before gRPC is imported: otherwise its core prints a line for each connection that ends, in
# between the output of a command.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
