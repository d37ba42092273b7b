"""Domains do anything to each other, in any order.

Nothing leaks, no thread hangs, each caller is told exactly once, and processors are busy for what
was charged. A sequence is drawn: scripts that threads, procedures and clerks follow, and actions on
the machine between stretches of virtual time, with time slices, few message buffers, every
discipline of message passing and idle processors that spin. What a call carries must be there while
its procedure runs, and its result must be the one that was returned.
`make test` draws the same sequences each time; `make properties` draws 10,000 others
(LRPC_SEQUENCES sets the number).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Annotated, Final, get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Immutable, Int32, Mutable
from lrpc.domains.domain import Exhausted, Transfer
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import BindingObject, ImportRequest
from lrpc.kernel.errors import CallError, RunFailed
from lrpc.kernel.simulated import transfer as transfers
from lrpc.kernel.simulated.costs import PARTS, Bus, CostModel, StepCost
from lrpc.kernel.simulated.disciplines import Discipline
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.threads import Thread
from tests.support.invariants import assert_nothing_left, assert_sound, assert_time_is_charged
from tests.support.properties import examples
from tests.support.simulated import costs_of, with_buffers

SEQUENCES: Final = int(os.environ.get("LRPC_SEQUENCES", "0"))
PLACES: Final = 4  # domains; each may export one job under its number
DEEPEST: Final = 3  # calls within calls
NO_SCRIPT: Final = 6  # from this number on, a clerk has no policy
FOR_LONG: Final = 15_000_000  # us: longer than importers have patience

Step = tuple[str, int, int, int]  # an action, and its up to three numbers
Script = list[Step]


class Job(Interface):
    """A job that follows a script, by number, and may make nested calls only to a depth.

    The number is read where it lies, the depth off the server's stack. Both are returned, as one.
    """

    @procedure(simultaneous=2)
    def do(self, script: Mutable[Int32], depth: Annotated[Int32, Immutable]) -> Int32:
        raise NotImplementedError


MOST_CALLS: Final = 300  # of a sequence: policies whose scripts call could make calls without end


@cache
def costs(buffers: int) -> CostModel:
    """Return costs that differ from each other, with so many message buffers for each server."""
    steps = [*PARTS["machine"], *PARTS["lrpc"], *PARTS["message passing"]]
    found = costs_of(1, {step: 1 + 2 * number for number, step in enumerate(steps)}, pages=(4, 3))
    share = StepCost(us=found.file.steps["tlb_miss"].us / 4, origin="assumed", source="a test")
    bus = Bus(us=share.us, of={"tlb_miss": 1}, shares={"tlb_miss": share}, origin="assumed", source="a test")
    return with_buffers(replace(found, file=found.file.model_copy(update={"bus": bus})), buffers)


@dataclass
class World:
    """A machine, the scripts that its threads follow, and how every call ended."""

    processors: int
    caching: bool
    quantum_us: float | None
    buffers: int
    discipline: Discipline
    scripts: list[Script]
    callers: list[ProtectionDomain] = field(default_factory=list)  # of each call, in order of calls
    ends: list[list[str]] = field(default_factory=list)  # of each call: its ends, of which there must be one
    spoilt: list[tuple[object, object]] = field(default_factory=list)  # what was carried, and what came of it
    refused: int = 0

    def __post_init__(self) -> None:
        self.kernel = Kernel(
            "m",
            costs(self.buffers),
            processors=self.processors,
            debug=True,
            domain_caching=self.caching,
            quantum_us=self.quantum_us,
            discipline=self.discipline,
        )
        self._stubs: dict[tuple[object, ...], Job] = {}
        for place in range(PLACES):
            self.domain(place).estacks.limit = 2

    def domain(self, place: int) -> ProtectionDomain:
        return self.kernel.domain(f"d{place % PLACES}")

    # Actions between stretches of time

    def export(self, place: int, policy: int) -> None:
        """Export a job; its clerk follows a script before it answers, or has no policy."""
        name = f"d{place % PLACES}"
        if name not in self.kernel.exports:
            domain = self.domain(place)

            def decide(request: ImportRequest) -> str | None:
                self.follow(domain, policy, DEEPEST - 1)
                return "drawn" if policy == 0 else None

            Clerk(None if policy >= NO_SCRIPT else decide).export(domain, Job, JobServer(self), name)

    def bind_outside(self, place: int, client: int) -> None:
        """Import a job while no thread runs: it is bound or refused at once, in no time."""
        now, name = self.kernel.now_ns, f"d{place % PLACES}"
        try:
            bind(self.domain(client), Job, name, "message passing" if client & 4 else "lrpc")
        except CallError:
            self.refused += 1
        assert self.kernel.now_ns == now

    def start(self, place: int, script: int) -> None:
        domain = self.domain(place)
        domain.spawn(partial(self.follow, domain, script, DEEPEST))

    def advance(self, us: int) -> None:
        self.kernel.run(min(self.kernel.engine.horizon, FOREVER // 2) + us * 1000)

    def terminate(self, place: int) -> None:
        self.domain(place).terminate()

    def revoke(self, place: int, client: int) -> None:
        export = self.kernel.exports.get(f"d{place % PLACES}")
        if export is not None:
            export.domain.revoke(f"d{client % PLACES}", export.name, "drawn")

    def abort(self, number: int) -> None:
        threads = sorted(self.kernel.threads, key=lambda thread: thread.number)  # including those of servers
        if threads:
            thread = threads[number % len(threads)]
            try:
                thread.home.abort(thread)
            except CallError:
                self.refused += 1

    def finish(self) -> None:
        """End everything: waiting callers abort; servers that wait for captured calls terminate."""
        self.kernel.run(FOREVER)
        for _ in range(1000):
            assert_sound(self.kernel)
            callers = self.kernel.waiting()
            servers = sorted((one for one in self.kernel.threads if busy(one)), key=lambda one: one.number)
            if callers:
                try:
                    callers[0].home.abort(callers[0])
                except CallError:  # it waits for an A-stack, with no call to abort
                    callers[0].home.terminate()
            elif servers:
                servers[0].domain.terminate()
            else:
                return
            self.kernel.run(FOREVER)
        raise AssertionError("threads still wait")

    # The actions of scripts

    def follow(self, domain: ProtectionDomain, script: int, depth: int) -> None:
        for what, one, two, three in self.scripts[script % len(self.scripts)]:
            if what == "compute":
                domain.compute(one)
            elif what == "sleep":
                domain.sleep(one)
            elif what == "trap":
                domain.system_call(one)
            elif what == "sleep long":
                domain.sleep(FOR_LONG)
            elif what == "raise" and depth < DEEPEST:  # in a procedure; a thread's body must not
                raise ValueError("drawn")
            elif what == "call" and depth and len(self.ends) < MOST_CALLS:
                way: Transfer = "message passing" if three & 1 else "lrpc"
                self._call(domain, f"d{one % PLACES}", way, "grow" if three & 2 else "wait", (two, depth - 1))
            elif what == "forge":
                self._forge(domain, one)
            elif what == "terminate":
                self.terminate(one)
            elif what == "revoke":
                self.revoke(one, two)
            elif what == "abort":
                self.abort(one)

    def _call(
        self, domain: ProtectionDomain, name: str, way: Transfer, exhausted: Exhausted, arguments: tuple[int, int]
    ) -> None:
        self.callers.append(domain)
        ended: list[str] = []
        self.ends.append(ended)
        try:
            script, depth = arguments
            self.carried(both(script, depth), self._job(domain, name, way, exhausted).do(Mutable(script), depth))
            ended.append("returned")
        except CallError as error:
            ended.append(type(error).__name__)
            if "its reply was to message" in str(error):  # nobody forges one here
                self.spoilt.append((arguments, str(error)))
        except ValueError:  # from a procedure of the caller's own domain
            ended.append("ValueError")
        except RunFailed:  # made by a clerk outside a run
            ended.append("RunFailed")
            raise

    def carried(self, sent: object, came: object) -> None:
        """Note a value that is another than was sent."""
        if came != sent:
            self.spoilt.append((sent, came))

    def _job(self, domain: ProtectionDomain, name: str, way: Transfer, exhausted: Exhausted) -> Job:
        export = self.kernel.exports.get(name)
        known = (domain, export, way, exhausted)
        if export is None or known not in self._stubs:
            self._stubs[known] = made = bind(domain, Job, name, way, exhausted)
            return made
        return self._stubs[known]

    def _forge(self, domain: ProtectionDomain, how: int) -> None:
        """Call with a forged Binding Object or address: the kernel must refuse it."""
        for binding in list(self.kernel.bindings.values()):
            key, astack = binding.client_key, binding.groups[0].members[0]
            forged, address = [
                (BindingObject(binding.number, binding.key ^ 1, binding.name), astack.address),
                (BindingObject(binding.number + 1000, binding.key, binding.name), astack.address),
                (key, astack.address + 1),
                (key, 0),
            ][how % 4]
            try:
                transfers.call(self.kernel, forged, 0, address)
                raise AssertionError("a forged call went through")
            except CallError:
                self.refused += 1


def both(script: int, depth: int) -> int:
    """Return what a job returns."""
    return 10 * script + depth


def busy(thread: Thread) -> bool:
    """Return whether a thread has a call in progress, or waits within one."""
    return bool(thread.linkages or thread.queue is not None or thread.outstanding is not None)


class JobServer(Job):
    domain: ProtectionDomain

    def __init__(self, world: World) -> None:
        self._world = world

    def do(self, script: Mutable[int], depth: int) -> int:
        number = script.value
        self._world.follow(self.domain, number, depth)
        self._world.carried(number, script.value)
        return both(number, depth)


SMALL = st.integers(0, 7)
TIMES = st.sampled_from([0, 1, 5, 20, 50, 150, 400])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["compute", "sleep", "trap"]), TIMES, st.just(0), st.just(0)),
    st.tuples(st.just("call"), SMALL, SMALL, SMALL),
    st.tuples(st.just("call"), SMALL, SMALL, SMALL),
    st.tuples(
        st.sampled_from(["forge", "terminate", "abort", "raise", "revoke", "sleep long"]), SMALL, SMALL, st.just(0)
    ),
)


class Interleavings(RuleBasedStateMachine):
    """Acts on a world and checks it, again and again; then ends it, and repeats it all."""

    @initialize(
        processors=st.integers(1, 4),
        caching=st.booleans(),
        quantum_us=st.sampled_from([None, 1.0, 30.0, 200.0]),
        buffers=st.sampled_from([1, 2, 256]),
        discipline=st.sampled_from(get_args(Discipline)),
        scripts=st.lists(st.lists(STEPS, max_size=4), min_size=1, max_size=6),
        policies=st.lists(SMALL, min_size=PLACES, max_size=PLACES),
    )
    def begin(
        self,
        processors: int,
        caching: bool,
        quantum_us: float | None,
        buffers: int,
        discipline: Discipline,
        scripts: list[Script],
        policies: list[int],
    ) -> None:
        self.make = partial(World, processors, caching, quantum_us, buffers, discipline, scripts)
        self.world = self.make()
        self.done: list[Callable[[World], None]] = []
        for place, policy in enumerate(policies):
            self.do(lambda world, place=place, policy=policy: world.export(place, policy))  # type: ignore[misc]

    def do(self, what: Callable[[World], None]) -> None:
        self.done.append(what)
        what(self.world)

    @rule(place=SMALL, script=SMALL)
    def start(self, place: int, script: int) -> None:
        self.do(lambda world: world.start(place, script))

    @rule(us=st.integers(0, 700))
    def advance(self, us: int) -> None:
        self.do(lambda world: world.advance(us))

    @rule(place=SMALL, policy=SMALL)
    def export(self, place: int, policy: int) -> None:
        self.do(lambda world: world.export(place, policy))

    @rule(place=SMALL, client=SMALL)
    def bind_outside(self, place: int, client: int) -> None:
        self.do(lambda world: world.bind_outside(place, client))

    @rule(place=SMALL)
    def terminate(self, place: int) -> None:
        self.do(lambda world: world.terminate(place))

    @rule(place=SMALL, client=SMALL)
    def revoke(self, place: int, client: int) -> None:
        self.do(lambda world: world.revoke(place, client))

    @rule(number=SMALL)
    def abort(self, number: int) -> None:
        self.do(lambda world: world.abort(number))

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "world"):
            assert_sound(self.world.kernel)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.finish()
        assert_nothing_left(world.kernel)
        assert_time_is_charged(world.kernel)
        for caller, ended in zip(world.callers, world.ends, strict=True):
            assert len(ended) == 1 if caller.live else len(ended) <= 1, (str(caller), ended)
        assert world.spoilt == []
        again = self.make()
        for what in self.done:
            what(again)
        again.finish()
        assert again.kernel.log.digest() == world.kernel.log.digest()
        assert again.ends == world.ends


def test_nothing_leaks_nobody_hangs_and_every_caller_is_told_once() -> None:
    drawn = settings(max_examples=SEQUENCES, derandomize=False) if SEQUENCES else examples(200)
    run_state_machine_as_test(
        Interleavings, settings=settings(drawn, stateful_step_count=30, suppress_health_check=list(HealthCheck))
    )
