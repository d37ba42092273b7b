"""Machines on real Ray actors do as they do in this process; a lost actor ends the run by name."""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from lrpc.cluster import synchronisation
from lrpc.cluster.actors import choose_actors, processors_here
from lrpc.cluster.description import read_cluster
from lrpc.cluster.envelope import Transport
from lrpc.cluster.on_ray import session as sessions
from lrpc.cluster.run import run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.workloads.programs.registry import REGISTRY
from tests.support.clusters import bank, cluster, digest, pair
from tests.support.command import PATIENCE_S, lrpc, office, record, refused


def many_desks(count: int) -> dict[str, Any]:
    """Return the tables of a bank with `count` desks, and two more machines."""
    first = f"desk{1:0{len(str(count))}}" if count > 1 else "desk"
    tables = bank(teller={"rounds": 1})
    tables["machines"]["desk"]["count"] = count
    tables["domains"]["auditor"]["imports"]["drawer"] = f"drawer@{first}"
    tables["links"]["pairs"] = []
    return tables


@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    @pytest.mark.parametrize(
        ("transport", "actors"), [pytest.param("memory", 1, marks=pytest.mark.long), ("grpc", 1), ("grpc", 2)]
    )
    def test_the_digest_on_actors_is_that_of_one_process(self, transport: Transport, actors: int) -> None:
        described = cluster(bank(teller={"rounds": 2}))
        outcome = run_cluster(described, actors=actors, transport=transport)
        assert (outcome.actors, outcome.transport, outcome.digest) == (actors, transport, digest(described))

    @pytest.mark.parametrize(
        ("desks", "actors"), [pytest.param(*counts, marks=pytest.mark.long) for counts in ((1, 3), (6, 2), (6, 8))]
    )
    def test_more_machines_than_actors_and_as_many_come_to_the_same(self, desks: int, actors: int) -> None:
        described = cluster(many_desks(desks))
        assert run_cluster(described, actors=actors).digest == digest(described)

    @pytest.mark.long
    def test_more_actors_than_machines_are_capped_and_that_is_said(self, tmp_path: Path) -> None:
        ended = lrpc("run", office(tmp_path, actions=5, workstations=1), "--actors", 4, "--out", tmp_path / "run")
        assert ended.code == 0
        assert ended.err == "note: 2 actors, one for each machine; more would have no machine to run\n"
        assert record(tmp_path / "run")["actors"] == 2

    @pytest.mark.parametrize(
        ("there", "said"),
        [
            ({"CPU": 1.0}, "--actors 2: Ray has 1 processors; ask for fewer actors, or start Ray with more"),
            (
                {"CPU": 8.0, "memory": 2.0**20},
                r"--actors 2: 3 machines need about \d+ MiB, and Ray has 1; ask for fewer actors or machines",
            ),
        ],
    )
    def test_a_cluster_with_too_little_room_is_refused_before_work_begins(
        self, there: Mapping[str, float], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        monkeypatch.setattr(ray, "cluster_resources", lambda: there)
        line = refused("run", office(tmp_path), "--actors", 2, "--out", tmp_path / "run")
        assert re.fullmatch(f"lrpc: {said}", line)
        assert not (tmp_path / "run").exists()

    def test_a_node_that_lacks_what_the_package_stands_on_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        missing = "ModuleNotFoundError: No module named 'greenlet'"
        monkeypatch.setattr(sessions, "on_each_node", lambda probe: [missing])
        with pytest.raises(Refused, match=f"^Ray: a node cannot run this package: {missing}; install lrpc, or its "):
            sessions._check_package()

    def test_a_session_answers_nobody_without_its_token(self) -> None:
        import ray

        with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/ray.rpc.ActorInfoGcsService/GetAllActorInfo"
            )
            guess = (("authorization", f"Bearer {'0' * 64}"),)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                ask(b"", metadata=guess, timeout=PATIENCE_S)

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

    @pytest.mark.parametrize("windows", [1, *(pytest.param(late, marks=pytest.mark.long) for late in (40, 90))])
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

    @pytest.mark.parametrize("lost", [None, "the one with all machines", "the one without any"])
    def test_an_actor_that_takes_over_all_machines_brings_their_logs_also_if_one_is_killed_then(
        self, lost: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        described = cluster(bank(teller={"rounds": 3}))
        killed: list[int] = []
        monkeypatch.setattr(synchronisation.Coordinator, "_takes_long", lambda self: self.progress.windows >= 40)

        def kill(progress: Progress, stations: Sequence[int]) -> None:
            if progress.gathered_ns is not None and lost and not killed:
                sizes = [len(list(Path(f"/proc/{station}/fd").iterdir())) for station in stations]
                held = sizes.index(max(sizes))  # it has all logs open
                killed.append(stations[held if lost == "the one with all machines" else 1 - held])
                os.kill(killed[0], signal.SIGKILL)

        for place in ("here", "alone"):
            (tmp_path / place).mkdir()
        outcome = run_cluster(described, actors=2, on_window=kill, events=tmp_path / "here")
        assert outcome.digest == digest(described)
        assert outcome.progress.gathered_ns is not None
        assert bool(killed) == bool(lost)
        run_cluster(described, actors=0, transport="memory", events=tmp_path / "alone")
        logs = [{log.name: log.read_bytes() for log in (tmp_path / one).iterdir()} for one in ("here", "alone")]
        assert logs[0] == logs[1]

    @pytest.mark.long
    def test_an_actor_that_dies_again_and_again_ends_the_run_and_its_machines_are_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(synchronisation, "MOST_LOSSES", 1)
        described = cluster(pair("crash", "ledger", spared=os.getpid()))
        with pytest.raises(RunFailed, match=r"^machine client, server, at \d+\.\d+ µs: lost: "):
            run_cluster(described, actors=1)


def test_actors_default_to_one_per_machine_up_to_eight_and_to_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrpc.cluster.actors.processors_here", lambda: 64)
    three, many = bank(), many_desks(20)
    assert choose_actors(cluster(three), None, "grpc") == 5
    assert choose_actors(cluster(many), None, "grpc") == 8
    assert choose_actors(cluster(many), 100, "grpc") == 22  # at most one actor for each machine
    assert choose_actors(cluster(many), None, "memory") == 1
    monkeypatch.setattr("lrpc.cluster.actors.processors_here", lambda: 2)
    assert choose_actors(cluster(three), None, "grpc") == 2
    assert choose_actors(cluster(three), 4, "grpc") == 4  # as asked for
    # A Ray cluster has processors of its own.
    assert choose_actors(cluster(three), None, "grpc", "127.0.0.1:6379") == 5


def test_an_address_that_does_not_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(address: tuple[str, int], timeout: float) -> NoReturn:
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", nobody)
    line = refused("run", office(tmp_path), "--address", "192.0.2.1:6379", "--out", tmp_path / "run")
    assert line == "lrpc: Ray address 192.0.2.1:6379: timed out; is a cluster running there?"


def test_this_computer_has_processors() -> None:
    assert processors_here() >= 1


@pytest.mark.parametrize(("actors", "transport"), [(-1, "grpc"), (257, "grpc"), (2, "memory")])
def test_actors_that_cannot_be_are_refused(actors: int, transport: Transport) -> None:
    with pytest.raises(Refused, match=f"^--actors {actors}: "):
        choose_actors(cluster(bank()), actors, transport)
