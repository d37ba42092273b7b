"""The generated code in protos/ matches its definitions."""

import subprocess
import sys
from pathlib import Path

from lrpc.protos import generate, transport_pb2

GENERATED = ["transport_pb2.py", "transport_pb2.pyi", "transport_pb2_grpc.py", "transport_pb2_grpc.pyi"]


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrpc.protos.generate", "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == GENERATED
    for name in GENERATED:
        fresh, kept = tmp_path / name, generate.HERE / name
        assert fresh.read_bytes() == kept.read_bytes(), f"{name} is out of date: run `make protos`"


def test_a_message_survives_the_wire() -> None:
    call = transport_pb2.Call(number=1, export="adder", procedure=2, arguments=b"\x00\xff")
    sent = transport_pb2.Message(source=3, destination=4, sequence=5, sent_ns=6, arrives_ns=7, call=call)
    received = transport_pb2.Message.FromString(sent.SerializeToString())
    assert received == sent
    assert received.WhichOneof("body") == "call"
    assert not transport_pb2.Reply(number=1).HasField("fault")
