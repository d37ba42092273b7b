"""Machines on real Ray actors do what they do in this process, and a lost actor ends the run by name."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import grpc
import pytest

from lrpc.cluster import run, synchronisation
from lrpc.cluster.description import read_cluster
from lrpc.cluster.run import choose_actors, run_cluster
from lrpc.cluster.session import ray_session
from lrpc.cluster.station import Links
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.workloads.registry import REGISTRY
from tests.clusters import bank, cluster, digest, pair
from tests.command import lrpc, office, record, refused


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """Ray, once for all tests: its start takes longer than all that they do."""
    with ray_session(None, 4):
        yield


class TestOnRay:
    pytestmark: ClassVar = [pytest.mark.ray, pytest.mark.usefixtures("session")]

    @pytest.mark.parametrize(("links", "actors"), [("memory", 1), ("grpc", 1), ("grpc", 4)])
    def test_the_digest_on_actors_is_that_of_one_process(self, links: Links, actors: int) -> None:
        described = cluster(bank(teller={"rounds": 2}))
        outcome = run_cluster(described, actors=actors, links=links)
        assert (outcome.actors, outcome.links, outcome.digest) == (actors, links, digest(described))

    def test_a_session_answers_nobody_without_its_token(self) -> None:
        import ray

        with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/ray.rpc.ActorInfoGcsService/GetAllActorInfo"
            )
            guess = (("authorization", f"Bearer {'0' * 64}"),)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                ask(b"", metadata=guess, timeout=10)

    def test_the_command_uses_an_actor_for_each_machine_and_exports_what_hashes_to_its_digest(
        self, tmp_path: Path
    ) -> None:
        path, run, log = office(tmp_path, actions=30, workstations=1), tmp_path / "run", tmp_path / "log"
        assert lrpc("run", path, "--out", run, "--events", log).code == 0
        found = record(run)
        assert (found["status"], found["actors"], found["links"]) == ("complete", 2, "grpc")
        assert lrpc("events", log, "--digest").out.split() == [found["digest"]]
        assert digest(read_cluster(path, REGISTRY)) == found["digest"]

    def test_a_description_that_shows_wrong_on_an_actor_is_refused_as_it_is_here(self, tmp_path: Path) -> None:
        path = office(tmp_path)
        path.write_text(path.read_text().replace('imports = { server = "files" }', ""))
        here, there = (refused("run", path, "--actors", actors, "--out", tmp_path / "run") for actors in (0, 1))
        assert here == there
        assert "import server: nobody exports it to domain cache" in here
        assert not (tmp_path / "run").exists()

    def test_an_address_where_nothing_listens_is_refused_though_a_session_is_there(self, tmp_path: Path) -> None:
        line = refused("run", office(tmp_path), "--address", "127.0.0.1:1", "--out", tmp_path / "run")
        assert line.startswith("lrpc: Ray address 127.0.0.1:1: Connection refused; ")

    @pytest.mark.parametrize("windows", [1, 40, 90])
    def test_an_actor_that_is_killed_is_made_anew_and_the_digest_is_the_same(self, windows: int) -> None:
        described = cluster(bank(teller={"rounds": 3}))
        killed: list[int] = []

        def kill(progress: Progress, stations: Sequence[int]) -> None:
            if progress.windows >= windows and not killed:
                killed.append(stations[windows % 2])
                os.kill(killed[0], signal.SIGKILL)

        outcome = run_cluster(described, actors=2, on_window=kill)
        assert (outcome.digest, outcome.progress.losses) == (digest(described), 1)
        assert outcome.progress.again > 0

    def test_an_actor_that_dies_again_and_again_ends_the_run_and_its_machines_are_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(synchronisation, "MOST_LOSSES", 1)
        described = cluster(pair("crash", "ledger", spared=os.getpid()))
        with pytest.raises(RunFailed, match=r"^machine client, server, at \d+\.\d+ us: lost: "):
            run_cluster(described, actors=1)


def test_actors_default_to_one_per_machine_up_to_eight_and_to_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "processors_here", lambda: 64)
    three, many = bank(), bank()
    many["machines"]["desk"]["count"] = 20
    many["domains"]["auditor"]["imports"]["drawer"] = "drawer@desk01"
    many["links"]["pairs"] = []
    assert choose_actors(cluster(three), None, "grpc") == 5
    assert choose_actors(cluster(many), None, "grpc") == 8
    assert choose_actors(cluster(many), 100, "grpc") == 22  # no more than there are machines
    assert choose_actors(cluster(many), None, "memory") == 1
    monkeypatch.setattr(run, "processors_here", lambda: 2)
    assert choose_actors(cluster(three), None, "grpc") == 2
    assert choose_actors(cluster(three), 4, "grpc") == 4  # as told
    assert choose_actors(cluster(three), None, "grpc", "127.0.0.1:6379") == 5  # a cluster has processors of its own


def test_this_computer_has_processors() -> None:
    assert run.processors_here() >= 1


@pytest.mark.parametrize(("actors", "links"), [(-1, "grpc"), (257, "grpc"), (2, "memory")])
def test_actors_that_cannot_be_are_refused(actors: int, links: Links) -> None:
    with pytest.raises(Refused, match=f"^--actors {actors}: "):
        choose_actors(cluster(bank()), actors, links)
