"""A message between machines with its virtual times, and its conversion to and from protobuf.

Protobuf messages are not trusted: what no machine can have sent raises `RunFailed`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.network.packets import PAYLOAD, Acknowledgement, Body, CallMessage, Fragment, ReplyMessage
from lrpc.protos import transport_pb2

LOOPBACK: Final = "127.0.0.1"  # where stations of one computer are reached
Transport = Literal["grpc", "memory"]  # how envelopes travel


@dataclass(slots=True)  # not frozen: a frozen one takes three times as long to make
class Envelope:
    """A message between machines that is on its way: a call, a reply, or a packet of one.

    Machines are named by rank. `sequence` counts the messages from this source to this destination,
    from 1.
    """

    source: int
    destination: int
    sequence: int
    sent_ns: int
    arrives_ns: int
    body: Body


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
