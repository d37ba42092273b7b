"""gRPC's hello world for asyncio, with lrpc's channel and server: see docs/grpc.md."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import lrpc


async def say_hello(request: StringValue, context: "grpc.aio.ServicerContext[Any, Any]") -> StringValue:
    """Greet: a servicer's method."""
    return StringValue(value=f"Hello, {request.value}!")


async def main() -> None:
    """Serve, make three calls at once, and say which way they took."""
    handler = grpc.unary_unary_rpc_method_handler(say_hello, StringValue.FromString, StringValue.SerializeToString)
    with tempfile.TemporaryDirectory() as folder:
        doors = [("lrpc.doors", folder)]
        server = lrpc.aio.server(options=doors)  # was: grpc.aio.server()
        service = grpc.method_handlers_generic_handler("helloworld.Greeter", {"SayHello": handler})
        server.add_generic_rpc_handlers((service,))
        target = f"unix:{Path(folder) / 'greeter.sock'}"
        server.add_insecure_port(target)
        await server.start()
        async with lrpc.aio.insecure_channel(target, doors) as channel:  # was: grpc.aio.insecure_channel(target)
            stub = channel.unary_unary(
                "/helloworld.Greeter/SayHello", StringValue.SerializeToString, StringValue.FromString
            )
            for reply in await asyncio.gather(*(stub(StringValue(value=name)) for name in ("you", "me", "all"))):
                print(reply.value)
            print(f"A-stacks: {getattr(channel, 'local_calls', 0)}")
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
