"""Strangers at the stations' doors change nothing of a run, hold nothing of it, cost it little."""

import time
from collections.abc import Iterator
from threading import Event
from typing import Final, NoReturn

import grpc
import pytest

from benchmarks.strangers import beside, office, recorded
from lrpc.cluster import peer
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.cluster.transport import REFUSALS_A_SECOND, STREAMS
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportStub
from lrpc.workloads.records.pace import synchronisation
from tests.support.clusters import Joined, bank, cluster, digest, joined
from tests.support.command import PATIENCE_S
from tests.support.strangers import KINDS, strangers

ASKS: Final = ("headers only", "slow bodies", "floods")  # the kinds that make requests
CONNECTIONS: Final = 16  # the most that a kind of them has


@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    @pytest.mark.parametrize(
        "kind", [one if one in ASKS else pytest.param(one, marks=pytest.mark.long) for one in KINDS]
    )
    def test_a_run_beside_strangers_comes_to_the_same_and_refuses_few_a_second(self, kind: str) -> None:
        """What refusals take is measured by `python -m benchmarks.strangers`."""
        described = office(1000)
        alone, _ = beside(None, described)
        knocked, (took_s, _) = beside(kind, described)
        assert knocked.digest == alone.digest
        assert all(bool(station.strangers) == (kind in ASKS) for station in knocked.stations)
        # Those that wait for their refusal are counted too; seconds need not begin with the run.
        most = CONNECTIONS * STREAMS + REFUSALS_A_SECOND * (took_s + 2)
        assert max(station.strangers for station in knocked.stations) <= most


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


def test_strangers_are_counted_also_where_a_run_ends_early() -> None:
    described, parts = cluster(bank(teller={"rounds": 1})), list[Outcome]()

    def knock(progress: Progress) -> None:
        with grpc.insecure_channel(doors[0]) as channel, pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            TransportStub(channel).Pulse(transport_pb2.Asked(), timeout=PATIENCE_S)
        if progress.windows > 2:
            raise KeyboardInterrupt

    with recorded(peer) as doors, pytest.raises(KeyboardInterrupt):
        run_cluster(described, actors=0, on_progress=knock, on_partial=parts.append)
    assert synchronisation(parts[0])["strangers"] == 3
