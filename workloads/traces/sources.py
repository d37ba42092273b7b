"""Says whose each span is: which domain it ran in, and by what name that domain is shown.

One rule holds for every format, so that the same spans give the same domains whatever wrote them. A
span's domain is its pod, by the pod's name; else the instance of its service, by service and
instance together; else its service on its host; else its service. The host alone never names a
domain: a computer of a developer runs all services of a system.

Names shown are the shortest that are unique: `cart` where one domain is of the service `cart`,
`cart/7f3a` or `cart@node-2` where several are.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

# The attributes, and tags of Jaeger's, that name each part of a source, the best first.
ATTRIBUTES: Final = {
    "service": ("service.name",),
    "instance": ("service.instance.id",),
    "pod": ("k8s.pod.name", "pod"),
    "host": ("host.name", "hostname"),
    "node": ("k8s.node.name",),
}


class Source(NamedTuple):
    """What a trace says of where a span ran; what it does not say is empty."""

    service: str = ""
    instance: str = ""
    pod: str = ""
    host: str = ""
    node: str = ""

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> "Source":
        """Return what attributes say, by their names in `ATTRIBUTES`."""
        found = (next((text for name in names if (text := attributes.get(name))), "") for names in ATTRIBUTES.values())
        return cls(*found)

    @property
    def domain(self) -> "Source":
        """Return what tells this source's domain from others; empty if nothing does."""
        if self.pod:
            return Source(pod=self.pod)
        if self.instance:
            return Source(self.service, self.instance)
        return Source(self.service, host=self.host) if self.service else NOWHERE

    @property
    def clock(self) -> "Source":
        """Return what tells the clock that timed this source's spans: its node, host or domain."""
        machine = self.node or self.host
        return Source(host=machine) if machine else self.domain

    def names(self) -> tuple[str, ...]:
        """Return the names that a domain can be shown by, the shortest first."""
        if self.pod:
            return (self.pod, f"pod {self.pod}")
        if self.instance:
            return (self.service or self.instance, f"{self.service}/{self.instance}")
        return (self.service, f"{self.service}@{self.host}" if self.host else f"service {self.service}")


NOWHERE: Final = Source()

MOST_SHOWN: Final = 12  # names in a message
# How Kubernetes names pods: a deployment's have two hashes, a daemon set's one, a stateful set's a
# number.
_SAFE: Final = "bcdfghjklmnpqrstvwxz2456789"
POD: Final = re.compile(rf"(.+?)(?:-[{_SAFE}]{{6,10}}-[{_SAFE}]{{5}}|-[{_SAFE}]{{5}}|-[0-9]{{1,4}})")


def named(domains: Iterable[Source]) -> dict[Source, str]:
    """Return a name for each domain: the shortest that no other has.

    Two that have the same longest name, since a name holds `/` or `@`, are numbered in order.
    """
    names: dict[Source, str] = {}
    left = sorted(set(domains))
    for length in range(2):
        offered = Counter(domain.names()[length] for domain in left)
        taken = set(names.values())
        unique = {domain: name for domain in left if offered[name := domain.names()[length]] == 1 and name not in taken}
        names |= unique
        left = [domain for domain in left if domain not in unique]
    taken = set(names.values())
    for domain in left:
        number = 2
        while (name := f"{domain.names()[1]} ({number})") in taken:
            number += 1
        taken.add(name)
        names[domain] = name
    return names


def named_in_groups(sources: Iterable[Source], group: str) -> dict[Source, str]:
    """Return the name of each source's domain, where `group` joins domains that are alike.

    `instance`, or nothing, joins none. `service` joins the instances of a service; a pod without a
    service's name counts by its own, without what Kubernetes adds to a deployment's. Any other text
    is a regular expression: domains whose names match it are joined under the part in its first
    group, or all that matched.

    Raises `ValueError`, with what is there, for an expression that is none or matches no name.
    """
    sources = list(sources)
    if group == "service":
        return {source: source.service or workload_of(source.pod) for source in sources}
    names = named(source.domain for source in sources)
    shown = {source: names[source.domain] for source in sources}
    if group in ("", "instance"):
        return shown
    try:
        pattern = re.compile(group)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{group!r} is no regular expression ({error}); give service, instance or one") from None
    found = {name: match for name in names.values() if (match := pattern.search(name))}
    if not found:
        some = ", ".join(sorted(names.values())[:MOST_SHOWN])
        raise ValueError(f"{group!r} matches no domain; there are {some}" + (", …" if len(names) > MOST_SHOWN else ""))
    joined = {name: (match[1] if pattern.groups else match[0]) or name for name, match in found.items()}
    return {source: joined.get(name, name) for source, name in shown.items()}


def workload_of(pod: str) -> str:
    """Return the name of the deployment, daemon set or stateful set that a pod is of."""
    match = POD.fullmatch(pod)
    return match[1] if match else pod
