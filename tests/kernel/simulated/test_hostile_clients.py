"""Clients that bypass their stubs: altered Binding Objects, undeclared bindings, early aborts."""

from collections.abc import Callable
from typing import Annotated

import pytest

from lrpc.cluster.description import describe
from lrpc.cluster.machine import Machine, NameService
from lrpc.cluster.reach import Reach
from lrpc.cluster.run import run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Immutable, Int32, UpTo
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.servers import Files
from lrpc.domains.simulated.binding import bind
from lrpc.domains.simulated.stubs import ClientStub
from lrpc.kernel.documents import validate
from lrpc.kernel.errors import BindingRefused, CallAborted, ForgedBinding, ProcedureRaised, RunFailed
from lrpc.kernel.simulated.costs import COPY_BYTE
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.programs.registry import REGISTRY
from tests.support.simulated import FIREFLY, assert_nothing_held, machine

ALTERATIONS: dict[str, Callable[[ClientStub], None]] = {
    "its key": lambda stub: setattr(stub.key, "key", 1),
    "its number": lambda stub: setattr(stub.key, "number", 99),
    "its number to what is none": lambda stub: setattr(stub.key, "number", []),
    "its remote bit": lambda stub: setattr(stub.key, "remote", not stub.key.remote),
}


class Hold(Interface):
    """A job that takes one call at a time."""

    @procedure(simultaneous=1)
    def hold(self, us: Int32) -> Int32:
        raise NotImplementedError


class HoldServer(Hold):
    domain: ProtectionDomain

    def hold(self, us: int) -> int:
        self.domain.compute(us=us)
        return us


@pytest.mark.parametrize("pause", range(0, 200, 7))
def test_a_released_caller_leaves_alone_what_another_thread_has_taken_meanwhile(pause: int) -> None:
    """The server returns, and another call takes the A-stack, before the caller resumes.

    Two processors make this possible.
    """
    kernel = Kernel("m", FIREFLY, processors=2, debug=True)
    client = kernel.domain("client")
    Clerk().export(kernel.domain("server"), Hold, HoldServer(), "hold")
    held = bind(client, Hold, "hold")
    seen: list[object] = []

    def captured() -> None:
        with pytest.raises(CallAborted):
            held.hold(100)
        seen.append(held.hold(7))

    def other() -> None:
        client.compute(us=120)
        client.abort(thread)
        client.compute(us=pause)
        seen.append(held.hold(500))

    thread = client.spawn(captured)
    client.spawn(other)
    kernel.run(FOREVER)
    assert sorted(map(str, seen)) == ["500", "7"]
    assert_nothing_held(kernel)


def two_machines(imports: dict[str, str], to: str = "files") -> ClusterTable:
    call = {"to": to, "interface": "Files", "procedure": "read", "arguments": [1, 2]}
    reader = {"program": "caller", "parameters": {"calls": [call]}}
    tables = {
        "name": "two",
        "machines": {"here": {}, "there": {}},
        "domains": {
            "store": {"machine": "there", "exports": {"store": {"server": "file server"}}},
            "reader": {"machine": "here", "imports": imports, "threads": [reader]},
        },
    }
    return validate(ClusterTable, tables, "two")


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_binding_object_for_another_machine_is_refused_there_and_then(alteration: str) -> None:
    described = describe(two_machines({"files": "store"}), REGISTRY, "two")
    names, reach = NameService(described), Reach(described)
    here = Machine.of(described, 0, names=names, reach=reach, seed=0, sink=None)
    reader = here.domain("reader")
    files = bind(reader, Files, "files")
    stub = vars(files)["read"]
    ALTERATIONS[alteration](stub)
    refused = []

    def body() -> None:
        with pytest.raises(ForgedBinding):
            files.read(1, 2)
        refused.append(here.now_us)

    before = here.kernel.counts.link_requests
    reader.spawn(body)
    here.kernel.run(1)  # the scenario's own thread sends its call, and stops there
    here.kernel.run(FOREVER)
    assert len(refused) == 1
    assert here.kernel.counts.link_requests == before + 1  # that thread's request, and none of ours


def test_the_name_on_a_binding_object_is_the_kernels_not_the_clients() -> None:
    described = describe(two_machines({"files": "store"}), REGISTRY, "two")
    names, reach = NameService(described), Reach(described)
    here = Machine.of(described, 0, names=names, reach=reach, seed=0, sink=None)
    reader = here.domain("reader")
    files = bind(reader, Files, "files")
    vars(files)["read"].key.name = "secret"
    reader.spawn(lambda: print(files.read(1, 2)))
    here.kernel.run(FOREVER)
    assert {envelope.body.export for envelope in here.outbox} == {"store"}  # type: ignore[union-attr]


@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.parametrize("transfer", ["lrpc", "message passing"])
def test_an_altered_binding_object_for_this_machine_is_refused(transfer: str, alteration: str) -> None:
    one = machine()
    seen: list[str] = []

    def body() -> None:
        tests = one.tests("lrpc" if transfer == "lrpc" else "message passing")
        ALTERATIONS[alteration](vars(tests)["null"])
        with pytest.raises(ForgedBinding):
            tests.null()
        one.tests().null()
        seen.append("the machine goes on")

    one.run(body)
    assert seen == ["the machine goes on"]
    assert_nothing_held(one.kernel)


def test_another_domains_binding_object_opens_no_port() -> None:
    one = machine()
    stolen = one.tests("message passing")

    def thief() -> None:
        with pytest.raises(ForgedBinding):
            stolen.null()

    one.kernel.domain("thief").spawn(thief)
    one.kernel.run(FOREVER)
    assert one.kernel.counts.cross_domain == 0


def test_what_a_domain_does_not_declare_it_cannot_bind_on_another_machine() -> None:
    """Promises limit how far machines run ahead, and they follow from declarations."""
    described = describe(two_machines({"files": "store"}), REGISTRY, "two")
    names, reach = NameService(described), Reach(described)
    here = Machine.of(described, 0, names=names, reach=reach, seed=0, sink=None)
    with pytest.raises(BindingRefused, match="does not declare it; add it to its imports"):
        bind(here.domain("another"), Files, "store")


def test_a_program_that_calls_what_its_domain_does_not_import_is_refused_before_it_runs() -> None:
    with pytest.raises(Exception, match="calls store, which domain reader does not import; add it to its imports"):
        describe(two_machines({"files": "store"}, to="store"), REGISTRY, "two")


def test_estacks_are_as_many_as_calls_at_once() -> None:
    one = machine()

    def body() -> None:
        for tests in (one.tests(), one.tests()):
            tests.null()
            tests.big_in(bytes(range(200)))

    one.run(body)
    assert one.server.estacks.made == 4  # two bindings, two A-stacks of each


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def test_an_exception_that_cannot_be_put_into_words_reaches_the_caller_all_the_same() -> None:
    def fail() -> None:
        raise Unspeakable

    one = machine(before=fail)

    def body() -> None:
        with pytest.raises(ProcedureRaised, match=r"Unspeakable: .*RuntimeError"):
            one.tests().null()

    one.run(body)
    assert_nothing_held(one.kernel)


class Talk(Interface):
    def say(self, text: Annotated[str, UpTo(1000), Immutable]) -> None: ...


class TalkServer(Talk):
    def say(self, text: str) -> None: ...


def test_an_immutable_argument_is_copied_again_at_the_size_it_has() -> None:
    kernel = Kernel("m", FIREFLY)
    Clerk().export(kernel.domain("server"), Talk, TalkServer(), "talk")
    client = kernel.domain("client")
    talk = bind(client, Talk, "talk")
    client.spawn(lambda: talk.say("abc"))
    kernel.run(FOREVER)
    assert (kernel.counts.copies["A"], kernel.counts.copies["E"]) == (1, 1)
    assert kernel.charges.counts()[COPY_BYTE] == 2 * (4 + 3)  # bytes and length, once for copy A and once for E


def test_a_thread_that_asks_for_a_time_that_cannot_be_ends_the_run() -> None:
    one = machine()
    with pytest.raises(RunFailed, match="a time of -1 µs"):
        one.run(lambda: one.client.sleep(-1))


def test_a_declared_call_runs() -> None:
    outcome = run_cluster(describe(two_machines({"files": "store"}), REGISTRY, "two"), actors=0, transport="memory")
    assert sum(one.counts["cross_machine"] for one in outcome.machines) == 1
