"""The name service of a cluster: which machine exports what."""

from lrpc.cluster.description import Cluster, construct


class NameService:
    """Says which machine of a cluster exports what, and which interface that is."""

    def __init__(self, cluster: Cluster) -> None:
        self._exports = {
            export.name: (rank, export)
            for rank, machine in enumerate(cluster.machines)
            for domain in machine.domains
            for export in domain.exports
        }
        self._located: dict[str, tuple[int, str]] = {}  # asked for on every call that leaves a machine

    def locate(self, name: str) -> tuple[int, str] | None:
        """Return the exporting machine's rank and the interface's name; None where nobody exports it."""
        if name not in self._exports:
            return None
        if name not in self._located:
            rank, export = self._exports[name]
            interface, _ = construct(export.server, export.parameters, name).module()
            self._located[name] = rank, interface.interface.__name__
        return self._located[name]
