"""What may come of what: which messages a machine can send of itself, and which because of one that it was sent."""

from dataclasses import dataclass

from lrpc.cluster.description import Cluster

DomainKey = tuple[int, int]  # a machine's rank, and the number of a domain on it


@dataclass(frozen=True, slots=True)
class Hop:
    """A kind of message, by where it goes: a call to a domain, or the reply to a call that one had made."""

    to: DomainKey
    reply: bool


class Causes:
    """Follows calls from domain to domain, by what these declare to import and export.

    A call may have its server call others, on this machine and elsewhere. It has no other call go on, unless a server
    that it comes to is not `independent`: then calls in progress there may return. A reply has the domain that called
    go on, and with it those whose calls that was serving.
    """

    def __init__(self, cluster: Cluster) -> None:
        domains = {
            (rank, number): domain
            for rank, machine in enumerate(cluster.machines)
            for number, domain in enumerate(machine.domains)
        }
        exporters = {export.name: place for place, domain in domains.items() for export in domain.exports}
        self._servers = {
            place: {exporters[name] for name in domain.imports.values()} for place, domain in domains.items()
        }
        self._clients: dict[DomainKey, set[DomainKey]] = {place: set() for place in domains}
        for client, servers in self._servers.items():
            for server in servers:
                self._clients[server].add(client)
        self._dependent = {
            place
            for place, domain in domains.items()
            if not all(export.server.independent for export in domain.exports)
        }
        self._domains = [
            {(rank, number) for number in range(len(machine.domains))} for rank, machine in enumerate(cluster.machines)
        ]

    def begun_by(self, rank: int) -> set[Hop]:
        """Return the messages to other machines that a machine may send, whatever happens on it."""
        return self._sent(self._domains[rank], self._domains[rank])

    def follow(self, hop: Hop) -> set[Hop]:
        """Return the messages to other machines that may be sent because one arrived, before anything else happens."""
        active: set[DomainKey] = set()  # something is done there
        returning: set[DomainKey] = set()  # and calls that were in progress there may return
        found = [(hop.to, hop.reply or hop.to in self._dependent)]
        while found:
            place, returns = found.pop()
            if place in returning or (place in active and not returns):
                continue
            active.add(place)
            found += [(server, server in self._dependent) for server in self._servers[place] if server[0] == place[0]]
            if returns:
                returning.add(place)
                found += [(client, True) for client in self._clients[place] if client[0] == place[0]]
        return self._sent(active, returning)

    def _sent(self, active: set[DomainKey], returning: set[DomainKey]) -> set[Hop]:
        calls = {Hop(server, False) for place in active for server in self._servers[place] if server[0] != place[0]}
        replies = {Hop(client, True) for place in returning for client in self._clients[place] if client[0] != place[0]}
        return calls | replies
