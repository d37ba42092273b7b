"""A domain that ends releases what it held: memory, E-stacks, messages, and its name."""

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.kernel.errors import CallAborted, CallError, CallFailed
from lrpc.kernel.simulated.memory import READ
from lrpc.kernel.states import ASTACK_QUARANTINED
from tests.support.houses import LONG, MOST, MS, House, Job, JobServer, house_of


@pytest.mark.parametrize("ends", ["server", "client", "both", "both, client first"])
def test_a_captured_call_ends_once_and_what_it_held_comes_back(house: House, ends: str) -> None:
    server, client = house.keep("server"), house.domain("client")
    caller = house.call(client, "server")
    later: list[int] = []

    def abort() -> None:
        client.sleep(2 * MS)
        client.abort(caller)

    client.spawn(abort)
    house.run(until_us=4 * MS)
    assert house.told == ["CallAborted"]
    if house.transfer == "lrpc":
        binding = house.kernel.bindings[1]
        assert any(astack.state == ASTACK_QUARANTINED for astack in binding.groups[0].members)
    domains = {"server": [server], "client": [client], "both": [server, client]}
    house.end(*domains.get(ends, [client, server]))
    house.domain("other").spawn(lambda: later.append(1))
    house.run()
    assert house.told == ["CallAborted"]
    assert later == [1]
    if ends != "server":
        assert house.kernel.bindings == {}


def test_a_captured_thread_that_calls_on_returns_past_the_server_that_kept_it(house: House) -> None:
    passed: list[str] = []

    def at_b(number: int) -> int:
        b.sleep(10 * MS)
        passed.append("b")
        return number

    def at_server(number: int) -> int:
        house.job(server, "b").do(number)
        passed.append("server")
        return number

    b, server, client = house.serve("b", at_b), house.serve("server", at_server), house.domain("client")
    caller = house.call(client, "server")

    def abort() -> None:
        client.sleep(3 * MS)
        client.abort(caller)
        client.sleep(MS)
        server.terminate()

    client.spawn(abort)
    house.run()
    assert house.told == ["CallAborted"]
    assert passed == ["b"]


def test_the_successor_of_a_captured_thread_ends_with_its_domain(house: House) -> None:
    house.keep("server", 20 * MS)
    client, said = house.domain("client"), []

    def body() -> None:
        with pytest.raises(CallAborted):
            house.job(client, "server").do(1)
        client.sleep(10 * MS)
        said.append("went on")

    caller = client.spawn(body)

    def abort() -> None:
        client.sleep(2 * MS)
        client.abort(caller)

    client.spawn(abort)
    house.end(client, after_us=5 * MS)
    house.run()
    assert said == []


def test_memory_of_a_binding_is_unmapped_on_both_sides(house: House) -> None:
    server, client = house.serve("server", lambda number: number), house.domain("client")
    bound = [house.kernel.bind(client, "server") for _ in range(3)]
    regions = [binding.groups[0].members[0].region for binding in bound]
    for region in regions:
        client.memory.store(region.base, b"here")
        assert server.memory.load(region.base, 4) == b"here"
    server.terminate()
    for region in regions:
        for domain in (client, server):
            with pytest.raises(CallError, match="not mapped"):
                domain.memory.load(region.base, 4)
            with pytest.raises(CallError, match="not mapped"):
                domain.memory.access(region, READ)
    assert house.kernel.bindings == {}
    house.run()


@pytest.mark.parametrize("ends", ["server", "client"])
def test_memory_that_a_call_out_of_band_lies_in_is_unmapped_too(house: House, ends: str) -> None:
    server, client = house.keep("server", 10 * MS), house.domain("client")
    client.spawn(lambda: house.tell(lambda: house.job(client, "server").carry(bytes(MOST))))
    house.end(house.domain(ends), after_us=5 * MS)
    house.run()
    assert house.told == (["CallFailed"] if ends == "server" else [])
    assert house.kernel.bindings == {}
    for domain in (server, client):
        assert domain.memory._regions == []


def test_estacks_of_a_domain_end_with_it_whether_in_use_or_idle(house: House) -> None:
    server = house.keep("server", 2 * MS)
    clients = [house.domain(name) for name in ("one", "two", "three")]
    for client in clients:
        house.call(client, "server")
    house.run()
    house.call(clients[0], "server")
    house.end(server)
    house.run()
    assert house.told.count("returned") == 3
    assert server.estacks.members == []


def test_joiners_resume_when_the_domain_of_the_thread_they_wait_for_ends(house: House) -> None:
    domain, other, said = house.domain("domain"), house.domain("other"), []
    thread = domain.spawn(lambda: domain.sleep(LONG))

    def body() -> None:
        thread.join()
        said.append(other.now_us)
        thread.join()
        said.append(other.now_us)

    for _ in range(3):
        other.spawn(body)
    house.end(domain)
    house.run()
    assert len(said) == 6
    assert all(MS <= when < 2 * MS for when in said)


def test_a_thread_that_waits_for_one_of_its_own_domain_ends_too(house: House) -> None:
    domain, said = house.domain("domain"), []
    thread = domain.spawn(lambda: domain.sleep(LONG))

    def body() -> None:
        thread.join()
        said.append("went on")

    for _ in range(3):
        domain.spawn(body)
    house.end(domain)
    house.run()
    assert said == []
    assert house.kernel.threads == set()


def test_messages_queued_and_handed_over_are_answered_when_the_port_closes(processors: int) -> None:
    house = house_of("message passing", processors, caching=False)
    server, client = house.keep("server"), house.domain("client")
    job = house.job(client, "server")
    for _ in range(6):  # for two concrete threads
        client.spawn(lambda: house.tell(lambda: job.carry(b"")))
    house.run(until_us=5 * MS)
    port = house.kernel.ports["server"]
    assert (len(port.in_service()), len(port._messages)) == (2, 4)
    server.terminate()
    assert house.kernel.ports == {}
    house.run()
    assert house.told == ["CallFailed"] * 6
    assert house.kernel.threads == set()


def test_a_message_whose_sender_ended_is_served_and_its_reply_dropped(processors: int) -> None:
    house = house_of("message passing", processors, caching=False)
    served: list[int] = []

    def work(number: int) -> int:
        server.sleep(5 * MS)
        served.append(number)
        return number

    server, client = house.serve("server", work), house.domain("client")
    house.call(client, "server")
    house.end(client, after_us=2 * MS)
    house.run()
    assert (served, house.told) == ([1], [])
    assert house.kernel.counts.replies_dropped == 1


def test_terminating_twice_is_terminating_once(house: House) -> None:
    server, client = house.keep("server"), house.domain("client")
    house.call(client, "server")
    house.end(server, server, after_us=2 * MS)
    house.end(server, after_us=2 * MS)
    house.run()
    server.terminate()
    assert house.told == ["CallFailed"]
    house.run()


def test_a_domain_of_the_same_name_is_another_one(house: House) -> None:
    first, client = house.serve("server", lambda number: number), house.domain("client")
    said: list[int] = []

    def body() -> None:
        job = house.job(client, "server")
        said.append(job.do(1))
        first.terminate()
        second = house.serve("server", lambda number: 10 * number)
        assert second is not first
        assert not first.live
        with pytest.raises(CallFailed):
            job.do(1)
        said.append(house.job(client, "server").do(1))
        first.terminate()
        said.append(house.job(client, "server").do(2))

    client.spawn(body)
    house.run()
    assert said == [1, 10, 20]


def test_threads_of_a_domain_and_of_its_namesake_do_not_mix(house: House) -> None:
    house.keep("slow", 5 * MS)
    first = house.domain("client")
    thread = house.call(first, "slow")
    house.run(until_us=2 * MS)
    first.terminate()
    second = house.domain("client")
    with pytest.raises(CallError, match="own threads only"):
        second.abort(thread)
    house.call(second, "slow")
    house.run()
    assert house.told == ["returned"]


def test_a_domain_that_has_ended_does_nothing_any_more(house: House) -> None:
    house.serve("server", lambda number: number)
    domain = house.domain("domain")
    domain.terminate()
    with pytest.raises(CallFailed, match="domain domain of machine m has terminated"):
        domain.spawn(lambda: None)
    with pytest.raises(CallFailed):
        house.job(domain, "server")
    with pytest.raises(CallFailed):
        Clerk().export(domain, Job, JobServer(lambda number: number), "job")
    assert list(house.kernel.exports) == ["server"]
    house.run()


@pytest.mark.parametrize("ends", ["server", "client"])
def test_a_domain_that_ends_while_a_clerk_thinks_is_not_bound(house: House, ends: str) -> None:
    server, client = house.domain("server"), house.domain("client")

    def policy(_: object) -> None:
        if house.kernel.processor is not None:
            house.domain("thinking").sleep(5 * MS)

    Clerk(policy).export(server, Job, JobServer(lambda number: number), "server")
    other = house.domain("other")
    other.spawn(lambda: house.tell(lambda: house.job(client, "server")))
    house.end(house.domain(ends), after_us=MS)
    house.run()
    assert house.told == ["BindingRefused" if ends == "server" else "CallFailed"]
    assert house.kernel.grants == {}
