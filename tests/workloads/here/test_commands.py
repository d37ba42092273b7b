"""`lrpc serve`, `lrpc call` and `lrpc doors`, with servers of this process and of others."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest

import lrpc as api
from lrpc.domains.host.here import Waits
from lrpc.kernel.host import native
from lrpc.kernel.host.processors import choose_spinning
from tests.support.command import lrpc
from tests.support.host import ROOT, SERVE, Shop, process, shop

ADDER = ROOT / "examples" / "adder.py"


class Kinds(api.Interface):
    def echo(self, a: api.Float64, b: api.Bool, c: Annotated[str, api.UpTo(20)]) -> tuple[api.Float64, api.Bool]: ...
    def text(self, c: Annotated[str, api.UpTo(20)]) -> Annotated[str, api.UpTo(20)]: ...
    def raw(self, c: Annotated[bytes, api.FixedBytes(3)]) -> Annotated[bytes, api.UpTo(20)]: ...


class KindsServer(Kinds):
    def echo(self, a: float, b: bool, c: str) -> tuple[float, bool]:
        return a * 2, not b

    def text(self, c: str) -> str:
        return c.upper()

    def raw(self, c: bytes) -> bytes:
        return c * 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRPC_DOORS", str(tmp_path / "doors"))
    return tmp_path / "doors"


class TestCall:
    def test_a_procedure_is_called_with_types_that_its_server_tells(self, folder: Path) -> None:
        with shop(folder):
            assert lrpc("call", "shop.add", 1, -5).out == "-4\n"
            assert lrpc("call", "shop.both", 1, 2).out == "2\n1\n"
            assert lrpc("call", "shop.nothing").out == ""

    def test_numbers_truth_and_text_are_read_from_words(self, folder: Path) -> None:
        with api.this_machine() as here:
            here.export(Kinds, KindsServer(), "kinds")
            assert lrpc("call", "kinds.echo", "1.5", "true", "x").out == "3.0\nFalse\n"
            assert lrpc("call", "kinds.text", "two words").out == "TWO WORDS\n"

    def test_what_a_server_says_is_shown_as_text(self, folder: Path) -> None:
        with api.this_machine() as here:
            here.export(Kinds, KindsServer(), "kinds")
            assert "\x1b" not in lrpc("call", "kinds.text", "\x1b[31m").out

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("shop.add", "x", 1), "lrpc: Shop.add: a: 'x': not int"),
            (("shop.fill", "x"), "lrpc: Shop.fill: a value of type Reference[bytes[200]] cannot be written"),
            (("shop.add", 1), "lrpc: add(a: Int32, b: Int32) -> Int32: takes 2 arguments, not 1"),
            (("shop.add", 2**40, 1), "lrpc: Shop.add: a: 1099511627776 does not fit Int32"),
            (("shop.sub", 1), "lrpc: shop.sub: shop has no procedure sub; its procedures: add, nothing, both"),
            (("shop", 1), "lrpc: shop: write NAME.PROCEDURE"),
            (("nobody.add", 1), "lrpc: import nobody: nobody exports it on this computer"),
            (("a/b.add", 1), "lrpc: export 'a/b': a door's name has 1 to 64 letters"),
        ],
    )
    def test_what_cannot_be_called_is_refused_in_one_line(
        self, folder: Path, arguments: tuple[object, ...], line: str
    ) -> None:
        with shop(folder):
            ended = lrpc("call", *arguments)
            assert ended.code == 2
            assert ended.line.startswith(line)

    def test_a_call_that_fails_ends_with_3(self, folder: Path) -> None:
        with shop(folder):
            ended = lrpc("call", "shop.buy", "milk")
            assert ended.code == 3
            assert ended.line == "lrpc: shop.buy: LookupError: no milk"
            assert lrpc("call", "--timeout", "0.05", "shop.wait", "30").code == 3


class TestDoors:
    def test_exports_and_bindings_are_listed(self, folder: Path) -> None:
        assert "no doors" in lrpc("doors").out
        with shop(folder), api.this_machine() as here:
            client = here.bind(Shop, "shop")
            for n in range(10):
                client.add(n, 1)
            said = lrpc("doors").out
            assert "Shop" in said
            assert str(os.getpid()) in said
            found = json.loads(lrpc("doors", "--json").out)
            (binding,) = found["shop"]["bindings"]
            assert binding["calls"] == 10
            assert binding["astacks"] >= 5
            assert "add(a: Int32, b: Int32) -> Int32" in found["shop"]["exports"]["shop"]["procedures"]

    @pytest.mark.parametrize(
        ("waits", "allowed", "calls", "why"),
        [
            ("sleep", 1, 3, {"asked to sleep"}),
            ("adapt", 0, 3, {"processor quota", "one processor"}),
            ("adapt", 1, 0, {"no calls"}),
            ("adapt", 1, 3, {"calls too far apart"}),
            ("spin", 1, 3, {"watches"}),
        ],
    )
    def test_why_workers_do_not_watch_is_said(
        self, folder: Path, waits: Waits, allowed: int, calls: int, why: set[str]
    ) -> None:
        with shop(folder, waits=waits), api.this_machine(waits=waits) as here:
            native.allow_spinning(allowed)
            try:
                client = here.bind(Shop, "shop")
                for _ in range(calls):
                    client.nothing()
                (binding,) = json.loads(lrpc("doors", "--json").out)["shop"]["bindings"]
                assert binding["why"] in why
                assert ("why" in lrpc("doors").out) == (waits != "spin")
            finally:
                choose_spinning()

    def test_a_door_that_a_crash_has_left_is_listed_with_the_reason(self, folder: Path) -> None:
        with process(folder, SERVE) as child:
            child.kill()
            child.wait()
        assert "its server has ended" in lrpc("doors", "--json").out

    def test_watching_looks_again_until_it_is_interrupted(self, folder: Path) -> None:
        program = "import lrpc_command; lrpc_command.main()"
        command = [sys.executable, "-c", program, "doors", "--watch", "0.1", "--json"]
        watching = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == "{}\n"
        with shop(folder):
            while (line := watching.stdout.readline()) == "{}\n":
                pass
            assert line == "{\n"  # an export is shown in several lines
            watching.send_signal(signal.SIGINT)
            watching.stdout.read()
            assert watching.wait(20) == 130
        assert "Traceback" not in watching.stderr.read()
        watching.stdout.close()
        watching.stderr.close()


class TestServe:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_class_is_served_until_it_is_told_to_end_and_leaves_nothing(
        self, folder: Path, number: signal.Signals
    ) -> None:
        command = [
            sys.executable,
            "-c",
            "import lrpc_command; lrpc_command.main()",
            "serve",
            f"{ADDER}:AdderServer",
            "--name",
            "adder",
        ]
        server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        assert server.stderr.readline().startswith("serving adder (Adder) in ")
        assert lrpc("call", "adder.add", 1, 2).out == "3\n"
        server.send_signal(number)
        assert server.wait(20) == 0
        assert server.stderr.read() == ""
        server.stderr.close()
        assert not folder.exists()
        assert "no doors" in lrpc("doors").out
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("server", "line"),
        [
            (f"{ADDER}:Adder", "not a class that implements an lrpc.Interface"),
            (f"{ADDER}:main", "not a class that implements an lrpc.Interface"),
            (f"{ADDER}:Nothing", "not a class that implements an lrpc.Interface"),
            ("nowhere.py:X", "No such file"),
            ("nonsense", "write module:NAME or path.py:NAME"),
        ],
    )
    def test_what_cannot_be_served_is_refused_in_one_line(self, folder: Path, server: str, line: str) -> None:
        ended = lrpc("serve", server, "--name", "adder")
        assert ended.code == 2
        assert line in ended.line

    def test_a_name_that_is_taken_is_refused(self, folder: Path) -> None:
        with shop(folder):
            ended = lrpc("serve", f"{ADDER}:AdderServer", "--name", "shop")
            assert ended.code == 2
            assert "another process exports it" in ended.line
