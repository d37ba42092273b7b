"""Doors: what is refused at one, and what a crash leaves."""

import gc
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.host.here import this_machine
from lrpc.kernel.descriptors import ImportRequest
from lrpc.kernel.host import knocks, messages, server
from lrpc.kernel.host.doors import FolderDoors, default_folder
from tests.support.host import SERVE, Shop, ShopServer, descriptors, process, shop, until


class TestNames:
    @pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a" * 65, "ä", "shop.lock", "a b", "a\n", "-x"])
    def test_a_name_that_is_no_plain_file_name_is_refused(self, tmp_path: Path, name: str) -> None:
        with this_machine(folder=tmp_path) as here:
            with pytest.raises(lrpc.BindingRefused, match="1 to 64 letters"):
                here.export(Shop, ShopServer(), name)
            with pytest.raises(lrpc.BindingRefused, match="1 to 64 letters"):
                here.bind(Shop, name)

    def test_a_name_that_nobody_exports_is_said_with_its_door(self, tmp_path: Path) -> None:
        with this_machine(folder=tmp_path) as here, pytest.raises(lrpc.BindingRefused, match="nobody exports it"):
            here.bind(Shop, "shop")

    def test_two_servers_cannot_have_one_name(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as other:
            with pytest.raises(lrpc.BindingRefused, match="another process exports it"):
                other.export(Shop, ShopServer(), "shop")
            assert other.bind(Shop, "shop").add(1, 2) == 3

    def test_a_name_is_free_again_once_its_domain_is_closed(self, tmp_path: Path) -> None:
        for _ in range(3):
            with shop(tmp_path), this_machine(folder=tmp_path) as here:
                assert here.bind(Shop, "shop").add(1, 2) == 3


class TestCrashes:
    def test_a_door_left_by_a_crash_is_said_and_replaced(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE) as child:
            child.kill()
            child.wait()
            with this_machine(folder=tmp_path) as here:
                with pytest.raises(lrpc.BindingRefused, match="ended and left the door"):
                    here.bind(Shop, "shop")
                with shop(tmp_path):
                    assert here.bind(Shop, "shop").add(1, 2) == 3

    def test_a_door_that_is_a_link_is_no_door(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            (tmp_path / "link").symlink_to("shop")
            with pytest.raises(lrpc.BindingRefused, match="nobody exports it"):
                here.bind(Shop, "link")


class TestFolders:
    def test_a_folder_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        with this_machine(folder=tmp_path / "doors"):
            assert stat.S_IMODE((tmp_path / "doors").stat().st_mode) == 0o700

    def test_a_folder_that_was_made_goes_with_its_last_door_and_is_found_again(self, tmp_path: Path) -> None:
        folder = tmp_path / "doors"
        with this_machine(folder=folder) as here:
            folder.rmdir()  # as whoever has made it does, where it is the last
            for _ in range(2):
                with shop(folder):
                    assert here.bind(Shop, "shop").add(1, 2) == 3
                    assert sorted(os.listdir(folder)) == ["shop", "shop.lock"]
                assert not folder.exists()

    def test_servers_that_come_and_go_leave_no_descriptor_with_a_client(self, tmp_path: Path) -> None:
        folder = tmp_path / "doors"
        with this_machine(folder=folder) as here:
            held = []
            for _ in range(4):  # each makes the folder anew, and takes it away
                folder.rmdir()
                with shop(folder):
                    assert here.bind(Shop, "shop").add(1, 2) == 3
                folder.mkdir(0o700, exist_ok=True)
                gc.collect()
                held.append(descriptors())
            until(lambda: descriptors() <= held[0])

    def test_a_folder_that_was_there_stays(self, tmp_path: Path) -> None:
        with shop(tmp_path):
            pass
        assert tmp_path.exists()

    def test_a_door_that_is_hidden_leaves_its_name_to_another(self, tmp_path: Path) -> None:
        doors = FolderDoors(tmp_path)
        old = doors.open("shop")
        with pytest.raises(lrpc.BindingRefused, match="another process exports it"):
            doors.open("shop")
        old.hide()
        new = doors.open("shop")
        old.close()
        assert sorted(os.listdir(tmp_path)) == ["shop", "shop.lock"]
        new.close()
        assert os.listdir(tmp_path) == []
        doors.close()

    def test_servers_that_come_and_go_in_threads_leave_one_door_at_a_time(self, tmp_path: Path) -> None:
        folder = tmp_path / "doors"
        taken: list[int] = []
        wrong: list[object] = []

        def many() -> None:
            for _ in range(100):
                doors = FolderDoors(folder)
                try:
                    door = doors.open("shop")
                except lrpc.BindingRefused as error:
                    wrong.extend([] if "another process exports it" in str(error) else [error])
                else:
                    taken.append(1)
                    wrong.extend([] if len(taken) == 1 else ["two doors of one name"])
                    taken.pop()
                    door.close()
                doors.close()

        threads = [threading.Thread(target=many) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(30)
        assert wrong == []
        assert not folder.exists() or not os.listdir(folder)

    def test_a_folder_that_others_may_enter_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o750)
        with pytest.raises(lrpc.BindingRefused, match="must be yours with mode 0700"):
            this_machine(folder=tmp_path)

    def test_a_folder_that_is_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "doors").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to("doors")
        with pytest.raises(lrpc.BindingRefused):
            this_machine(folder=tmp_path / "link")

    def test_a_folder_with_a_long_path_works(self, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 120)
        with shop(deep), this_machine(folder=deep) as here:
            assert here.bind(Shop, "shop").add(1, 2) == 3

    def test_the_environment_names_the_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LRPC_DOORS", str(tmp_path / "named"))
        assert default_folder() == tmp_path / "named"
        monkeypatch.delenv("LRPC_DOORS")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        assert default_folder() == tmp_path / "lrpc"
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert default_folder().name == f"lrpc-{os.geteuid()}"


class TestClerks:
    def test_a_policy_is_told_who_asks_and_its_reason_reaches_the_client(self, tmp_path: Path) -> None:
        asked = []

        def policy(request: ImportRequest) -> str | None:
            asked.append((request.user, request.process, request.name))
            return "closed on Sundays"

        with this_machine(folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
            serving.export(Shop, ShopServer(), "shop", policy=policy)
            with pytest.raises(lrpc.BindingRefused, match="the clerk refuses: closed on Sundays"):
                here.bind(Shop, "shop")
        assert asked == [(os.geteuid(), os.getpid(), "shop")]

    def test_a_policy_that_raises_refuses(self, tmp_path: Path) -> None:
        def policy(request: object) -> str | None:
            raise ValueError("no idea")

        with this_machine(folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
            serving.export(Shop, ShopServer(), "shop", policy=policy)
            with pytest.raises(lrpc.BindingRefused, match="its policy raised ValueError: no idea"):
                here.bind(Shop, "shop")

    def test_another_version_of_an_interface_is_refused_with_what_differs(self, tmp_path: Path) -> None:
        class Old(lrpc.Interface):
            def add(self, a: lrpc.Int32, b: lrpc.Int64) -> lrpc.Int32: ...

        Old.__name__ = "Shop"
        differs = r"server has add\(a: Int32, b: Int32\) -> Int32, the client add\(a: Int32, b: Int64"
        with (
            shop(tmp_path),
            this_machine(folder=tmp_path) as here,
            pytest.raises(lrpc.BindingRefused, match=differs),
        ):
            here.bind(Old, "shop")

    def test_another_interface_is_refused_by_name(self, tmp_path: Path) -> None:
        class Bank(lrpc.Interface):
            def nothing(self) -> None: ...

        refusal = pytest.raises(lrpc.BindingRefused, match="it is a Shop, not a Bank")
        with shop(tmp_path), this_machine(folder=tmp_path) as here, refusal:
            here.bind(Bank, "shop")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_another_user_is_refused(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _):
            tmp_path.chmod(0o777)
            (tmp_path / "shop").chmod(0o777)
            for parent in tmp_path.parents[:3]:
                parent.chmod(0o755)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.setuid(12345)
                    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
                        door.connect(str(tmp_path / "shop"))
                        hello = {"lrpc": 1, "want": "binding", "interface": "Shop", "signatures": []}
                        messages.send(door, hello)
                        code = 0 if b"only processes of user 0 may, not of 12345" in door.recv(4096) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert "'the clerk refused': 1" in str(serving.status())


class TestStrangers:
    @pytest.mark.parametrize(
        "packet",
        [
            b"",
            b"b",
            b"{",
            b"[]",
            b"\xff" * 100,
            b"[" * 60_000,
            b'{"lrpc": 99, "want": "binding"}',
            b'{"lrpc": 1, "want": 7}',
            b'{"lrpc": 1, "want": "binding", "interface": "Shop", "signatures": 3}',
            b'{"lrpc": 1, "want": "binding", "interface": "Shop", "signatures": [[], {}]}',
        ],
    )
    def test_a_hello_that_is_none_is_answered_with_a_reason_or_the_end(self, tmp_path: Path, packet: bytes) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
                door.settimeout(10)
                door.connect(str(tmp_path / "shop"))
                door.send(packet)
                found = door.recv(4096)
                assert not found or b"refused" in found
            assert here.bind(Shop, "shop").add(1, 2) == 3

    def test_a_hello_that_never_comes_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(knocks, "HELLO_S", 0.1)
        with shop(tmp_path) as (serving, _):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
                door.settimeout(10)
                door.connect(str(tmp_path / "shop"))
                assert b"no hello came in time" in door.recv(4096)
            assert "no hello in time" in str(serving.status())

    def test_a_thousand_connections_leave_others_their_service(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            doors = []
            for _ in range(1000):
                door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                door.setblocking(False)
                try:
                    door.connect(str(tmp_path / "shop"))
                except BlockingIOError:  # the queue of those who wait to be accepted is full
                    door.close()
                    continue
                doors.append(door)
            assert client.add(1, 2) == 3
            for door in doors:
                door.close()
            assert here.bind(Shop, "shop").add(1, 2) == 3

    def test_descriptors_that_nobody_asked_for_are_closed(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            assert client.add(1, 2) == 3
            before = descriptors()
            for _ in range(20):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
                    door.settimeout(10)
                    door.connect(str(tmp_path / "shop"))
                    messages.send(door, {"lrpc": 1, "want": "nothing"}, [0, 0, 0, 0])
                    door.recv(4096)
            until(lambda: descriptors() == before)

    def test_more_bindings_than_allowed_are_refused_and_those_before_go_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "MOST_BINDINGS", 5)
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            clients = [here.bind(Shop, "shop") for _ in range(5)]
            with pytest.raises(lrpc.BindingRefused, match="has 5 bindings, the most allowed"):
                here.bind(Shop, "shop")
            assert [one.add(1, 2) for one in clients] == [3] * 5

    def test_segments_beyond_a_users_share_are_refused_and_the_binding_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "MOST_BYTES", 2 << 20)
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with pytest.raises(lrpc.CallFailed, match="the most that one user gets"):
                client.echo(bytes(1 << 21))
            assert client.echo(bytes(1 << 19)) == bytes(1 << 19)


def test_a_server_that_is_no_servers_answer_is_refused_by_the_client(tmp_path: Path) -> None:
    answers = [
        b"",
        b"{}",
        b'{"bound": 3}',
        b'{"bound": {"size": -1, "astacks": [], "groups": []}}',
        b'{"bound": {"size": 4096, "astacks": [[0, 10, 0]], "groups": [0,0,0,0,0,0,0,0,0,0]}}',
        b'{"bound": {"size": 4096, "astacks": [[128, 10, 1000000]], "groups": [0,0,0,0,0,0,0,0,0,0]}}',
    ]
    doors = FolderDoors(tmp_path)
    door = doors.open("shop")
    door.listening.setblocking(True)

    def serve() -> None:
        for one in answers:
            connection, _ = door.listening.accept()
            connection.recv(65536)
            if one:
                connection.send(one)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with this_machine(folder=tmp_path) as here:
        for _ in answers:
            with pytest.raises(lrpc.BindingRefused, match="import shop"):
                here.bind(Shop, "shop")
    thread.join()
    door.close()
    doors.close()
