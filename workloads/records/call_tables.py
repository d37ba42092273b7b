"""Tables of who called what, made from the latencies that machines counted.

Each machine keeps one latency histogram per route: calling domain, exporting domain, export and
procedure. This module turns the histograms into rows of a record, and merges them by procedure.

Calls that did not return have no latency. The machine counts them only by what they crossed, so
they form one row per machine and crossing. With these rows, a machine's calls add up to its counts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from lrpc.cluster.description import Cluster
from lrpc.cluster.machine import MachineOutcome
from lrpc.kernel.simulated.histogram import Histogram, Route, bounds

Crossing = Literal["within_domain", "cross_domain", "cross_machine"]
CROSSINGS: Final[tuple[Crossing, ...]] = ("within_domain", "cross_domain", "cross_machine")
# What people read for each, everywhere: one phrase for one thing.
IN_WORDS: Final[Mapping[str, str]] = {
    "within_domain": "within-domain calls",
    "cross_domain": "cross-domain calls",
    "cross_machine": "cross-machine calls",
}
LEAVING: Final = "calls that leave their domain"  # cross-domain and cross-machine calls together
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Calls:
    """The calls of one procedure from one domain, with latencies in virtual microseconds.

    Calls that did not return (the procedure raised, or the caller was released) have no latency.
    One row per machine and crossing counts them; its names of domains, export and procedure are
    empty.
    """

    client_machine: str
    client_domain: str
    server_machine: str
    server_domain: str
    export: str
    procedure: str
    crosses: Crossing
    calls: int
    mean_us: float | None
    p50_us: float | None
    p90_us: float | None
    p99_us: float | None
    max_us: float | None


def who_called_what(cluster: Cluster, machines: Sequence[MachineOutcome]) -> list[Calls]:
    """Return the calls of every machine, one row per caller and procedure.

    The rows of a machine add up to its counts.
    """
    places = {
        export.name: (machine.name, domain.name)
        for machine in cluster.machines
        for domain in machine.domains
        for export in domain.exports
    }
    rows: list[Calls] = []
    for machine in machines:
        returned = Counter[str]()
        for route in sorted(machine.latencies, key=_order):
            if machine.latencies[route].count:
                row = _row(machine.name, route, machine.latencies[route], places)
                rows.append(row)
                returned[row.crosses] += row.calls
        for crosses in CROSSINGS:
            if missing := machine.counts[crosses] - returned[crosses]:
                rows.append(Calls(machine.name, "", "", "", "", "", crosses, missing, *[None] * 5))
    return rows


def latencies(machines: Sequence[MachineOutcome]) -> dict[str, Histogram]:
    """Return the latencies of each called procedure, merged over its callers.

    Keys are `export.procedure`, in order.
    """
    merged: dict[str, Histogram] = {}
    for machine in machines:
        for route, histogram in machine.latencies.items():
            if histogram.count:
                merged.setdefault(f"{route.export}.{route.procedure}", Histogram()).merge(histogram)
    return dict(sorted(merged.items()))


def latency(histogram: Histogram) -> dict[str, float]:
    """Return the count, mean, quantiles and maximum of a histogram, in microseconds.

    The histogram must not be empty. Quantiles are within a hundredth of the exact values.
    """
    found = histogram.quantiles(list(QUANTILES.values()))
    mean = histogram.total / histogram.count / 1000
    return {"count": histogram.count, "mean": mean} | {
        name: ns / 1000 for name, ns in zip(QUANTILES, found, strict=True)
    }


def buckets(histogram: Histogram) -> dict[str, int]:
    """Return how many calls each bucket counted, by its bounds in ns.

    A key reads "from-to"; `to` itself is not in the bucket.
    """
    return {"{}-{}".format(*bounds(bucket)): calls for bucket, calls in sorted(histogram.buckets.items())}


def _order(route: Route) -> tuple[str, ...]:
    return route.client, route.export, route.procedure, route.server or ""


def _row(machine: str, route: Route, histogram: Histogram, places: Mapping[str, tuple[str, str]]) -> Calls:
    crosses: Crossing
    if route.server is None:
        crosses, (server_machine, server_domain) = "cross_machine", places[route.export]
    else:
        crosses = "within_domain" if route.server == route.client else "cross_domain"
        server_machine, server_domain = machine, route.server
    found = latency(histogram)
    return Calls(
        machine,
        route.client,
        server_machine,
        server_domain,
        route.export,
        route.procedure,
        crosses,
        histogram.count,
        *(found[name] for name in ("mean", *QUANTILES)),
    )
