"""gRPC's hello world, with lrpc's channel and server: see docs/grpc.md.

Generated code would have the stub and the servicer. Here they are written out, so that the example
needs no compiler of protobuf; the messages are protobuf's own for text.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import lrpc


def say_hello(request: StringValue, context: grpc.ServicerContext) -> StringValue:
    """Greet: a servicer's method."""
    return StringValue(value=f"Hello, {request.value}!")


def main() -> None:
    """Serve, call, and say which way the call took."""
    handler = grpc.unary_unary_rpc_method_handler(say_hello, StringValue.FromString, StringValue.SerializeToString)
    with tempfile.TemporaryDirectory() as folder:
        doors = [("lrpc.doors", folder)]
        server = lrpc.server(ThreadPoolExecutor(10), options=doors)  # was: grpc.server(ThreadPoolExecutor(10))
        service = grpc.method_handlers_generic_handler("helloworld.Greeter", {"SayHello": handler})
        server.add_generic_rpc_handlers((service,))
        target = f"unix:{Path(folder) / 'greeter.sock'}"
        server.add_insecure_port(target)
        server.start()
        with lrpc.insecure_channel(target, options=doors) as channel:  # was: grpc.insecure_channel(target)
            stub = channel.unary_unary(
                "/helloworld.Greeter/SayHello", StringValue.SerializeToString, StringValue.FromString
            )
            print(stub(StringValue(value="you")).value)
            print(f"A-stacks: {getattr(channel, 'local_calls', 0)}")
        server.stop(0).wait()


if __name__ == "__main__":
    main()
