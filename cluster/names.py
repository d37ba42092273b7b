"""The name service of a cluster: which machine exports what."""

from lrpc.cluster.description import Cluster


class NameService:
    """Says which machine of a cluster exports what, and which interface that is."""

    def __init__(self, cluster: Cluster) -> None:
        self._exports = {
            export.name: (rank, export.server.interface.__name__)  # type: ignore[attr-defined]
            for rank, machine in enumerate(cluster.machines)
            for domain in machine.domains
            for export in domain.exports
        }

    def locate(self, name: str) -> tuple[int, str] | None:
        """Return the exporting machine's rank and the interface's name; None where nobody exports it."""
        return self._exports.get(name)
