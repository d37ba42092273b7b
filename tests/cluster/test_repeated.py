"""Calls of another machine that are made without a stack are those that are made one by one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.run import run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.domain import Domain
from lrpc.domains.residents import Program, Registry, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.domains.simulated.stubs import ClientStub
from lrpc.kernel.documents import validate
from lrpc.kernel.simulated.histogram import Route
from tests.support.properties import examples

PYTHON = {"cost_model": "linux-python"}


class Counter(lrpc.Interface):
    """A total, and when somebody is done with it."""

    def add(self, amount: lrpc.Int32) -> lrpc.Int32: ...


@dataclass
class CounterServer(Server, Counter):
    """Fails from some total on, and ends its domain at another."""

    fails_at: int = 10_000
    ends_at: int = 10_000
    computes_us: int = 0
    total: int = 0

    def add(self, amount: int) -> int:
        self.total += amount
        if self.computes_us:
            self.domain.compute(us=self.computes_us)
        if self.total >= self.ends_at:
            simulated(self.domain).terminate()
        if self.total >= self.fails_at:
            raise KeyError("enough")
        return self.total


@dataclass
class LeafCounterServer(CounterServer):
    """The same, without a use of the kernel."""

    @lrpc.leaf
    def add(self, amount: int) -> int:
        self.total += amount
        if self.total >= self.fails_at:
            raise KeyError("enough")
        return self.total


@dataclass
class Adding(Program):
    """Adds 1 so many times, after a while, at once or one by one; goes on after a failure."""

    times: int
    after_us: int
    repeats: bool = True
    failed: int = 0

    @property
    def imports(self) -> Collection[str]:
        return ("counter",)

    def run(self, domain: Domain) -> None:
        counter = domain.bind(Counter, "counter")
        domain.sleep(us=self.after_us)
        for _ in range(2):
            try:
                if self.repeats:
                    stub = counter.add
                    assert isinstance(stub, ClientStub)
                    stub.repeat((1,), self.times)
                else:
                    for _ in range(self.times):
                        counter.add(1)
            except lrpc.CallError:
                self.failed += 1

    def findings(self) -> Mapping[str, Any]:
        return {"failed": self.failed}


def adding(
    server: Mapping[str, object], clients: list[tuple[int, int]], like: Mapping[str, Any], *, repeats: bool
) -> Cluster:
    """Return clients, by how often they add and when, and a counter elsewhere."""
    threads = [
        {"program": "adding", "parameters": {"times": times, "after_us": after, "repeats": repeats}}
        for times, after in clients
    ]
    registry = Registry({"counter": CounterServer, "leaf": LeafCounterServer}, {"adding": Adding})
    tables = {
        "name": "adding",
        "machines": {"here": like, "there": like},
        "links": {"delay_us": 100.0},
        "domains": {
            "server": {"machine": "there", "exports": {"counter": server}},
            "client": {"machine": "here", "imports": {"counter": "counter"}, "threads": threads},
        },
    }
    return describe(validate(ClusterTable, tables, "adding"), registry, "adding")


def altering(how: str, *, repeats: bool) -> Cluster:
    """Return a client that alters its Binding Object in the middle of 50 calls."""
    threads = [{"program": "altering", "parameters": {"times": 50, "after_us": 0, "repeats": repeats, "how": how}}]
    tables = {
        "name": "altering",
        "machines": {"here": PYTHON, "there": PYTHON},
        "links": {"delay_us": 100.0},
        "domains": {
            "server": {"machine": "there", "exports": {"counter": {"server": "leaf"}}},
            "client": {"machine": "here", "imports": {"counter": "counter"}, "threads": threads},
        },
    }
    registry = Registry({"leaf": LeafCounterServer}, {"altering": Altering})
    return describe(validate(ClusterTable, tables, "altering"), registry, "altering")


def outcomes(described: Cluster, *, windows: bool = False) -> tuple[MachineOutcome, ...]:
    return tuple(run_cluster(described, actors=0, transport="memory", windows=windows).machines)


def shown(described: Cluster, *, windows: bool = False) -> list[tuple[MachineOutcome, dict[Route, object]]]:
    """Return all that a run shows of its machines, in terms that can be compared."""
    return [
        (replace(one, latencies={}), {route: (found.total, found.buckets) for route, found in one.latencies.items()})
        for one in outcomes(described, windows=windows)
    ]


@examples(40)
@given(
    server=st.sampled_from(["counter", "leaf"]),
    parameters=st.sampled_from([{}, {"fails_at": 7}, {"ends_at": 7}, {"computes_us": 90}]),
    clients=st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0, 50, 777])), min_size=1, max_size=4),
    like=st.sampled_from([PYTHON, {**PYTHON, "processors": 3}, {}, {"processors": 2}]),
)
def test_calls_made_at_once_change_nothing_that_a_run_shows(
    server: str, parameters: dict[str, int], clients: list[tuple[int, int]], like: Mapping[str, Any]
) -> None:
    served = {"server": server, "parameters": parameters}
    at_once = shown(adding(served, clients, like, repeats=True))
    assert at_once == shown(adding(served, clients, like, repeats=False))
    assert at_once == shown(adding(served, clients, like, repeats=True), windows=True)


def test_a_call_that_fails_ends_those_that_would_follow() -> None:
    here, there = outcomes(adding({"server": "leaf", "parameters": {"fails_at": 3}}, [(5, 0)], PYTHON, repeats=True))
    assert list(here.findings.values()) == [{"failed": 2}]
    assert here.counts["cross_machine"] == 4  # two calls, one that failed, and one of the second attempt
    assert there.counts["link_replies"] == 4


def test_arguments_that_do_not_fit_are_refused_before_any_call() -> None:
    machine = lrpc.Machine()
    machine.export(Counter, CounterServer(), "counter")
    counter = machine.bind(Counter, "counter")

    def body() -> None:
        stub = counter.add
        assert isinstance(stub, ClientStub)
        with pytest.raises(lrpc.ArgumentError, match="amount"):
            stub.repeat(("one",), 3)
        stub.repeat((1,), 3)

    machine.spawn(body)
    machine.run()
    assert machine.outcome().counts["cross_domain"] == 3


@dataclass
class Altering(Adding):
    """Alters its own Binding Object, or has it revoked, some time after the first call."""

    how: str = "remote"
    told: str = ""

    def run(self, domain: Domain) -> None:
        counter = domain.bind(Counter, "counter")
        stub, kernel = counter.add, simulated(domain).kernel
        assert isinstance(stub, ClientStub)

        def alter() -> None:
            domain.sleep(us=1000)
            if self.how == "revoked":
                kernel.revoke_grant(next(iter(kernel.grants.values())), lrpc.BindingRevoked("no"))
            else:
                setattr(stub.key, self.how, False if self.how == "remote" else 0)

        domain.spawn(alter)
        try:
            if self.repeats:
                stub.repeat((1,), self.times)
            else:
                for _ in range(self.times):
                    counter.add(1)
        except lrpc.CallError as error:
            self.told = f"{error} at {kernel.now_ns}"

    def findings(self) -> Mapping[str, Any]:
        return {"told": self.told}


@pytest.mark.parametrize("how", ["remote", "key", "number", "revoked"])
def test_what_a_client_does_to_its_binding_object_meanwhile_is_noticed_at_the_next_call(how: str) -> None:
    found = [shown(altering(how, repeats=repeats)) for repeats in (True, False)]
    assert found[0] == found[1]
    told = str(found[0][0][0].findings)
    assert "Binding Object" in told or "no at" in told
