"""The name service of a cluster: which machine exports which name."""

from lrpc.cluster.description import Cluster, construct


class NameService:
    """Finds exports of a cluster by name, from its description."""

    def __init__(self, cluster: Cluster) -> None:
        self._exports = {
            export.name: (rank, export)
            for rank, machine in enumerate(cluster.machines)
            for domain in machine.domains
            for export in domain.exports
        }
        # A cache: `locate` is called for every call that leaves a machine.
        self._located: dict[str, tuple[int, str]] = {}

    def locate(self, name: str) -> tuple[int, str] | None:
        """Return the exporting machine's rank and the interface's name, or None.

        None means that no machine exports the name.
        """
        if name not in self._exports:
            return None
        if name not in self._located:
            rank, export = self._exports[name]
            interface, _ = construct(export.server, export.parameters, name).module()
            self._located[name] = rank, interface.interface.__name__
        return self._located[name]
