"""Reports the counters of a domain as OpenTelemetry metrics.

A reader of metrics asks for them when it collects, so that a call does nothing for them. Only this
module imports OpenTelemetry, when it is asked to.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from lrpc.kernel.errors import Refused

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from lrpc.domains.host.domain import HostDomain

# By the metric's name: what of the totals it is, its unit and what it says.
COUNTERS: Final = {
    "lrpc.server.calls": ("calls", "{call}", "Calls that procedures of an export have executed"),
    "lrpc.server.calls.aborted": ("aborted", "{call}", "Calls whose callers had left before they returned"),
    "lrpc.server.waits.spinning": ("spun", "{wait}", "Calls that found a worker spinning"),
    "lrpc.server.waits.sleeping": ("slept", "{wait}", "Calls that had to wake a worker"),
}
LEVELS: Final = {
    "lrpc.server.bindings": ("bindings", "{binding}", "Clients that are bound to an export"),
    "lrpc.server.astacks.busy": ("busy", "{astack}", "A-stacks whose procedure runs"),
}


def instrument(domain: "HostDomain", meter: "Meter | None") -> None:
    """Report a domain's totals by a meter; see `HostDomain.instrument`."""
    try:
        from opentelemetry.metrics import Observation, get_meter
    except ImportError as error:
        raise Refused(f"metrics need OpenTelemetry ({error}): pip install opentelemetry-api") from None
    made = get_meter("lrpc") if meter is None else meter

    def observe(name: str) -> "Callable[[CallbackOptions], Iterable[Observation]]":
        return lambda options: [
            Observation(counts[name], {"lrpc.domain": domain.name, "lrpc.export": export})
            for export, counts in domain.served().items()
        ]

    for metric, (name, unit, description) in COUNTERS.items():
        made.create_observable_counter(metric, [observe(name)], unit, description)
    for metric, (name, unit, description) in LEVELS.items():
        made.create_observable_up_down_counter(metric, [observe(name)], unit, description)
