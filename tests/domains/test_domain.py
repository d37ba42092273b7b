"""Servers, programs and clerks need only one protocol of their domain: any kernel satisfies it.

So does a domain without a kernel.
"""

from collections.abc import Callable

import pytest

from lrpc.cluster.machine import Machine
from lrpc.domains.codecs import Bytes200, Int32, Reference
from lrpc.domains.domain import Domain, bind
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Program
from lrpc.domains.servers import BLOCK_BYTES, FileCache, Files, FileServer, Names, NameServer, Windows, WindowServer
from lrpc.kernel.errors import ArgumentError, BindingRefused
from tests.support.alone import DomainAlone, World


class Place:
    """A place that has domains, and runs code in one of them."""

    def __init__(self, kind: str) -> None:
        self._world = World()
        self._machine = Machine("m") if kind == "simulated" else None

    def domain(self, name: str) -> Domain:
        return DomainAlone(self._world, name) if self._machine is None else self._machine.domain(name)

    def run(self, domain: Domain, body: Callable[[], None]) -> None:
        domain.spawn(body)
        if self._machine is not None:
            self._machine.run()


@pytest.fixture(params=["simulated", "without a kernel"])
def place(request: pytest.FixtureRequest) -> Place:
    return Place(request.param)


class Sums(Interface):
    """Arithmetic, and a parameter by reference."""

    def add(self, a: Int32, b: Int32) -> Int32:
        raise NotImplementedError

    def reverse(self, data: Reference[Bytes200]) -> None: ...


class SumServer(Sums):
    def add(self, a: int, b: int) -> int:
        return a + b

    def reverse(self, data: Reference[bytes]) -> None:
        data.value = data.value[::-1]


def test_calls_take_values_and_references_wherever_they_run(place: Place) -> None:
    place.domain("server").export(Sums, SumServer(), "sums")
    client, found = place.domain("client"), []
    block = Reference(bytes(range(200)))

    def body() -> None:
        sums = bind(client, Sums, "sums")
        found.append(sums.add(2, b=3))
        sums.reverse(block)
        with pytest.raises(ArgumentError, match="a"):
            sums.add("two", 3)  # type: ignore[arg-type]

    place.run(client, body)
    assert found == [5]
    assert block.value == bytes(range(200))[::-1]


def test_a_clerk_decides_wherever_it_runs(place: Place) -> None:
    place.domain("server").export(Sums, SumServer(), "sums", lambda request: f"not {request.client}")
    with pytest.raises(BindingRefused, match="not client"):
        place.domain("client").bind(Sums, "sums")
    with pytest.raises(BindingRefused, match="it is a Sums"):
        place.domain("client").bind(Files, "sums")
    with pytest.raises(BindingRefused, match="nobody exports it"):
        place.domain("client").bind(Sums, "others")


class Clerical(Program):
    """Looks up names, draws, and reads and writes two files, without randomness."""

    def run(self, domain: Domain) -> None:
        names, files, windows = (
            domain.bind(Names, "names"),
            domain.bind(Files, "files"),
            domain.bind(Windows, "windows"),
        )
        for at in range(40):
            file = names.lookup(f"file {at % 2}")
            windows.draw(windows.next_event() % 4, "a line")
            if at % 3:
                files.read(file, at % 7)
            else:
                files.write(file, at % 5, bytes([at]) * BLOCK_BYTES)


def test_the_stock_servers_and_a_program_do_the_same_wherever_they_run() -> None:
    assert worked(Place("simulated")) == worked(Place("without a kernel"))


def worked(place: Place) -> list[object]:
    """Return the findings of a cache, file server and name server after a program has run."""
    cache, files, names, windows = FileCache(blocks=4), FileServer(), NameServer(), WindowServer()
    for server, interface, name in (
        (files, Files, "server"),
        (cache, Files, "files"),
        (names, Names, "names"),
        (windows, Windows, "windows"),
    ):
        place.domain(name).export(interface, server, name)
    cache.start()
    user, program = place.domain("user"), Clerical()
    place.run(user, lambda: program.run(user))
    found: list[object] = [cache.findings(), files.findings(), names.findings()]
    assert {"hits", "misses", "write_backs"} == set(cache.findings())
    return found


def test_time_moves_on_by_what_is_computed_and_slept(place: Place) -> None:
    domain, seen = place.domain("client"), []

    def body() -> None:
        began = domain.now_ns
        domain.compute(us=10)
        domain.sleep(us=5.5)
        seen.append((domain.now_ns - began, domain.now_us))

    place.run(domain, body)
    ((passed_ns, now_us),) = seen
    assert passed_ns == 15_500
    assert now_us >= 15.5


def test_random_numbers_are_the_same_for_the_same_purpose(place: Place) -> None:
    domain = place.domain("client")
    assert domain.random("a").word() == domain.random("a").word() != domain.random("b").word()
