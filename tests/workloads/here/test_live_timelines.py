"""`lrpc serve --timeline`: what a server did while it lasted, as Perfetto shows it."""

import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lrpc as api
from lrpc.domains.host.timeline import LiveTimeline
from lrpc.workloads.here import timeline
from tests.support.command import lrpc
from tests.support.host import ROOT, AwaitedShop, AwaitedShopServer, OutOfStock, Shop, ShopServer
from tests.support.timelines import read

ADDER = ROOT / "examples" / "adder.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRPC_DOORS", str(tmp_path / "doors"))
    return tmp_path / "doors"


def test_a_server_from_a_shell_writes_its_procedures_when_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "adder.perfetto-trace"
    served = ["serve", f"{ADDER}:AdderServer", "--name", "adder", "--timeline", str(file)]
    command = [sys.executable, "-c", "import lrpc_command; lrpc_command.main()", *served]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert server.stderr.readline().startswith("serving adder")
        for n in range(3):
            assert lrpc("call", "adder.add", n, 1).out == f"{n + 1}\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert server.stderr.read() == f"timeline {file}: 3 slices\n"
    found = read(file)
    assert [one.name for one in found.slices] == ["Adder.add"] * 3
    assert {one.category for one in found.slices} == {f"called by process {os.getpid()} of user {os.geteuid()}"}
    assert lrpc(*served).line.endswith("it is there already; name another file")


def test_calls_contain_the_procedures_that_they_lead_to(tmp_path: Path) -> None:
    with api.this_machine("shop") as here:
        recorded = here.record()
        here.export(Shop, ShopServer(), "shop")
        client = here.bind(Shop, "shop")
        assert client.add(1, 2) == 3
        with pytest.raises(OutOfStock):
            client.buy("tea")
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(client.echo, [b"x" * 5000] * 8)) == [b"x" * 5000] * 8
    by_name: dict[str, list[tuple[str, int, int]]] = {}
    for one in recorded.slices:
        by_name.setdefault(one.name, []).append((one.category, one.begin_ns, one.end_ns))
    assert {name: len(those) for name, those in by_name.items()} == {"Shop.add": 2, "Shop.buy": 2, "Shop.echo": 16}
    procedure, call = by_name["Shop.add"]
    assert call[0] == "call"
    assert procedure[0].startswith("called by process ")
    assert call[1] <= procedure[1] <= procedure[2] <= call[2]
    assert timeline.write(tmp_path / "file", "shop", recorded).endswith(": 20 slices")
    assert len(read(tmp_path / "file").slices) == 20


def test_awaited_calls_that_overlap_are_all_there(tmp_path: Path) -> None:
    async def main() -> LiveTimeline:
        with api.this_machine("shop") as here:
            recorded = here.record()
            here.export(AwaitedShop, AwaitedShopServer(), "shop")
            client = here.bind(AwaitedShop, "shop")
            await asyncio.gather(*(client.wait(0.01 * n) for n in range(4)))
            return recorded

    recorded = asyncio.run(main())
    timeline.write(tmp_path / "file", "shop", recorded)
    assert [one.name for one in read(tmp_path / "file").slices] == ["AwaitedShop.wait"] * 8


def test_slices_beyond_the_most_are_left_out_and_said(tmp_path: Path) -> None:
    with api.this_machine("shop") as here:
        recorded = here.record(most=3)
        here.export(Shop, ShopServer(), "shop")
        client = api.this_machine().bind(Shop, "shop")
        for n in range(5):
            client.add(n, 1)
    assert timeline.write(tmp_path / "file", "shop", recorded).endswith("3 slices, and 2 later ones left out")


def test_a_timeline_of_nothing_is_a_file(tmp_path: Path) -> None:
    assert timeline.write(tmp_path / "file", "shop", LiveTimeline(1)).endswith(": 0 slices")
    assert not read(tmp_path / "file").slices
