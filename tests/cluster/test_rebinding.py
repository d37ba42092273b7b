"""A client that imports again what has ended is refused; its machine and the others go on."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.run import run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.codecs import Int32
from lrpc.domains.domain import Domain, Transfer, bind
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Program, Registry, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.errors import BindingRefused, CallFailed
from lrpc.kernel.simulated.domain import ProtectionDomain


class Job(Interface):
    """An interface whose one procedure ends its server."""

    def do(self, a: Int32) -> Int32:
        raise NotImplementedError


@dataclass
class JobServer(Server, Job):
    """Terminates its own domain at the first call."""

    independent = True

    def do(self, a: int) -> int:
        simulated(self.domain).terminate()
        return a


@dataclass
class Client(Program):
    """Calls, and is told that the server ended; then imports again, twice."""

    transfer: str = "lrpc"

    told: ClassVar[list[str]] = []

    def run(self, domain: Domain) -> None:
        with pytest.raises(CallFailed):
            self._job(domain).do(1)
        for _ in range(2):
            with pytest.raises(BindingRefused) as refused:
                self._job(domain)
            self.told.append(str(refused.value))

    def _job(self, domain: Domain) -> Job:
        transfer: Transfer = "lrpc" if self.transfer == "lrpc" else "message passing"
        assert isinstance(domain, ProtectionDomain)
        return bind(domain, Job, "job", transfer)


@dataclass
class Far(Program):
    """Calls from another machine until the server has ended; then imports it again, twice."""

    told: ClassVar[list[str]] = []

    def run(self, domain: Domain) -> None:
        with pytest.raises(CallFailed):
            domain.bind(Job, "job").do(1)
        for _ in range(2):
            with pytest.raises(BindingRefused) as refused:
                domain.bind(Job, "job").do(1)
            self.told.append(str(refused.value))


def _cluster(transfer: str, far: bool = False) -> Cluster:
    table = {
        "name": "rebinding",
        "machines": {"a": {}, "b": {}},
        "links": {"delay_us": 60.0},
        "domains": {
            "server": {"machine": "a", "exports": {"job": {"server": "job"}}},
            "client": {
                "machine": "a",
                "imports": {"job": "job"},
                "threads": [] if far else [{"program": "client", "parameters": {"transfer": transfer}}],
            },
            "other": {
                "machine": "b",
                "imports": {"job": "job"},
                "threads": [{"program": "far"}] if far else [],
            },
        },
    }
    registry = Registry(servers={"job": JobServer}, programs={"client": Client, "far": Far})
    return describe(ClusterTable.model_validate(table), registry, "rebinding")


@pytest.mark.parametrize("transfer", ["lrpc", "message passing"])
def test_an_import_of_what_has_ended_on_this_machine_is_refused(transfer: str) -> None:
    Client.told.clear()
    run_cluster(_cluster(transfer), actors=0, transport="memory")
    refusal = "import job: the domain of a that exported it has terminated"
    assert [text[: len(refusal)] for text in Client.told] == [refusal] * 2


def test_an_import_of_what_has_ended_on_another_machine_is_refused() -> None:
    Far.told.clear()
    run_cluster(_cluster("lrpc", far=True), actors=0, transport="memory")
    assert Far.told == ["import job: machine a does not export it any more"] * 2
