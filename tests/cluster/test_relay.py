"""Where one station at a time has work, a call takes one round trip, whatever happens to it."""

from collections.abc import Callable, Iterator
from itertools import count
from threading import Thread, Timer

import grpc
import pytest

from lrpc.cluster import peer as peers
from lrpc.cluster import transport
from lrpc.cluster.peer import Endpoint
from lrpc.cluster.station import Station
from lrpc.cluster.transport import SECRET_KEY
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportStub
from tests.support.clusters import SECRET, cluster, digest, joined, pair
from tests.support.command import PATIENCE_S
from tests.support.proxies import Proxy

CALLS = 150
IN_TURN = cluster(pair("teller", "drawer", ledgers="drawer", rounds=CALLS // 3, think_us=10))
EXPECTED = digest(IN_TURN)
Fault = Callable[[Station], object]
AtToken = Callable[[int, Fault], None]


@pytest.fixture
def at_token(monkeypatch: pytest.MonkeyPatch) -> AtToken:
    """Return what makes a fault happen as a station takes over the token of a number, from 1."""

    def plan(number: int, fault: Fault) -> None:
        take_over, numbers = Station.relay, count(1)

        def relay(station: Station, token: transport_pb2.Token) -> transport_pb2.Token:
            if next(numbers) == number:
                fault(station)
            return take_over(station, token)

        monkeypatch.setattr(Station, "relay", relay)

    return plan


def test_a_call_takes_one_round_trip_and_many_share_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[object] = []
    relay = transport._Service.Relay

    def begin(
        service: transport._Service, tokens: Iterator[transport_pb2.Token], context: grpc.ServicerContext
    ) -> Iterator[transport_pb2.Token]:
        streams.append(tokens)
        return relay(service, tokens, context)

    monkeypatch.setattr(transport._Service, "Relay", begin)
    with joined(IN_TURN, 2) as run:
        progress = run.run()
        assert run.digest() == EXPECTED
    assert CALLS <= progress.rounds < 1.1 * CALLS
    assert 0 < len(streams) < CALLS / 4


def test_a_token_that_comes_again_gets_the_first_answer_and_runs_nothing(at_token: AtToken) -> None:
    taken: list[Station] = []
    at_token(1, taken.append)
    at_token(2, taken.append)
    state = transport_pb2.SynchronisationState(calls=[0, 0], events=[0, 0])
    token = transport_pb2.Token(sender=0, number=1, path=[0], state=state, budget_ns=1)
    with joined(IN_TURN, 2) as run, grpc.insecure_channel(run.stations[1].endpoint.address) as channel:
        relay = TransportStub(channel).Relay
        answers = [next(relay(iter([token]), metadata=((SECRET_KEY, SECRET),), timeout=PATIENCE_S)) for _ in range(3)]
    assert answers == 3 * answers[:1]
    assert len(taken) == 1


@pytest.mark.parametrize("number", [1, 2, CALLS // 2])
def test_a_station_lost_while_it_has_the_token_is_made_anew(
    number: int, at_token: AtToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PULSE_S", 0.5)
    with joined(IN_TURN, 2) as run:

        def lose(station: Station) -> None:
            run.dead.add(run.stations.index(station))
            station._server._server.stop(None).wait()
            Thread(target=station.stop).start()

        at_token(number, lose)
        assert run.run().losses == 1
        assert run.digest() == EXPECTED


@pytest.mark.parametrize("number", [1, CALLS // 2])
def test_a_token_whose_connection_is_cut_is_handed_over_again(number: int, at_token: AtToken) -> None:
    proxies: list[Proxy] = []

    def via(_: int, endpoint: Endpoint) -> Endpoint:
        proxies.append(Proxy(endpoint))
        return proxies[-1].endpoint

    def cut(_: Station) -> None:
        for proxy in proxies:
            proxy.cut()
            Timer(0.1, proxy.restore).start()

    with joined(IN_TURN, 2, via=via) as run:
        at_token(number, cut)
        assert run.run().losses == 0
        outcomes = [station.finish() for station in run.stations]
        assert sum(counted.retries for _, counted in outcomes) > 0
        assert run.digest() == EXPECTED
    for proxy in proxies:
        proxy.close()
