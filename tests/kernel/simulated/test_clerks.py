"""A clerk is a thread of its server: imports wake it, wait for its answer, and never hang on it."""

import threading
from collections.abc import Callable

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Policy, Transfer
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import ImportRequest
from lrpc.kernel.errors import BindingRefused, CallAborted, CallError, RunFailed
from lrpc.kernel.simulated.costs import STEPS
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import THREAD_WAITING
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.simulated import FIREFLY, TRANSFERS, FourTests, FourTestsServer, charged

MS = 1000  # in us
SECOND = 1000 * MS


class House:
    """A machine whose server exports `FourTests` as "shop" behind a policy, and two clients."""

    def __init__(self, policy: Policy | None, processors: int = 2) -> None:
        self.kernel = Kernel("m", FIREFLY, processors=processors, debug=True)
        self.server, self.client, self.other = (self.kernel.domain(name) for name in ("server", "client", "other"))
        Clerk(policy).export(self.server, FourTests, FourTestsServer(), "shop")
        self.told: list[tuple[str, int]] = []  # what importers were told, and when in ms

    @property
    def clerk(self) -> Thread:
        return self.kernel.exports["shop"].clerk_thread.thread

    def enter(self, client: ProtectionDomain, transfer: Transfer = "lrpc", after_us: float = 0) -> Thread:
        """Start a thread that imports the shop and calls it."""

        def body() -> None:
            client.sleep(after_us)
            try:
                what = str(bind(client, FourTests, "shop", transfer).add(1, 2))
            except CallError as error:
                what = f"{type(error).__name__}: {error}"
            self.told.append((what, round(client.now_us / MS)))

        return client.spawn(body)

    def run(self, until_us: float | None = None) -> None:
        self.kernel.run(FOREVER if until_us is None else round(until_us * 1000))
        assert_sound(self.kernel)


REFUSED = "BindingRefused: import shop: its clerk "


def test_a_clerk_waits_in_its_servers_domain_and_decides_there() -> None:
    seen: list[object] = []

    def policy(request: ImportRequest) -> None:
        processor = house.kernel.running_processor()
        seen.append((request.client, processor.thread, processor.context))

    house = House(policy)
    clerk = house.clerk
    assert (clerk.state, clerk.home, clerk.domain) == (THREAD_WAITING, house.server, house.server)
    house.enter(house.client)
    house.enter(house.other)
    house.run()
    assert seen == [("client", clerk, house.server), ("other", clerk, house.server)]
    assert [what for what, _ in house.told] == ["3", "3"]
    assert house.clerk is clerk
    assert clerk.state == THREAD_WAITING
    assert_nothing_left(house.kernel)


def test_its_answer_is_the_procedure_descriptor_list() -> None:
    house = House(None)
    export = house.kernel.exports["shop"]
    assert export.clerk_thread.ask(ImportRequest("client", "m", "shop")) == export.descriptors
    assert [one.name for one in export.descriptors] == ["null", "add", "big_in", "big_in_out"]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_an_import_takes_the_switches_to_the_clerk_and_back_and_what_it_does(transfer: Transfer) -> None:
    house = House(lambda request: house.server.compute(us=500), processors=1)
    found: list[tuple[int, list[int]]] = []
    house.client.spawn(
        lambda: found.append(charged(house.kernel, lambda: bind(house.client, FourTests, "shop", transfer)))
    )
    house.run()
    ns, counts = found[0]
    assert {STEPS[step]: count for step, count in enumerate(counts) if count} == {"switch": 2, "tlb_miss": 43}
    assert ns == 66_000 + 500_000


def test_others_run_while_a_clerk_thinks() -> None:
    house = House(lambda request: house.server.sleep(20 * MS), processors=1)
    house.enter(house.client)
    house.other.spawn(lambda: house.told.append(("worked", round(house.other.now_us / MS))))
    house.run()
    assert house.told == [("worked", 0), ("3", 20)]


def test_imports_are_answered_in_the_order_of_their_times() -> None:
    house = House(lambda request: house.server.sleep(20 * MS), processors=3)
    house.enter(house.other, after_us=2 * MS)
    house.enter(house.client, after_us=1 * MS)
    house.enter(house.kernel.domain("third"), after_us=3 * MS)
    asked: list[str] = []
    house.kernel.exports["shop"].clerk = Clerk(lambda request: asked.append(request.client))
    house.run()
    assert asked == ["client", "other", "third"]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_clerk_that_does_not_answer_hangs_nobody(transfer: Transfer) -> None:
    house = House(lambda request: house.server.sleep(60 * SECOND))
    house.enter(house.client, transfer)
    house.enter(house.other, transfer, after_us=2 * SECOND)  # it waits for the clerk, too
    house.enter(house.kernel.domain("third"), transfer, after_us=30 * SECOND)
    house.enter(house.kernel.domain("fourth"), transfer, after_us=61 * SECOND)
    house.run()
    assert house.told == [
        (f"{REFUSED}has not answered within 10 s", 10_000),
        (f"{REFUSED}has not answered within 10 s", 10_000),
        (f"{REFUSED}has not answered an earlier import yet", 30_000),
        (f"{REFUSED}has not answered within 10 s", 71_000),
    ]
    assert_nothing_left(house.kernel)


def test_a_clerk_that_waits_for_ever_hangs_nobody() -> None:
    house = House(lambda request: asleep.join())
    asleep = house.server.spawn(lambda: house.server.sleep(1e11))
    house.enter(house.client)
    house.run(until_us=20 * SECOND)
    assert house.told == [(f"{REFUSED}has not answered within 10 s", 10_000)]
    house.server.terminate()
    house.run()
    assert_nothing_left(house.kernel)


@pytest.mark.parametrize("within", [False, True])
def test_a_clerk_that_ends_refuses_those_that_wait_at_once(within: bool) -> None:
    def policy(request: ImportRequest) -> None:
        house.server.sleep(5 * MS)
        if within:
            house.server.terminate()
        house.server.sleep(SECOND)

    house = House(policy)
    house.enter(house.client)
    house.enter(house.other, after_us=MS)
    if not within:
        house.kernel.spawn(house.other, house.server.terminate, "end", at_ns=5_000 * MS)
    house.run()
    ended = f"{REFUSED}has ended: domain server of machine m has terminated"
    assert house.told == [(ended, 5), (ended, 5)]
    assert_nothing_left(house.kernel)


def test_an_importer_can_be_released_and_the_late_answer_is_dropped() -> None:
    house = House(lambda request: house.server.sleep(20 * MS))
    importer = house.enter(house.client)

    def release() -> None:
        house.client.sleep(5 * MS)
        assert house.client.abort(importer) is importer

    house.client.spawn(release)
    house.enter(house.other, after_us=6 * MS)
    house.run()
    assert house.told == [(f"{CallAborted.__name__}: {importer}: its caller gave the call up", 5), ("3", 40)]
    assert_nothing_left(house.kernel)


def test_an_importer_whose_domain_ends_is_not_answered() -> None:
    house = House(lambda request: house.server.sleep(20 * MS))
    house.enter(house.client)
    house.kernel.spawn(house.other, house.client.terminate, "end", at_ns=5_000 * MS)
    house.enter(house.other, after_us=6 * MS)
    house.run()
    assert house.told == [("3", 40)]
    assert_nothing_left(house.kernel)


def test_a_clerk_whose_own_call_is_captured_is_released_from_it_and_serves_on() -> None:
    def policy(request: ImportRequest) -> str | None:
        try:
            stub.null()
        except CallAborted:
            return f"nobody helped me with {request.client}"
        return None

    house = House(policy)
    slow = house.kernel.domain("slow")
    Clerk().export(slow, FourTests, FourTestsServer(lambda: slow.sleep(30 * MS)), "slow")
    stub = bind(house.server, FourTests, "slow")
    clerk = house.clerk
    house.enter(house.client)

    def release() -> None:
        house.server.abort(clerk)

    house.kernel.spawn(house.server, release, "release", at_ns=5_000 * MS)
    house.enter(house.other, after_us=40 * MS)
    house.run()
    assert house.told == [(f"{REFUSED}refused domain client: nobody helped me with client", 5), ("3", 70)]
    assert house.clerk is clerk.successor
    assert_nothing_left(house.kernel)


def test_a_policy_that_raises_is_told_with_what_and_where() -> None:
    def policy(request: ImportRequest) -> None:
        raise KeyError(request.client)

    house = House(policy)
    house.enter(house.client)
    house.run()
    assert house.told == [(f"{REFUSED}raised KeyError: 'client'", 0)]
    with pytest.raises(BindingRefused, match=r"^import shop: its clerk raised KeyError: 'other'") as found:
        bind(house.other, FourTests, "shop")
    assert [note.split(", in ")[1] for note in found.value.__notes__] == ["policy"]
    assert_nothing_left(house.kernel)


# Outside a run


def test_outside_a_run_the_clerks_thread_runs_alone_at_the_present_time() -> None:
    where: list[object] = []

    def policy(request: ImportRequest) -> None:
        where.append((house.server.now_us, house.kernel.processor))

    house = House(policy)
    due: list[str] = []
    house.client.spawn(lambda: due.append("ran"))
    bind(house.client, FourTests, "shop")
    assert (where, due, house.kernel.now_ns) == ([(0.0, None)], [], 0)
    house.run(until_us=7 * MS)
    house.client.spawn(lambda: due.append("ran"))
    bind(house.other, FourTests, "shop", "message passing")
    assert (len(where), due) == (2, ["ran"])
    assert sum(house.kernel.charges.counts()) == 0
    house.enter(house.client)  # the same thread goes on in a run
    house.run()
    assert (len(where), due, house.told) == (3, ["ran", "ran"], [("3", 0)])
    bind(house.client, FourTests, "shop")
    assert len(where) == 4
    assert_nothing_left(house.kernel)


WAITS: dict[str, Callable[[House], object]] = {
    "computes": lambda house: house.server.compute(us=1),
    "sleeps": lambda house: house.server.sleep(us=1),
    "traps": lambda house: house.server.system_call(),
    "joins": lambda house: house.server.spawn(lambda: None).join(),
    "calls": lambda house: vars(bind(house.server, FourTests, "helper"))["null"](),
    "calls by message": lambda house: vars(bind(house.server, FourTests, "helper", "message passing"))["null"](),
    "calls itself": lambda house: vars(bind(house.server, FourTests, "shop"))["null"](),
}
WAITED = (
    "import shop: its clerk waits or takes time, and none passes outside a run; import in the body of a thread instead"
)


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("what", WAITS)
def test_a_clerk_that_waits_outside_a_run_is_refused_in_one_line(what: str, caught: bool) -> None:
    def policy(request: ImportRequest) -> None:
        try:
            WAITS[what](house)
        except Exception:
            if not caught:
                raise

    house = House(policy)
    Clerk().export(house.kernel.domain("helpers"), FourTests, FourTestsServer(), "helper")
    with pytest.raises(BindingRefused) as found:
        bind(house.client, FourTests, "shop")
    assert str(found.value) == WAITED
    house.enter(house.client)  # in a run it may
    house.run()
    assert [told for told, _ in house.told] == ["3"]
    assert_nothing_left(house.kernel)


def test_a_clerk_that_insists_on_waiting_outside_a_run_never_goes_on() -> None:
    def policy(request: ImportRequest) -> None:
        while True:
            try:
                house.server.sleep(us=1)
                break
            except Exception:
                continue

    house = House(policy)
    with pytest.raises(BindingRefused) as found:
        bind(house.client, FourTests, "shop")
    assert str(found.value) == WAITED
    with pytest.raises(BindingRefused, match="its clerk has not answered an earlier import yet"):
        bind(house.client, FourTests, "shop")
    house.enter(house.client)
    house.run()
    assert house.told == [(f"{REFUSED}has not answered an earlier import yet", 0)]
    house.server.terminate()
    house.run()
    assert_nothing_left(house.kernel)


def test_a_clerk_that_decides_in_a_run_answers_nobody_outside_it() -> None:
    house = House(lambda request: house.server.sleep(20 * MS))
    house.enter(house.client)
    house.run(until_us=5 * MS)
    with pytest.raises(BindingRefused, match="import shop: its clerk decides about another import, and no time passes"):
        bind(house.other, FourTests, "shop")
    house.run()
    assert house.told == [("3", 20)]


def test_a_clerk_may_import_what_it_needs_outside_a_run_but_not_in_circles() -> None:
    def policy(request: ImportRequest) -> None:
        bind(house.server, FourTests, "helper")

    house = House(policy)
    helpers = house.kernel.domain("helpers")
    asked: list[str] = []
    Clerk(lambda request: asked.append(request.client)).export(helpers, FourTests, FourTestsServer(), "helper")
    bind(house.client, FourTests, "shop")
    assert asked == ["server"]
    house.kernel.exports["helper"].clerk = Clerk(lambda request: str(bind(helpers, FourTests, "shop")))
    with pytest.raises(BindingRefused, match=r"import shop: its clerk raised BindingRefused: import helper: its clerk"):
        bind(house.client, FourTests, "shop")
    house.run()
    assert_nothing_left(house.kernel)


def test_an_import_outside_a_run_is_made_in_the_thread_that_made_the_machine() -> None:
    house = House(None)
    found: list[str] = []

    def elsewhere() -> None:
        try:
            bind(house.client, FourTests, "shop")
        except RunFailed as error:
            found.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [
        "machine m: thread shop/clerk of domain server is asked outside a run; ask in the thread that made it"
    ]


def test_a_clerk_that_computes_for_ever_holds_its_importer_up_no_longer_than_one_that_waits() -> None:
    """Not even where there is one processor, which other threads would keep."""

    def policy(_: ImportRequest) -> None:
        while True:
            house.server.compute(us=100 * MS)

    house = House(policy, processors=1)
    house.enter(house.client)
    house.enter(house.other, after_us=20 * SECOND)
    house.run(30 * SECOND)
    assert [(what.removeprefix(REFUSED), ms) for what, ms in house.told] == [
        ("has not answered within 10 s", 10_010),
        ("has not answered an earlier import yet", 20_000),
    ]


@pytest.mark.parametrize("raises", [SystemExit, GeneratorExit])
def test_a_policy_that_exits_ends_the_run_with_a_line_and_not_the_process(raises: type[BaseException]) -> None:
    def policy(_: ImportRequest) -> None:
        raise raises("enough")

    house = House(policy)
    with pytest.raises(RunFailed, match=f"{raises.__name__}: enough: code of a simulated thread may not end"):
        bind(house.client, FourTests, "shop")
    house = House(policy)
    house.enter(house.client)
    with pytest.raises(RunFailed, match=f"{raises.__name__}: enough: code of a simulated thread may not end"):
        house.run()
