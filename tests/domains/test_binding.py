"""Binding: a clerk decides, the kernel keeps the record, and each refusal gives its reason."""

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import ImportRequest
from lrpc.kernel.errors import BindingRefused, Refused
from lrpc.kernel.simulated.costs import load_cost_model
from tests.support.simulated import TRANSFERS, FourTests, FourTestsServer, assert_nothing_held, machine


class Empty(Interface):
    """An interface without procedures."""


class Other(Interface):
    """Another interface."""

    def null(self) -> None: ...

    def more(self, a: Int32) -> None: ...


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_clerk_refuses_with_a_reason_and_is_told_who_asks(transfer: Transfer) -> None:
    asked: list[ImportRequest] = []

    def policy(request: ImportRequest) -> str | None:
        asked.append(request)
        return None if request.client == "friend" else "friends only"

    one = machine()
    Clerk(policy).export(one.server, FourTests, FourTestsServer(), "private")
    with pytest.raises(BindingRefused, match=r"^import private: its clerk refused domain client: friends only$"):
        bind(one.client, FourTests, "private", transfer)
    friend = one.kernel.domain("friend")
    found: list[int] = []
    friend.spawn(lambda: found.append(bind(friend, FourTests, "private", transfer).add(1, 2)))
    one.run()
    assert found == [3]
    assert asked == [ImportRequest("client", "m", "private"), ImportRequest("friend", "m", "private")]
    assert_nothing_held(one.kernel)


def test_a_refused_import_leaves_no_binding_behind() -> None:
    one = machine()
    Clerk(lambda request: "no").export(one.server, FourTests, FourTestsServer(), "private")
    before = one.kernel.memory.allocate(1).base
    with pytest.raises(BindingRefused):
        bind(one.client, FourTests, "private")
    assert one.kernel.bindings == {}
    assert one.kernel.ports == {}
    assert one.kernel.memory.allocate(1).base - before == 512


def test_a_name_is_exported_once() -> None:
    one = machine()
    other = one.kernel.domain("other")
    with pytest.raises(BindingRefused, match=r"^export tests: domain server of machine m already exports it$"):
        Clerk().export(other, FourTests, FourTestsServer(), "tests")
    Clerk().export(other, FourTests, FourTestsServer(), "tests again")
    found: list[int] = []
    one.run(lambda: found.append(bind(one.client, FourTests, "tests again").add(1, 1)))
    assert found == [2]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_what_nobody_exports_cannot_be_imported(transfer: Transfer) -> None:
    one = machine()
    with pytest.raises(BindingRefused, match=r"^import nothing: nobody exports it to domain client of m$"):
        bind(one.client, FourTests, "nothing", transfer)
    with pytest.raises(BindingRefused, match=r"^import nothing: machine m does not export it$"):
        one.kernel.bind(one.client, "nothing")


def test_an_export_is_imported_as_the_interface_it_is() -> None:
    one = machine()
    with pytest.raises(BindingRefused, match=r"^import tests: it is a FourTests, not a Other$"):
        bind(one.client, Other, "tests")


def test_an_implementation_stands_for_its_interface() -> None:
    one = machine()
    found: list[int] = []
    one.run(lambda: found.append(bind(one.client, FourTestsServer, "tests").add(2, 2)))
    assert found == [4]


def test_a_server_that_lacks_a_procedure_is_not_exported() -> None:
    class Half(FourTests):
        def null(self) -> None: ...

    class Quarter:
        null = None

    one = machine()
    with pytest.raises(BindingRefused, match=r"^export half: Half has no procedure add$"):
        Clerk().export(one.server, FourTests, Half(), "half")
    with pytest.raises(BindingRefused, match=r"^export quarter: Quarter has no procedure null$"):
        Clerk().export(one.server, FourTests, Quarter(), "quarter")
    assert set(one.kernel.exports) == {"tests"}


def test_an_interface_without_procedures_is_not_exported() -> None:
    one = machine()
    with pytest.raises(BindingRefused, match=r"^export empty: interface Empty has no procedures$"):
        Clerk().export(one.server, Empty, object(), "empty")


def test_the_base_of_interfaces_is_none() -> None:
    one = machine()
    with pytest.raises(BindingRefused, match=r"^export base: Interface is not an interface; derive it"):
        Clerk().export(one.server, Interface, object(), "base")


def test_a_server_is_given_its_domain() -> None:
    one = machine()
    server = FourTestsServer()
    Clerk().export(one.server, FourTests, server, "mine")
    assert server.domain is one.server


def test_names_stand_for_what_a_domain_imports_them_as() -> None:
    one = machine()
    one.client.imports["adder"] = "tests"
    found: list[int] = []
    one.run(lambda: found.append(bind(one.client, FourTests, "adder").add(2, 3)))
    assert found == [5]
    with pytest.raises(BindingRefused):
        bind(one.server, FourTests, "adder")


def test_keys_differ_and_come_from_the_seed() -> None:
    def keys(seed: int) -> list[int]:
        one = machine(seed=seed)
        return [one.binding().key for _ in range(20)]

    assert keys(1) == keys(1)
    assert len({*keys(1), *keys(2)}) == 40


def test_a_cost_model_without_a_part_refuses_such_calls_only() -> None:
    one = machine(load_cost_model("linux-python"))
    with pytest.raises(Refused, match=r"^cost model linux-python: has no costs for message passing; add steps\."):
        bind(one.client, FourTests, "tests", "message passing")
    found: list[int] = []
    one.run(lambda: found.append(bind(one.client, FourTests, "tests").add(2, 3)))
    assert found == [5]
