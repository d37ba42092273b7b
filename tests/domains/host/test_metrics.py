"""Counters of a domain: they outlive the bindings that they count for, and are metrics too."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, NoOpMeter, Observation

import lrpc
from lrpc.domains.host.here import this_machine
from tests.support.host import Shop, shop, until

Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Collecting(NoOpMeter):
    """A meter that keeps what it was asked to observe, and observes it when asked."""

    def __init__(self) -> None:
        super().__init__("test")
        self.callbacks: dict[str, Sequence[Any]] = {}

    def create_observable_counter(self, name: str, callbacks: Any = None, *more: Any, **options: Any) -> Any:
        self.callbacks[name] = callbacks
        return super().create_observable_counter(name, callbacks, *more, **options)

    def create_observable_up_down_counter(self, name: str, callbacks: Any = None, *more: Any, **options: Any) -> Any:
        self.callbacks[name] = callbacks
        return super().create_observable_up_down_counter(name, callbacks, *more, **options)

    def collect(self) -> dict[str, dict[str, float]]:
        """Return by metric, by export, what is observed now."""
        observed = {
            name: [one for call in calls for one in call(CallbackOptions())] for name, calls in self.callbacks.items()
        }
        return {
            name: {str((one.attributes or {})["lrpc.export"]): one.value for one in found}
            for name, found in observed.items()
        }


def test_totals_keep_what_ended_bindings_have_counted(tmp_path: Path) -> None:
    with shop(tmp_path) as (serving, _):
        for bound in range(3):
            with this_machine(folder=tmp_path) as here:
                client = here.bind(Shop, "shop")
                for _ in range(10):
                    client.add(1, 2)
                totals = serving.totals()["shop"]
                assert (totals["calls"], totals["bindings"]) == (10 * (bound + 1), 1)
            until(lambda: serving.status()["bindings"] == [])
        totals = serving.totals()["shop"]
        assert (totals["calls"], totals["bindings"], totals["busy"]) == (30, 0, 0)
        assert totals["spun"] + totals["slept"] <= 30
    assert serving.totals()["shop"]["calls"] == 30


def test_a_domain_that_only_binds_counts_the_calls_that_it_made(tmp_path: Path) -> None:
    with shop(tmp_path), this_machine(folder=tmp_path) as here:
        assert here.totals() == {}
        first, second = here.bind(Shop, "shop"), here.bind(Shop, "shop")
        for n in range(10):
            first.add(n, 1)
            second.nothing()
        totals = here.totals()["shop"]
        assert (totals["calls"], totals["bindings"], totals["busy"], totals["aborted"]) == (20, 2, 0, 0)
        assert totals["spun"] + totals["slept"] <= 20  # a reply may be there before the caller waits
        del first
        totals = here.totals()["shop"]
        assert (totals["calls"], totals["bindings"]) == (20, 1)
        assert here.served() == {}
    totals = here.totals()["shop"]
    assert (totals["calls"], totals["bindings"]) == (20, 0)


def test_a_meter_observes_totals_by_export_when_it_collects(tmp_path: Path) -> None:
    meter = Collecting()
    with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
        serving.instrument(meter)
        assert meter.collect()["lrpc.server.calls"] == {"shop": 0}
        client = here.bind(Shop, "shop")
        for _ in range(5):
            client.add(1, 2)
        found = meter.collect()
        assert found["lrpc.server.calls"] == {"shop": 5}
        assert found["lrpc.server.bindings"] == {"shop": 1}
        assert set(found) == {
            "lrpc.server.calls",
            "lrpc.server.calls.aborted",
            "lrpc.server.waits.spinning",
            "lrpc.server.waits.sleeping",
            "lrpc.server.bindings",
            "lrpc.server.astacks.busy",
        }


def test_a_domain_that_exports_nothing_has_nothing_to_observe(tmp_path: Path) -> None:
    meter = Collecting()
    with this_machine(folder=tmp_path) as here:
        here.instrument(meter)
        assert meter.collect()["lrpc.server.calls"] == {}


def test_without_opentelemetry_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    with this_machine(folder=tmp_path) as here, pytest.raises(lrpc.Refused, match="pip install opentelemetry-api"):
        here.instrument()
