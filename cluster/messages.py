"""Windows, reports and standings as protobuf messages, and back: hostile until they have been checked."""

from lrpc.cluster.group import SHARES, Report
from lrpc.cluster.standing import Standing, Sums
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.protos import link_pb2


def to_report(report: Report, window: int) -> link_pb2.Report:
    """Return a report as a protobuf message."""
    return link_pb2.Report(
        window=window,
        machines=[_state(rank, due, rank in report.waits) for rank, due in report.next_ns.items()],
        sent=[link_pb2.Sent(destination=rank, arrives_ns=due) for rank, due in report.arrivals.items()],
        calls=report.calls,
        messages=report.messages,
        batches=[link_pb2.Sequence(actor=number, sequence=last) for number, last in report.batches.items()],
        bytes=report.bytes,
        work_ns=report.work_ns,
        events=report.events,
        missing=report.missing,
    )


def from_report(message: link_pb2.Report) -> Report:
    """Return the report that a protobuf message holds."""
    return Report(
        {one.machine: _due(one) for one in message.machines},
        {one.machine for one in message.machines if one.waits},
        {one.destination: one.arrives_ns for one in message.sent},
        message.calls,
        message.messages,
        {one.actor: one.sequence for one in message.batches},
        message.bytes,
        list(message.work_ns) or [0] * SHARES,
        message.events,
        list(message.missing),
    )


def to_standing(standing: Standing) -> link_pb2.Standing:
    """Return a standing as a protobuf message: of machines, just those that have something to do or to wait for."""
    sums = standing.sums
    return link_pb2.Standing(
        machines=[
            _state(rank, due, waits)
            for rank, (due, waits) in enumerate(zip(standing.next_ns, standing.waits, strict=True))
            if due < FOREVER or waits
        ],
        due=[
            link_pb2.Due(receiver=receiver, sender=sender, sequence=last)
            for receiver, due in enumerate(standing.due)
            for sender, last in due.items()
        ],
        totals=[
            link_pb2.Total(actor=actor, calls=calls, events=events)
            for actor, (calls, events) in enumerate(zip(standing.calls, standing.events, strict=True))
        ],
        windows=sums.windows,
        rounds=sums.rounds,
        messages=sums.messages,
        bytes=sums.bytes,
        work_ns=sums.work_ns,
        ideal_ns=sums.ideal_ns,
        span_ns=standing.span_ns,
    )


def from_standing(message: link_pb2.Standing, like: Standing) -> Standing:
    """Return the standing, of a cluster like another's, that a message holds; `RunFailed` where none can be."""
    stations = len(like.due)
    standing = Standing(like.reach, like.home, stations)
    try:
        for one in message.machines:
            standing.next_ns[one.machine] = _due(one)
            standing.waits[one.machine] = one.waits
        for due in message.due:
            if due.sender >= stations:
                raise IndexError
            standing.due[due.receiver][due.sender] = due.sequence
        for total in message.totals:
            standing.calls[total.actor], standing.events[total.actor] = total.calls, total.events
    except IndexError:
        raise RunFailed("link: a standing that no station has") from None
    ideal_ns = list(message.ideal_ns) or [0] * SHARES
    sums = (message.windows, message.rounds, message.messages, message.bytes, message.work_ns, ideal_ns)
    standing.sums = Sums(*sums)
    standing.span_ns = message.span_ns
    return standing


def _state(rank: int, due: int, waits: bool) -> link_pb2.MachineState:
    return link_pb2.MachineState(machine=rank, next_ns=-1 if due == FOREVER else due, waits=waits)


def _due(state: link_pb2.MachineState) -> int:
    return FOREVER if state.next_ns < 0 else state.next_ns
