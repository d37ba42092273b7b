"""Which messages a machine can send on its own, and which because of a message that it receives.

A message sets off only what its domain leads to. A call makes its server's domain run, and with it
the domains that this one imports from. A reply makes the domain run that had called, and the
domains whose calls that one was serving. Nothing else can follow from the message before another
event. So a chain of messages ends where no domain could pass it on. The promises between machines
(`reach`) are therefore wider than if any message could set off any other.

A call that arrives could also end a wait inside its server, so that another call in progress there
returns. A server that is `independent` promises that this never happens. Where an export's server
is not, a call to its domain is taken to let calls in progress there return.
"""

from dataclasses import dataclass

from lrpc.cluster.description import Cluster

DomainKey = tuple[int, int]  # a machine's rank, and the number of a domain on that machine


@dataclass(frozen=True, slots=True)
class Hop:
    """A kind of message between machines: a call to a domain, or the reply to a call it made."""

    to: DomainKey
    reply: bool


class Causes:
    """The messages that can follow from each other in a cluster, by its declared imports."""

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

    def initial(self, rank: int) -> set[Hop]:
        """Return the messages that a machine may send to others, whatever happens on it."""
        return self._sent(self._domains[rank], self._domains[rank])

    def caused_by(self, hop: Hop) -> set[Hop]:
        """Return the messages to other machines that one message may cause before another event."""
        active: set[DomainKey] = set()  # domains that may run
        returning: set[DomainKey] = set()  # those of them whose calls in progress may return
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
        """Return the calls that active domains send to other machines, and the replies."""
        calls = {Hop(server, False) for place in active for server in self._servers[place] if server[0] != place[0]}
        replies = {Hop(client, True) for place in returning for client in self._clients[place] if client[0] != place[0]}
        return calls | replies
