"""Conversion between Python objects and protobuf messages: envelopes, windows, reports and states.

Messages are not trusted: what no machine or station can have sent raises `RunFailed`.
"""

from collections.abc import Iterable, Mapping

from lrpc.cluster.envelope import Envelope
from lrpc.cluster.held import SHARES, WindowReport
from lrpc.cluster.synchronisation_state import ACTORS, Horizons, Sums, SynchronisationState
from lrpc.kernel.errors import MOST_PLACES, MOST_TRACE, RaisedAt, RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.network.packets import PAYLOAD, Acknowledgement, Body, CallMessage, Fragment, ReplyMessage
from lrpc.protos import transport_pb2


def to_protobuf(envelopes: Iterable[Envelope]) -> list[transport_pb2.Message]:
    """Return envelopes as protobuf messages."""
    return [_message(envelope) for envelope in envelopes]


def _message(envelope: Envelope) -> transport_pb2.Message:
    message = transport_pb2.Message(
        source=envelope.source,
        destination=envelope.destination,
        sequence=envelope.sequence,
        sent_ns=envelope.sent_ns,
        arrives_ns=envelope.arrives_ns,
    )
    body = envelope.body
    if isinstance(body, CallMessage):
        call = transport_pb2.Call(
            number=body.number,
            export=body.export,
            procedure=body.procedure,
            arguments=body.arguments,
            caller=body.caller,
        )
        message.call.CopyFrom(call)
    elif isinstance(body, ReplyMessage):
        message.reply.CopyFrom(transport_pb2.Reply(number=body.number, results=body.results))
        if body.fault is not None:
            message.reply.fault.CopyFrom(transport_pb2.Fault(kind=body.fault[0], message=body.fault[1]))
    elif isinstance(body, Acknowledgement):
        message.acknowledgement.CopyFrom(transport_pb2.Acknowledgement(number=body.number))
    else:
        message.fragment.CopyFrom(transport_pb2.Fragment(number=body.number, size=body.size))
    return message


def from_protobuf(message: transport_pb2.Message, machines: int) -> Envelope:
    """Return the envelope in a protobuf message of a cluster with `machines` machines.

    Raises `RunFailed` where no machine of it can have sent the message.
    """
    well_formed = (
        message.source < machines
        and message.destination < machines
        and message.source != message.destination
        and message.sequence > 0
        and 0 <= message.sent_ns < message.arrives_ns < FOREVER
    )
    kind = message.WhichOneof("body")
    if not well_formed or kind is None or message.fragment.size > PAYLOAD:
        raise RunFailed(f"transport: a malformed message from machine {message.source} to {message.destination}")
    body: Body
    if kind == "call":
        call = message.call
        body = CallMessage(call.number, call.export, call.procedure, call.arguments, call.caller)
    elif kind == "acknowledgement":
        body = Acknowledgement(message.acknowledgement.number)
    elif kind == "fragment":
        body = Fragment(message.fragment.number, message.fragment.size)
    else:
        reply = message.reply
        fault = (reply.fault.kind, reply.fault.message) if reply.HasField("fault") else None
        body = ReplyMessage(reply.number, reply.results, fault)
    return Envelope(message.source, message.destination, message.sequence, message.sent_ns, message.arrives_ns, body)


def to_report(report: WindowReport, window: int) -> transport_pb2.Report:
    """Return a report as a protobuf message, with the number of its window."""
    return transport_pb2.Report(
        window=window,
        next=to_times(report.next_ns),
        sent=to_times(report.arrivals),
        calls=report.calls,
        messages=report.messages,
        batches=[transport_pb2.Sequence(actor=number, sequence=last) for number, last in report.batches.items()],
        bytes=report.bytes,
        work_ns=report.work_ns,
        events=report.events,
        missing=report.missing,
        waiting=report.waits,
    )


def from_report(message: transport_pb2.Report) -> WindowReport:
    """Return the report in a protobuf message."""
    return WindowReport(
        from_times(message.next),
        set(message.waiting),
        from_times(message.sent),
        message.calls,
        message.messages,
        {one.actor: one.sequence for one in message.batches},
        message.bytes,
        list(message.work_ns) or [0] * SHARES,
        message.events,
        list(message.missing),
    )


def to_state(state: SynchronisationState) -> transport_pb2.SynchronisationState:
    """Return a synchronisation state as a protobuf message."""
    sums = state.sums
    return transport_pb2.SynchronisationState(
        next=to_times({rank: due for rank, due in enumerate(state.next_ns) if due < FOREVER}),
        waiting=[rank for rank, waits in enumerate(state.waits) if waits],
        due=[
            transport_pb2.Due(receiver=receiver, sender=sender, sequence=last)
            for receiver, due in enumerate(state.due)
            for sender, last in due.items()
        ],
        calls=state.calls,
        events=state.events,
        windows=sums.windows,
        rounds=sums.rounds,
        messages=sums.messages,
        bytes=sums.bytes,
        work_ns=sums.work_ns,
        ideal_ns=sums.ideal_ns,
        ideal_rounds=sums.ideal_rounds,
        span_ns=state.span_ns,
    )


def read_state(message: transport_pb2.SynchronisationState, state: SynchronisationState) -> None:
    """Replace a synchronisation state by the one in a protobuf message.

    What does not travel stays: promises, and where machines are. Raises `RunFailed` where the
    message refers to machines or stations that do not exist, and leaves the state unfinished.
    """
    machines, stations = len(state.next_ns), len(state.due)
    state.next_ns, state.waits = [FOREVER] * machines, [False] * machines
    state.due = [{} for _ in range(stations)]
    try:
        for rank, due_ns in from_times(message.next).items():
            state.next_ns[rank] = due_ns
        for rank in message.waiting:
            state.waits[rank] = True
        for due in message.due:
            if due.sender >= stations:
                raise IndexError
            state.due[due.receiver][due.sender] = due.sequence
        if not len(message.calls) == len(message.events) == stations:
            raise IndexError
    except IndexError:
        raise RunFailed("transport: a synchronisation state with an unknown machine or station") from None
    state.calls, state.events = list(message.calls), list(message.events)
    state.sums = Sums(
        message.windows,
        message.rounds,
        message.messages,
        message.bytes,
        message.work_ns,
        list(message.ideal_ns) or [0] * len(ACTORS),
        list(message.ideal_rounds) or [0.0] * len(ACTORS),
    )
    state.span_ns = message.span_ns


def horizons_of(window: transport_pb2.Window) -> Horizons:
    """Return the horizons in a window. Raises `RunFailed` where a machine lacks one of its two."""
    first = from_times(window.horizons)
    if len(window.afterwards) != len(first):
        raise RunFailed(f"transport: {len(window.afterwards)} second horizons for {len(first)} machines")
    return dict(zip(first, zip(first.values(), window.afterwards, strict=True), strict=True))


def to_times(times: Mapping[int, int]) -> transport_pb2.Times:
    """Return times by rank as a protobuf message."""
    return transport_pb2.Times(machines=times.keys(), times_ns=times.values())


def from_times(message: transport_pb2.Times) -> dict[int, int]:
    """Return the times by rank in a message. Raises `RunFailed` where one of them lacks."""
    if len(message.machines) != len(message.times_ns):
        raise RunFailed(f"transport: {len(message.times_ns)} times for {len(message.machines)} machines")
    return dict(zip(message.machines, message.times_ns, strict=True))


def to_raised_at(where: RaisedAt) -> transport_pb2.RaisedAt:
    """Return where a failure was raised, as a message."""
    return transport_pb2.RaisedAt(places=where.places, trace=where.trace)


def from_raised_at(message: transport_pb2.RaisedAt) -> RaisedAt:
    """Return where a failure was raised, cut to the length that it may have."""
    return RaisedAt(message.places[:MOST_PLACES], message.trace[:MOST_TRACE])
