"""Strangers at the stations' doors change nothing of a run, hold nothing of it, cost it little."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any, Final, NoReturn

import grpc
import pytest

from lrpc.cluster import peer
from lrpc.cluster.description import Cluster
from lrpc.cluster.on_ray import actors
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.cluster.transport import REFUSALS_A_SECOND, STREAMS
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportStub
from lrpc.workloads.records.pace import synchronisation
from lrpc.workloads.runs.jobs import RunJob
from tests.support.clusters import Joined, bank, cluster, digest, joined
from tests.support.command import PATIENCE_S
from tests.support.strangers import KINDS, strangers

MOST: Final = 1.2  # times the processor time, and the wall time, of a run that is left alone
ASKS: Final = ("headers only", "slow bodies", "floods")  # the kinds that make requests
TRIES: Final = 5  # this computer does other things too
ACTIONS: Final = 3000  # of the office: some three seconds


def processor_s(process: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Watched:
    """The times of a run from its first window to its last, and where its links are."""

    kind: str | None  # of strangers, who come with the first window
    doors: list[str]
    stack: ExitStack
    at: list[tuple[float, float]] = field(default_factory=list)

    def on_window(self, _: Progress, processes: Sequence[int]) -> None:
        """Note the wall time and the processor time of the run's processes."""
        if self.kind is not None and not self.at:
            self.stack.enter_context(strangers(self.kind, self.doors))
        now = (time.monotonic(), sum(map(processor_s, processes)) + time.process_time())
        self.at[1:] = [now] if self.at else []
        self.at = self.at or [now]

    @property
    def took(self) -> tuple[float, float]:
        """Return the wall time and the processor time."""
        (began, before), (ended, after) = self.at
        return ended - began, after - before


def recorded(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[str]:
    """Return a list that gets the addresses of a run's links, as `module` connects to them."""
    found: list[str] = []

    class Known(peer.Peer):
        def __init__(self, endpoint: peer.Endpoint, *arguments: Any, **more: Any) -> None:
            found.append(endpoint.address)
            super().__init__(endpoint, *arguments, **more)

    monkeypatch.setattr(module, "Peer", Known)
    return found


def beside(kind: str | None, described: Cluster, doors: list[str]) -> tuple[Outcome, tuple[float, float]]:
    """Run on two actors beside strangers of a kind; return the outcome and what it took."""
    doors.clear()
    with ExitStack() as stack:
        watched = Watched(kind, doors, stack)
        outcome = run_cluster(described, actors=2, on_window=watched.on_window)
    return outcome, watched.took


@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    @pytest.mark.parametrize(
        "kind", [one if one in ASKS else pytest.param(one, marks=pytest.mark.long) for one in KINDS]
    )
    def test_a_run_beside_strangers_comes_to_the_same_and_takes_little_longer(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        doors = recorded(monkeypatch, actors)
        changes: dict[str, Any] = {"domains.user.threads.0.parameters.actions": ACTIONS}
        described = RunJob(scenario="office", changes=changes).prepare(["lrpc", "run", "office"]).cluster
        found = []
        for _ in range(TRIES):
            alone, left = beside(None, described, doors)
            knocked, took = beside(kind, described, doors)
            assert knocked.digest == alone.digest
            assert all(bool(station.strangers) == (kind in ASKS) for station in knocked.stations)
            found.append(tuple(round(one / other, 2) for one, other in zip(took, left, strict=True)))
            # What else this computer does costs now the one, now the other.
            if max(min(one) for one in zip(*found, strict=True)) <= MOST:
                return
        pytest.fail(f"beside {kind}, wall and processor time are {found} times as long")


class Never:
    """A body that does not come before `ended` is set."""

    def __init__(self, ended: Event) -> None:
        self._ended = ended

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> NoReturn:
        self._ended.wait(PATIENCE_S)
        raise StopIteration


@pytest.fixture
def run() -> Iterator[Joined]:
    with joined(cluster(bank(teller={"rounds": 1})), 2) as run:
        yield run


def begun(run: Joined, channel: grpc.Channel) -> grpc.StatusCode:
    """Return how a request is answered that has headers alone, and no secret."""
    ended = Event()
    call: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary("/lrpc.transport.v1.Transport/Pulse")
    with pytest.raises(grpc.RpcError) as caught:
        call.future(Never(ended), timeout=PATIENCE_S).result()
    ended.set()
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code()


def test_a_request_of_headers_alone_is_refused_before_its_body_comes(run: Joined) -> None:
    """More of them than the station has threads; the run goes on beside them."""
    with grpc.insecure_channel(run.stations[1].endpoint.address) as channel:
        before = time.monotonic()
        assert {begun(run, channel) for _ in range(10)} == {grpc.StatusCode.UNAUTHENTICATED}
        assert time.monotonic() - before < PATIENCE_S / 2
    run.run()
    assert [station.strangers for station in run.stations] == [0, 10]
    assert run.digest() == digest(cluster(bank(teller={"rounds": 1})))


def test_strangers_beyond_a_few_a_second_wait_for_their_refusal_and_the_run_does_not(run: Joined) -> None:
    """All streams of a connection wait, and its station answers its own run meanwhile."""
    with strangers("floods", [run.stations[1].endpoint.address], share=0.5):
        run.run()
    assert run.stations[1].strangers > 0
    assert run.digest() == digest(cluster(bank(teller={"rounds": 1})))
    assert REFUSALS_A_SECOND >= STREAMS  # a client that asks once too often is refused at once


def test_strangers_are_counted_also_where_a_run_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    described, parts = cluster(bank(teller={"rounds": 1})), list[Outcome]()
    found = recorded(monkeypatch, peer)

    def knock(progress: Progress) -> None:
        with grpc.insecure_channel(found[0]) as channel, pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            TransportStub(channel).Pulse(transport_pb2.Asked(), timeout=PATIENCE_S)
        if progress.windows > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cluster(described, actors=0, on_progress=knock, on_partial=parts.append)
    assert synchronisation(parts[0])["strangers"] == 3
