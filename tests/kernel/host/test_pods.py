"""Abstract doors: for containers of one pod, and only for users that either side lists."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.host.domain import HostDomain
from lrpc.domains.host.here import this_machine
from lrpc.kernel.host import client, messages
from lrpc.kernel.host.doors import AbstractDoors, doors_at
from tests.support.host import Shop, ShopServer, until
from tests.support.pods import CONTAINER, OTHER_USERS, contained

OWN = f"abstract:{os.geteuid()}"
# Their network namespace is this computer's, so each test has names of its own.
SERVE = """
name, where = sys.argv[1:]
here = this_machine("shop", folder=where)
here.export(Shop, ShopServer(), name)
here.serve(lambda: print("ready", flush=True))
"""
CALL = """
name, where, user = sys.argv[1:]
if int(user) != os.geteuid():
    os.setresuid(int(user), int(user), int(user))
here = this_machine(folder=where)
try:
    shop = here.bind(Shop, name)
    print("bound", flush=True)
    assert shop.echo(b"x" * 100_000) == b"x" * 100_000
    print(shop.add(1, 2), flush=True)
except lrpc.CallError as error:
    print(error, flush=True)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def name(tmp_path: Path) -> str:
    return f"shop-{os.getpid()}-{tmp_path.name[-40:]}".replace("[", "").replace("]", "")


@contextlib.contextmanager
def exported(name: str, where: str) -> Iterator[HostDomain]:
    with this_machine("shop", folder=where) as here:
        here.export(Shop, ShopServer(), name)
        yield here


def told(child: "subprocess.Popen[str]") -> list[str]:
    return child.communicate(timeout=60)[0].splitlines()


class TestContainers:
    def test_a_server_and_a_client_in_containers_of_their_own_call(self, name: str) -> None:
        with contained(SERVE, name, OWN) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            assert told(contained(CALL, name, OWN, str(os.geteuid()))) == ["bound", "3"]
            with this_machine(folder=OWN) as here:
                client = here.bind(Shop, name)
                assert client.add(1, 2) == 3
                server.kill()  # whom --kill-child has the container die with
                began = time.monotonic()
                with pytest.raises(lrpc.CallFailed):
                    client.wait(30.0)
                assert time.monotonic() - began < 5

    def test_a_client_that_ends_in_its_container_is_noticed(self, name: str) -> None:
        stays = CALL + "sys.stdin.read()"
        with exported(name, OWN) as here, contained(stays, name, OWN, str(os.geteuid())) as client:
            assert client.stdout is not None
            assert [client.stdout.readline() for _ in range(2)] == ["bound\n", "3\n"]
            assert len(here.server().bindings) == 1
            client.kill()
            until(lambda: not here.server().bindings)

    def test_workers_are_pinned_to_no_processor_that_a_client_names(self, name: str) -> None:
        with exported(name, OWN) as here, this_machine(folder=OWN) as other:
            client = other.bind(Shop, name)
            assert client.add(1, 2) == 3
            (binding,) = here.server().bindings.values()
            assert (binding.sender.pid, binding.pidfd) == (0, -1)
            assert not binding.pins

    def test_another_user_namespace_is_refused_on_either_side(self, name: str) -> None:
        with exported(name, OWN):
            client = contained(CALL, name, "abstract:0", "0", flags=(*OTHER_USERS, *CONTAINER))
            assert told(client) == [
                f"import {name}: the clerk refuses: it is in another user namespace, where users' numbers mean others"
            ]


class TestUsers:
    @needs_root
    def test_a_listed_user_is_served_and_another_one_is_not(self, name: str) -> None:
        with exported(name, "abstract:1234,1235"):
            assert told(contained(CALL, name, "abstract:0", "1234", flags=())) == ["bound", "3"]
            assert told(contained(CALL, name, "abstract:0", "1236", flags=())) == [
                f"import {name}: the clerk refuses: user 1236 is not listed in abstract:1234,1235"
            ]

    @needs_root
    def test_a_server_of_a_user_that_the_client_does_not_list_is_refused(self, name: str) -> None:
        with exported(name, "abstract:1234"):
            (said,) = told(contained(CALL, name, "abstract:1234", "1234", flags=()))
            assert said.endswith("its server is a process of user 0: user 0 is not listed in abstract:1234")

    def test_what_a_user_says_of_its_exports_who_is_not_listed_is_not_believed(self, name: str) -> None:
        with exported(name, f"abstract:{os.geteuid()}"):
            assert client.status(doors_at(OWN), name)["domain"] == "shop"
            with pytest.raises(lrpc.BindingRefused, match="is not listed in abstract:1234567"):
                client.status(doors_at("abstract:1234567"), name)

    def test_a_policy_is_asked_only_for_users_that_are_listed(self, name: str) -> None:
        asked = []

        def policy(request: object) -> str | None:
            asked.append(request)
            return None

        with this_machine(folder="abstract:1234567") as serving, this_machine(folder=OWN) as here:
            serving.export(Shop, ShopServer(), name, policy=policy)
            with pytest.raises(lrpc.BindingRefused, match="not listed in abstract:1234567"):
                here.bind(Shop, name)
        assert asked == []

    @pytest.mark.parametrize("users", ["", "root", "1,", "-1", "1 2", "99999999999", str(messages.overflow_user())])
    def test_a_list_that_is_none_or_names_nobody_is_refused(self, users: str) -> None:
        with pytest.raises(lrpc.BindingRefused, match="the users at the other end, such as abstract:1000,1001"):
            this_machine(folder=f"abstract:{users}")

    def test_the_environment_asks_for_abstract_doors_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LRPC_DOORS", "abstract:7,8")
        assert doors_at().users == frozenset((7, 8))
        assert isinstance(doors_at(), AbstractDoors)


class TestNames:
    def test_two_servers_cannot_have_one_name_and_it_is_free_again_after(self, name: str) -> None:
        with exported(name, OWN):
            with this_machine(folder=OWN) as other, pytest.raises(lrpc.BindingRefused, match="another process of this"):
                other.export(Shop, ShopServer(), name)
            assert name in doors_at(OWN).names()
        assert name not in doors_at(OWN).names()
        with exported(name, OWN), this_machine(folder=OWN) as here:
            assert here.bind(Shop, name).add(1, 2) == 3

    def test_a_name_that_nobody_exports_is_said(self, name: str) -> None:
        with this_machine(folder=OWN) as here, pytest.raises(lrpc.BindingRefused, match="nobody exports it by an abst"):
            here.bind(Shop, name)

    def test_doors_that_are_closed_refuse_while_bindings_go_on(self, name: str) -> None:
        with exported(name, OWN) as serving, this_machine(folder=OWN) as here:
            client = here.bind(Shop, name)
            serving.server().close_doors()
            until(lambda: name not in doors_at(OWN).names())
            with pytest.raises(lrpc.BindingRefused, match="nobody exports it"):
                here.bind(Shop, name)
            assert client.add(1, 2) == 3

    def test_who_says_nothing_of_its_namespace_is_refused(self, name: str) -> None:
        with exported(name, OWN), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.settimeout(10)
            door.connect(f"\0lrpc/{name}")
            signatures = [one.signature for one in Shop.procedures]
            messages.send(door, {"lrpc": 1, "want": "binding", "interface": "Shop", "signatures": signatures})
            assert b"in another user namespace" in door.recv(4096)
