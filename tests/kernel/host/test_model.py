"""The state machine of transfer.h, as a model whose interleavings are all tried.

The model has the steps of the C code one to one: each is one atomic access to the word of an
A-stack, or a sleep. A client makes calls on an A-stack and may give up; a worker serves it, sleeps
or watches for the next call, may be dismissed, and another then takes its place when the bell
rings. Either side may die between any two steps, and the other's watcher says so. Each may be
interrupted by the others between any two steps. In every reachable state: no call is answered that
was not made, none is answered twice, no result is collected that belongs to another call, and
nobody sleeps for ever: all that are left leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

IDLE, CALLED, RUNNING, DONE, ABORTED = range(1, 6)
NONE, AWAKE, ASLEEP = range(3)  # the worker's bits


@dataclass(frozen=True)
class Word:
    number: int = 0
    phase: int = IDLE
    client_asleep: bool = False
    worker: int = NONE


@dataclass(frozen=True)
class State:
    """Everything: the shared word, what each side knows, and where each stands in its code."""

    word: Word = Word()
    content: int = 0  # of the A-stack: the call whose arguments or results lie there
    # The client.
    client: str = "free"
    number: int = 0
    calls: int = 0  # made so far
    aborts: int = 0
    collected: tuple[int, ...] = ()
    client_in_futex: bool = False
    quarantined: bool = False
    # The server.
    bell: bool = False
    worker: str = "away"
    taken: int = 0
    has: int = 0  # the call whose arguments it has copied
    executed: tuple[int, ...] = ()
    worker_in_futex: bool = False
    dismissals: int = 0
    watches: int = 0  # how often a worker began to watch
    # Deaths, and what each side's watcher has said: that the other has ended, and then the alarm.
    client_dead: bool = False
    server_dead: bool = False
    client_knows: bool = False
    server_knows: bool = False
    client_alarm: bool = False
    worker_alarm: bool = False
    client_saw: bool = False  # the alarm, before it looked at all else
    worker_saw: bool = False


class Machine:
    """The model's steps. `asleep` has the client mark itself asleep as it calls, as with handoff.

    `fault` leaves out one thing that the code does, to see that the model notices.
    """

    def __init__(
        self,
        calls: int,
        aborts: int,
        dismissals: int,
        asleep: bool,
        fault: str = "",
        watches: int = 0,
        dies: str = "",
    ) -> None:
        self.calls, self.aborts, self.dismissals, self.asleep, self.fault = calls, aborts, dismissals, asleep, fault
        self.watches, self.dies = watches, dies

    def steps(self, s: State) -> Iterator[State]:
        """Yield every state that can follow."""
        if not s.client_dead:
            yield from self._client(s)
        if not s.server_dead:
            yield from self._worker(s)
        yield from self._ends(s)

    def _ends(self, s: State) -> Iterator[State]:
        """Yield the death of a side, and what the other's watcher does: `end_locked`."""
        dead = s.client_dead or s.server_dead
        if self.dies == "client" and not dead:
            yield replace(s, client_dead=True, client_in_futex=False)
        if self.dies == "server" and not dead:
            yield replace(s, server_dead=True, worker_in_futex=False)
        if s.server_dead and not s.client_knows:
            yield replace(s, client_knows=True)
        elif s.client_knows and not s.client_alarm and self.fault != "no alarm":
            yield replace(s, client_alarm=True, client_in_futex=False)
        if s.client_dead and not s.server_knows:
            yield replace(s, server_knows=True)
        elif s.server_knows and not s.worker_alarm and self.fault != "no alarm":
            yield replace(s, worker_alarm=True, worker_in_futex=False)

    def _client(self, s: State) -> Iterator[State]:
        w = s.word
        if s.client == "free":
            if s.client_knows:
                return  # it makes no calls any more
            if s.quarantined:
                if w.phase == DONE and w.number == s.number:
                    yield replace(s, quarantined=False)
            elif s.calls < self.calls:
                yield replace(s, content=s.calls + 1, calls=s.calls + 1, client="call")
        elif s.client == "call":  # the compare-and-swap of client_start
            assert w.phase in (IDLE, DONE), "a call on an A-stack that is in use"
            assert w.number == s.number
            called = Word(s.number + 1, CALLED, self.asleep, w.worker)
            after = "wake" if w.worker == ASLEEP else "ring" if w.worker == NONE else "look"
            if self.fault == "no bell" and after == "ring":
                after = "look"
            yield replace(s, word=called, number=s.number + 1, client=after)
        elif s.client == "wake":
            yield replace(s, worker_in_futex=False, client="look")
        elif s.client == "ring":
            yield replace(s, bell=True, client="look")
        elif s.client == "look":
            yield replace(s, client="wait", client_saw=s.client_alarm)
        elif s.client == "wait":
            assert w.number == s.number, "the number of another call"
            if w.phase == DONE:
                yield replace(s, client="free", collected=(*s.collected, s.content))
            elif s.client_knows:
                yield replace(s, client="free", collected=(*s.collected, 0))
            elif not w.client_asleep:
                yield replace(s, word=replace(w, client_asleep=True), client="look")
            else:
                yield replace(s, client="sleep")
            if s.aborts < self.aborts:
                yield replace(s, client="abort", aborts=s.aborts + 1)
        elif s.client == "sleep":  # futex_wait compares the word once more
            saw = self.fault == "late look" or s.client_alarm == s.client_saw
            if w.phase in (CALLED, RUNNING) and w.client_asleep and saw:
                yield replace(s, client="asleep", client_in_futex=True)
            else:
                yield replace(s, client="look")
        elif s.client == "asleep":
            if not s.client_in_futex:
                yield replace(s, client="look")
            elif s.aborts < self.aborts:  # the deadline
                yield replace(s, client="abort", aborts=s.aborts + 1, client_in_futex=False)
        elif s.client == "abort":  # the compare-and-swaps of client_abort
            if w.phase == DONE:
                yield replace(s, client="free", collected=(*s.collected, s.content))
            elif w.phase == CALLED:
                withdrawn = Word(s.number - 1, IDLE, False, w.worker)
                yield replace(s, word=withdrawn, number=s.number - 1, client="free", collected=(*s.collected, 0))
            else:
                assert w.phase == RUNNING
                aborted = Word(s.number, ABORTED)
                yield replace(s, word=aborted, client="free", quarantined=True, collected=(*s.collected, 0))

    def _worker(self, s: State) -> Iterator[State]:
        w = s.word
        if s.bell and s.worker != "away":  # the dispatcher finds a worker there, and leaves it at that
            yield replace(s, bell=False)
        if s.worker == "away":
            if s.bell:  # the dispatcher looks whether there is a call, and gives it to a worker
                there = w.phase == CALLED and w.number == s.taken + 1
                yield replace(s, bell=False, worker="attend" if there else "away")
        elif s.worker in ("attend", "watch"):
            yield replace(s, worker=s.worker + " on", worker_saw=s.worker_alarm)
        elif s.worker in ("attend on", "watch on"):
            watches = s.worker == "watch on"
            if w.phase == CALLED:
                yield replace(s, worker="take")
            elif s.server_knows:
                yield replace(s, worker="gone")
                return
            elif watches:
                if w.worker != AWAKE:
                    yield replace(s, word=replace(w, worker=AWAKE), worker="watch")
                else:
                    yield replace(s, worker="attend")  # nothing came in time: it sleeps
                    if self.fault == "watches":
                        yield replace(s, worker="asleep", worker_in_futex=True)
                return
            elif s.dismissals < self.dismissals:
                yield replace(s, worker="leave", dismissals=s.dismissals + 1)
            if w.phase in (IDLE, DONE):
                assert w.number == s.taken
                if w.worker != ASLEEP:
                    yield replace(s, word=replace(w, worker=ASLEEP), worker="attend")
                else:
                    yield replace(s, worker="sleep")
        elif s.worker == "take":  # the compare-and-swap of server_take
            if w.phase == CALLED:
                assert w.number == s.taken + 1, "a number that the linkage does not expect"
                running = Word(w.number, RUNNING, w.client_asleep)
                yield replace(s, word=running, taken=w.number, worker="run")
            else:
                yield replace(s, worker="attend")
        elif s.worker == "run":
            yield replace(s, has=s.content, worker="reply")
        elif s.worker == "reply":
            done = replace(s, executed=(*s.executed, s.has))
            assert w.number == s.taken
            assert w.phase in (RUNNING, ABORTED)
            stays = Word(s.taken, DONE, False, ASLEEP)
            leaves = Word(s.taken, DONE)
            after = "wake client" if w.client_asleep and w.phase == RUNNING else "go on"
            if self.fault == "no wake":
                after = "go on"
            yield replace(done, word=stays, worker=after)
            if s.watches < self.watches:
                watched = Word(s.taken, DONE, False, AWAKE)
                yield replace(done, word=watched, worker=after + ", watching", watches=s.watches + 1)
            if s.dismissals < self.dismissals:
                yield replace(done, word=leaves, worker=after + ", leaving", dismissals=s.dismissals + 1)
        elif s.worker.startswith("wake client"):
            yield replace(s, client_in_futex=False, worker="go on" + s.worker.removeprefix("wake client"))
        elif s.worker == "go on":
            yield replace(s, worker="attend")
        elif s.worker == "go on, watching":
            yield replace(s, worker="watch")
        elif s.worker == "go on, leaving":
            yield replace(s, worker="rescan")
        elif s.worker == "sleep":
            if w.phase in (IDLE, DONE) and w.worker == ASLEEP and s.worker_alarm == s.worker_saw:
                yield replace(s, worker="asleep", worker_in_futex=True)
            else:
                yield replace(s, worker="attend")
        elif s.worker == "asleep":
            if not s.worker_in_futex:
                yield replace(s, worker="attend")
            elif s.dismissals < self.dismissals:
                yield replace(s, worker="leave", dismissals=s.dismissals + 1, worker_in_futex=False)
        elif s.worker == "leave":  # take the bits away, unless a call has come
            if w.phase == CALLED:
                yield replace(s, worker="take")
            else:
                yield replace(s, word=replace(w, worker=NONE), worker="rescan")
        elif s.worker == "rescan":  # a bell that rang while it left found it still there
            if self.fault == "no rescan":
                yield replace(s, worker="away")
            else:
                yield replace(s, bell=True, worker="away")


def explore(machine: Machine) -> int:
    """Try every interleaving; return how many states there are."""
    first = State()
    seen, todo = {first}, [first]
    while todo:
        state = todo.pop()
        following = list(machine.steps(state))
        check(machine, state, last=not following)
        for one in following:
            if one not in seen:
                seen.add(one)
                todo.append(one)
    return len(seen)


def check(machine: Machine, s: State, last: bool) -> None:
    """Raise `AssertionError` where a state breaks an invariant."""
    assert len(set(s.executed)) == len(s.executed), "a call was executed twice"
    kept = [one for one in s.collected if one]
    assert kept == sorted(set(kept)), "a result was collected twice, or out of order"
    assert set(kept) <= set(s.executed), "a result of a call that was not executed"
    for place, one in enumerate(s.collected):
        assert one in (0, place + 1), "the result of another call"
    if last and not s.client_dead:
        assert s.calls == machine.calls or s.client_knows, "the client never made all its calls"
        assert len(s.collected) == s.calls, "a call never ended"
        assert s.client == "free"
    if last and s.client_dead:
        assert s.worker in ("away", "gone"), "the worker never left"


@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize(("calls", "aborts", "dismissals"), [(3, 0, 0), (3, 2, 0), (3, 0, 2), (3, 2, 2)])
def test_in_every_interleaving_each_call_has_one_outcome(
    calls: int, aborts: int, dismissals: int, asleep: bool
) -> None:
    assert explore(Machine(calls, aborts, dismissals, asleep)) > 30


@pytest.mark.parametrize("asleep", [False, True])
def test_a_worker_that_watches_misses_no_call(asleep: bool) -> None:
    assert explore(Machine(3, 1, 1, asleep, watches=2)) > 1000


@pytest.mark.parametrize("dies", ["client", "server"])
@pytest.mark.parametrize("asleep", [False, True])
def test_whoever_is_left_leaves_wherever_the_other_dies(dies: str, asleep: bool) -> None:
    assert explore(Machine(2, 1, 1, asleep, watches=1, dies=dies)) > 1000


@pytest.mark.parametrize("fault", ["no bell", "no wake", "no rescan"])
def test_the_model_notices_what_is_left_out(fault: str) -> None:
    with pytest.raises(AssertionError, match="never"):
        explore(Machine(3, 0, 2, False, fault))


@pytest.mark.parametrize(("fault", "dies"), [("no alarm", "client"), ("no alarm", "server"), ("late look", "server")])
def test_the_model_notices_who_would_sleep_on_after_a_death(fault: str, dies: str) -> None:
    with pytest.raises(AssertionError, match="never"):
        explore(Machine(2, 0, 0, True, fault, dies=dies))


def test_the_model_notices_a_worker_that_sleeps_while_it_says_that_it_watches() -> None:
    with pytest.raises(AssertionError, match="never"):
        explore(Machine(3, 0, 0, False, "watches", watches=2))
