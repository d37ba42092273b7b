"""gRPC's channel and server for asyncio, on A-stacks: what `grpc.aio` calls by the same names."""

from lrpc.cluster.channel.aio.channel import insecure_channel, secure_channel
from lrpc.cluster.channel.aio.server import server

__all__ = ["insecure_channel", "secure_channel", "server"]
