"""The transport accepts batches of its own run only, each once and in order.

It rejects messages that no machine sends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster import peer as peers
from lrpc.cluster import transport
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.held import WindowReport
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.messages import from_protobuf, from_report, to_protobuf, to_report, to_times
from lrpc.cluster.peer import Peer
from lrpc.cluster.run import digest_of, run_cluster
from lrpc.cluster.station import Station
from lrpc.cluster.synchronisation import Progress, Window
from lrpc.cluster.transport import SECRET_KEY, new_secret
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.network.packets import PAYLOAD, Acknowledgement, Body, CallMessage, Fragment, ReplyMessage
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportStub
from tests.support.clusters import SECRET, Joined, bank, cluster, digest, joined, pair
from tests.support.command import PATIENCE_S

CLIENT, SERVER = 0, 1
CALL = Envelope(CLIENT, SERVER, 1, 1_000, 5_000, CallMessage(1, "ledger", 0, bytes(4)))
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
KNOWN: Metadata = ((SECRET_KEY, SECRET),)


@contextmanager
def stub(address: str) -> Iterator[TransportStub]:
    """Yield gRPC's own stub of the transport, which every process here can make."""
    with grpc.insecure_channel(address) as channel:
        yield TransportStub(channel)


@pytest.fixture
def run() -> Iterator[Joined]:
    """Yield a station with a client that has yet to begin and a server that waits for it."""
    with joined(cluster(pair("teller", "drawer", ledgers="drawer")), 1) as run:
        yield run


def batch(*envelopes: Envelope, sequence: int = 1) -> transport_pb2.Batch:
    return transport_pb2.Batch(source_actor=9, sequence=sequence, messages=to_protobuf(envelopes))


def refusal(run: Joined, request: transport_pb2.Batch, metadata: Metadata = KNOWN) -> tuple[grpc.StatusCode, str]:
    """Return the code and details with which a station rejects a batch."""
    with stub(run.stations[0].endpoint.address) as service, pytest.raises(grpc.RpcError) as caught:
        next(service.Deliver(iter([request]), metadata=metadata, timeout=PATIENCE_S))
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details()


def server(run: Joined) -> MachineOutcome:
    return next(outcome for outcome in run.outcomes() if outcome.name == "server")


def replies(run: Joined, batches: int, actor: int = 9) -> int:
    """Return how many replies the server sends after `batches` of `actor`, while only it runs."""
    sent, window = 0, Window({SERVER: (FOREVER, FOREVER)}, due={actor: batches})
    while messages := run.peers[0].advance(window).messages:
        sent += messages
    return sent


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        ((SECRET_KEY, ""),),
        ((SECRET_KEY, SECRET[:-1]),),
        ((SECRET_KEY, SECRET + "0"),),
        ((SECRET_KEY + "-bin", SECRET.encode()),),
        (("authorization", SECRET),),
    ],
    ids=["none", "empty", "cut short", "too long", "as bytes under another key", "under another key"],
)
def test_a_stranger_is_unauthenticated_and_counted_and_changes_nothing(run: Joined, metadata: Metadata) -> None:
    code, _ = refusal(run, batch(CALL), metadata)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    window = transport_pb2.Window(horizons=to_times({CLIENT: FOREVER}), afterwards=[FOREVER], number=1)
    with stub(run.stations[0].endpoint.address) as service, pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
        service.Advance(window, metadata=metadata, timeout=PATIENCE_S)
    assert run.stations[0].strangers == 2
    run.run()
    expected = digest(cluster(pair("teller", "drawer", ledgers="drawer")))
    assert digest_of([(one.name, one.digest) for one in run.outcomes()]) == expected


def test_a_run_continues_while_strangers_knock() -> None:
    described = cluster(bank(teller={"rounds": 1}))
    with joined(described, 2) as run, stub(run.stations[1].endpoint.address) as service:
        knocks: list[grpc.StatusCode] = []

        def knock(progress: Progress) -> None:
            if progress.windows % 10 == 1:
                guess: Metadata = ((SECRET_KEY, "guess"),)
                request = batch(CALL, sequence=progress.windows)
                with pytest.raises(grpc.RpcError) as caught:
                    next(service.Deliver(iter([request]), metadata=guess, timeout=PATIENCE_S))
                assert isinstance(caught.value, grpc.Call)
                knocks.append(caught.value.code())

        run.run(knock)
        assert len(knocks) > 3
        assert set(knocks) == {grpc.StatusCode.UNAUTHENTICATED}
        assert [station.strangers for station in run.stations] == [0, len(knocks)]
        assert digest_of([(one.name, one.digest) for one in run.outcomes()]) == digest(described)


def test_every_run_has_a_secret_of_its_own() -> None:
    secrets = {new_secret() for _ in range(20)}
    assert len(secrets) == 20
    assert all(len(secret) == 64 for secret in secrets)


@pytest.mark.parametrize(
    "envelope",
    [
        replace(CALL, source=2),
        replace(CALL, destination=2),
        replace(CALL, source=SERVER),
        replace(CALL, sequence=0),
        replace(CALL, sent_ns=-1),
        replace(CALL, arrives_ns=CALL.sent_ns),
        replace(CALL, arrives_ns=FOREVER),
        replace(CALL, body=Fragment(1, PAYLOAD + 1)),
    ],
    ids=[
        "no such sender",
        "no such receiver",
        "to itself",
        "no sequence",
        "before time",
        "at once",
        "never",
        "too large a packet",
    ],
)
def test_a_message_that_no_machine_sends_is_an_invalid_argument(run: Joined, envelope: Envelope) -> None:
    code, details = refusal(run, batch(CALL, envelope))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "a malformed message from machine" in details
    run.run()
    # Only the client's own calls are answered: the whole batch is rejected.
    assert server(run).counts["link_replies"] == 18


def test_a_message_that_says_nothing_is_an_invalid_argument(run: Joined) -> None:
    empty = transport_pb2.Message(source=CLIENT, destination=SERVER, sequence=1, sent_ns=1, arrives_ns=2)
    request = transport_pb2.Batch(source_actor=9, sequence=1, messages=[empty])
    assert refusal(run, request)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_that_are_no_message_never_get_through(run: Joined) -> None:
    with grpc.insecure_channel(run.stations[0].endpoint.address) as channel:
        raw: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/lrpc.transport.v1.Transport/Deliver"
        )
        with pytest.raises(grpc.RpcError) as caught:
            next(raw(iter([b"\xff" * 50]), metadata=KNOWN, timeout=PATIENCE_S))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    run.run()
    assert server(run).counts["link_replies"] == 18


def test_a_batch_before_its_turn_is_refused_and_names_the_one_that_is_due(run: Joined) -> None:
    code, details = refusal(run, batch(CALL, sequence=2))
    assert code is grpc.StatusCode.OUT_OF_RANGE
    assert details == "batch 2 from actor 9 came before batch 1"


def test_a_batch_sent_twice_is_acknowledged_twice_and_taken_in_once(run: Joined) -> None:
    station = run.stations[0]
    with stub(station.endpoint.address) as service:
        receipts = list(service.Deliver(iter([batch(CALL)] * 3), metadata=KNOWN, timeout=PATIENCE_S))
    assert [receipt.sequence for receipt in receipts] == [1, 1, 1]
    assert replies(run, batches=1) == 1


def test_a_silent_batch_is_taken_and_not_acknowledged(run: Joined) -> None:
    silent = batch(CALL)
    silent.silent = True
    with stub(run.stations[0].endpoint.address) as service:
        sent = iter([silent, batch(replace(CALL, sequence=2), sequence=2)])
        receipts = list(service.Deliver(sent, metadata=KNOWN, timeout=PATIENCE_S))
    assert [receipt.sequence for receipt in receipts] == [2]
    assert replies(run, batches=2) == 2


def test_a_batch_to_oneself_that_does_not_come_is_sent_again_for_a_receipt(run: Joined) -> None:
    asked: list[int] = []

    def taken(sent: transport_pb2.Batch) -> bool:
        asked.append(sent.sequence)
        return False

    peer = Peer(run.stations[0].endpoint, SECRET, taken=taken)
    try:
        assert peer.send(7, [CALL])[0] == 1
        assert peer.send(7, [replace(CALL, sequence=2)])[0] == 2
    finally:
        peer.close()
    assert asked == [1, 2]
    assert replies(run, batches=2, actor=7) == 2


def test_a_batch_to_oneself_that_no_station_sends_is_refused_with_the_reason(run: Joined) -> None:
    peer = Peer(run.stations[0].endpoint, SECRET, taken=lambda sent: False)
    try:
        with pytest.raises(RunFailed, match="a malformed message from machine"):
            peer.send(7, [replace(CALL, sequence=0)])
    finally:
        peer.close()


def test_a_window_waits_for_the_batches_that_must_have_come(run: Joined) -> None:
    """The window ends after the batches have come and their events are done."""
    peer = Peer(run.stations[0].endpoint, SECRET)
    try:
        run.peers[0].begin(Window({SERVER: (5_001, 5_001)}, due={7: 2}))
        assert peer.send(7, [CALL])[0] == 1
        assert peer.send(7, [replace(CALL, sequence=2)])[0] == 2
        report = run.peers[0].end()
    finally:
        peer.close()
    assert report.next_ns[SERVER] > 5_000  # both arrivals are done


def test_a_window_is_not_begun_before_its_batches_have_come_and_says_whose_are_missing(
    run: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MISSING_S", 0.05)
    peer = Peer(run.stations[0].endpoint, SECRET)
    try:
        peer.send(3, [CALL])
        request = transport_pb2.Window(due=[transport_pb2.Sequence(actor=3, sequence=2)], number=1)
        with stub(run.stations[0].endpoint.address) as service:
            report = service.Advance(request, metadata=KNOWN, timeout=PATIENCE_S)
        assert (list(report.missing), list(report.next.machines)) == ([3], [])
    finally:
        peer.close()


@pytest.mark.parametrize(("most", "largest"), [(3, 2**20), (1000, 100)])
def test_what_is_too_much_for_one_batch_goes_in_several(
    run: Joined, monkeypatch: pytest.MonkeyPatch, most: int, largest: int
) -> None:
    monkeypatch.setattr(peers, "MOST_MESSAGES", most)
    monkeypatch.setattr(peers, "LARGEST_BATCH", largest)
    sent = [replace(CALL, sequence=number, body=CallMessage(number, "ledger", 0, bytes(4))) for number in range(1, 11)]
    last, _ = run.peers[0].send(9, sent)
    assert 3 < last <= 10
    assert replies(run, last) == 10


def test_a_peer_with_the_wrong_secret_fails_the_run(run: Joined) -> None:
    peer = Peer(run.stations[0].endpoint, "guess")
    try:
        with pytest.raises(
            RunFailed, match=r"^transport to 127\.0\.0\.1:\d+: UNAUTHENTICATED: this station answers only"
        ):
            peer.advance(Window({CLIENT: (1, 1)}))
    finally:
        peer.close()


def test_messages_cross_a_socket_even_within_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    described = cluster(pair("teller", "drawer", ledgers="drawer"))
    came: list[Envelope] = []
    deliver = Station.deliver

    def count(station: Station, envelopes: list[Envelope]) -> None:
        came.extend(envelopes)
        deliver(station, envelopes)

    monkeypatch.setattr(Station, "deliver", count)  # the serving end of gRPC calls it
    over_grpc, in_memory = (run_cluster(described, actors=0, transport=name) for name in ("grpc", "memory"))
    assert over_grpc.progress.messages == in_memory.progress.messages == len(came) == 36
    assert (over_grpc.digest, over_grpc.transport) == (in_memory.digest, "grpc")


RANKS = st.integers(0, 3)
NUMBERS = st.integers(0, 2**63 - 1)
BODIES = st.one_of(
    st.builds(CallMessage, NUMBERS, st.text(), st.integers(0, 2**31), st.binary(), NUMBERS),
    st.builds(ReplyMessage, NUMBERS, st.binary(), st.one_of(st.none(), st.tuples(st.text(), st.text()))),
    st.builds(Acknowledgement, NUMBERS),
    st.builds(Fragment, NUMBERS, st.integers(0, PAYLOAD)),
)


@given(st.permutations(range(4)), st.integers(1, 2**63), st.integers(0, 2**61), st.integers(1, 2**60), BODIES)
def test_an_envelope_comes_off_the_wire_as_it_went_on(
    ranks: list[int], sequence: int, sent: int, takes: int, body: Body
) -> None:
    envelope = Envelope(ranks[0], ranks[1], sequence, sent, sent + takes, body)
    (message,) = to_protobuf([envelope])
    received = transport_pb2.Message.FromString(message.SerializeToString())
    assert from_protobuf(received, 4) == envelope


TIMES = st.one_of(NUMBERS, st.just(FOREVER))


@given(
    st.dictionaries(RANKS, TIMES), st.dictionaries(RANKS, NUMBERS), NUMBERS, NUMBERS, st.dictionaries(RANKS, NUMBERS)
)
def test_a_report_comes_off_the_wire_as_it_went_on(
    next_ns: dict[int, int], arrivals: dict[int, int], calls: int, messages: int, batches: dict[int, int]
) -> None:
    waits = {rank for rank in next_ns if rank % 2}
    report = WindowReport(
        next_ns, waits, arrivals, calls, messages, batches, calls, [messages] * 8, calls, list(batches)
    )
    received = transport_pb2.Report.FromString(to_report(report, 7).SerializeToString())
    assert (received.window, from_report(received)) == (7, report)
