"""Lent A-stacks, as a model whose interleavings are all tried: lending.h and spinners.h.

Each step is one atomic access, with the wake that it may need; or what one does with both the
interpreter lock and `watch_lock`. The watcher has only the latter, and a worker that waits for its
lent A-stack looks at it with only the former. One worker spins, and others have lent it theirs. In
every state, one worker attends each A-stack, a call is taken once, and whoever attends its A-stack
answers it. In the end all calls are answered but those of a procedure that never returns, and
nobody is still there who is to leave.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

IDLE, CALLED, RUNNING, DONE = range(1, 5)
NONE, AWAKE, ASLEEP = range(3)  # the worker's bits
OWN, LENT, TAKEN = range(3)
WAKES = {"asleep": "look", "lent asleep": "own"}  # where a worker goes on whose alarm is raised
LOCKED = {"holder", "read late", "recall", "lend"}  # a worker there has the interpreter lock
COMPARES = {"look on", "sleep", "holder", "read late", "recall", "lent sleep"}


class Stack(NamedTuple):
    worker: int  # who attends; -1 for nobody
    holder: int = OWN
    phase: int = IDLE
    number: int = 0  # of the call
    bits: int = AWAKE
    taken: int = 0  # the number that the linkage has
    calls: int = 0  # that the client has made
    ended: bool = False
    wants: bool = False  # its worker wants it back once it is no longer TAKEN


class Attendant(NamedTuple):
    at: str
    own: int
    heard: bool = False  # whether its alarm has been raised since it was read
    leave: bool = False
    listed: bool = False  # it spins for others
    lent: tuple[tuple[int, int], ...] = ()  # which, and the call of it that the watcher saw last
    took: int = -1


class Lending(NamedTuple):
    stacks: tuple[Stack, ...]
    workers: tuple[Attendant, ...]
    once: frozenset[str]  # what may yet happen
    interpreter: int = -1  # who has its lock, between two steps
    watcher: int = -1  # whose worker it is about to wake, with `watch_lock`

    def put(self, number: int, /, **named: object) -> "Lending":
        one = self.stacks[number]._replace(**named)  # type: ignore[arg-type]  # fields of an A-stack
        return self._replace(stacks=(*self.stacks[:number], one, *self.stacks[number + 1 :]))

    def turn(self, number: int, at: str, /, **named: object) -> "Lending":
        one = self.workers[number]._replace(at=at, **named)  # type: ignore[arg-type]  # fields of a worker
        has = number if at in LOCKED else -1 if self.interpreter == number else self.interpreter
        return self._replace(workers=(*self.workers[:number], one, *self.workers[number + 1 :]), interpreter=has)

    def alarmed(self, number: int) -> "Lending":
        at = self.workers[number].at
        return self.turn(number, WAKES.get(at, at), heard=at in COMPARES)


class Lenders(NamedTuple):
    """The model's steps; `fault` leaves out one thing that the code does."""

    calls: int = 1
    stuck: int = -1  # whose procedure never returns
    fault: str = ""

    def steps(self, s: Lending) -> Iterator[Lending]:
        """Yield every state that can follow."""
        for number, w in enumerate(s.stacks):
            yield from self._client(s, number, w)
        for number, one in enumerate(s.workers):
            w = s.stacks[one.own]
            yield from self._awaits(s, number, one, w)
            yield from self._spins(s, number, one, w)
            if s.interpreter in (-1, number):
                yield from self._awaits_own(s, number, one, w)
                if s.watcher < 0:
                    yield from self._decides(s, number, one, w)
            if "dismissal" in s.once and s.interpreter == -1 and one.at != "free":
                yield s.turn(number, one.at, leave=True).alarmed(number)._replace(once=s.once - {"dismissal"})
        if self.fault != "no look":
            yield from self._watcher(s)

    def _client(self, s: Lending, number: int, w: Stack) -> Iterator[Lending]:
        if w.phase in (IDLE, DONE) and w.calls < self.calls and not w.ended:
            called = s.put(number, phase=CALLED, number=w.number + 1, calls=w.calls + 1)
            sleeps = w.worker >= 0 and s.workers[w.worker].at == "asleep"
            yield called.turn(w.worker, "look") if sleeps else called
        elif w.phase == CALLED and not w.ended and "withdrawal" in s.once:
            yield s.put(number, phase=IDLE, number=w.number - 1)._replace(once=s.once - {"withdrawal"})
        if s.watcher < 0 and "death" in s.once:  # `end_locked`
            dead = s.put(number, ended=True)._replace(once=s.once - {"death"})
            yield dead.alarmed(w.worker) if w.worker >= 0 else dead
        if s.watcher == s.interpreter == w.worker == -1 and w.phase == CALLED and not w.ended:
            for free, one in enumerate(s.workers):  # the bell has rung
                if one.at == "free":
                    yield s.put(number, worker=free).turn(free, "look", own=number)

    def _awaits(self, s: Lending, number: int, one: Attendant, w: Stack) -> Iterator[Lending]:
        """Yield what follows in `server_await` for a worker that does not spin."""
        if one.at == "look":
            yield s.turn(number, "look on", heard=False)
        elif one.at == "look on":
            assert w.holder == OWN, "two take the call of an A-stack"
            leaves = w.ended or one.leave
            then = "take" if w.phase == CALLED else "detach" if leaves else "unlist" if one.listed else "sleep"
            yield s.put(one.own, bits={"detach": NONE, "sleep": ASLEEP}.get(then, w.bits)).turn(number, then)
        elif one.at == "sleep":
            same = w.phase != CALLED and w.bits == ASLEEP and not one.heard
            yield s.turn(number, "asleep" if same else "look")
        elif one.at == "lent sleep":  # in `await_own`, without any lock
            yield s.turn(number, "own" if one.heard else "lent asleep")
        elif one.at == "take":
            assert w.holder == OWN, "two take the call of an A-stack"
            taken = s.put(one.own, phase=RUNNING, bits=NONE, taken=w.taken + 1)
            yield taken.turn(number, "answer") if w.phase == CALLED else s.turn(number, "look")

    def _spins(self, s: Lending, number: int, one: Attendant, w: Stack) -> Iterator[Lending]:
        """Yield what follows in `server_await` for a worker that spins, and in `take_lent`."""
        if one.at == "spin":
            for slot, (which, _) in enumerate(one.lent):
                if s.stacks[which].holder == LENT and s.stacks[which].phase == CALLED:
                    yield s.turn(number, "grab", took=slot)
            if w.phase == CALLED:
                yield s.turn(number, "take")
            if one.leave or w.ended:
                yield s.turn(number, "look on")
            elif "stop" in s.once:
                yield s.turn(number, "unlist")._replace(once=s.once - {"stop"})
        elif one.took >= 0:
            which = one.lent[one.took][0]
            holder, phase, count = s.stacks[which].holder, s.stacks[which].phase, s.stacks[which].taken
            if one.at == "grab":
                grabs = holder == LENT or self.fault == "no compare"
                yield s.put(which, holder=TAKEN).turn(number, "take lent") if grabs else s.turn(number, "spin", took=-1)
            elif one.at == "take lent":
                assert holder == TAKEN, "two take the call of an A-stack"
                taken = s.put(which, phase=RUNNING, bits=NONE, taken=count + 1)
                yield taken.turn(number, "go over") if phase == CALLED else s.turn(number, "give back")

    def _awaits_own(self, s: Lending, number: int, one: Attendant, w: Stack) -> Iterator[Lending]:
        """Yield what follows in `await_own` and `recall`."""
        if one.at in ("own", "read late"):
            yield s.turn(number, "holder" if one.at == "own" else "lent sleep", heard=False)
        elif one.at == "holder":
            waits = "read late" if self.fault == "late alarm" else "lent sleep"
            back = w.holder == OWN and self.fault != "no second look"
            yield s.turn(number, "look" if back else "recall" if one.leave or w.ended else waits)
        elif one.at == "recall" and w.holder in (LENT, OWN):
            yield s.put(one.own, holder=OWN).turn(number, "look")
        elif one.at == "recall":
            yield s.put(one.own, wants=True).turn(number, "lent sleep")
        elif one.at == "lent asleep" and "idle" in s.once:
            yield s.turn(number, "recall", heard=False)._replace(once=s.once - {"idle"})

    def _decides(self, s: Lending, number: int, one: Attendant, w: Stack) -> Iterator[Lending]:
        """Yield what follows with the interpreter lock and `watch_lock`."""
        if one.at == "answer" and one.own != self.stuck:
            assert (w.phase, w.holder, w.worker) == (RUNNING, OWN, number), "who does not attend answers"
            done, awake, asleep = (s.put(one.own, phase=DONE, bits=bits) for bits in (NONE, AWAKE, ASLEEP))
            kept = tuple(slot for slot in one.lent if s.stacks[slot[0]].holder != OWN)  # `drop_recalled`
            if one.leave:
                yield done.turn(number, "detach")
            elif one.listed:
                yield awake.turn(number, "spin", lent=kept)
                if "stop" in s.once:
                    yield asleep.turn(number, "unlist", lent=kept)._replace(once=s.once - {"stop"})
            elif any(other.listed for other in s.workers):
                yield awake.turn(number, "lend")
            else:
                yield asleep.turn(number, "look")
                yield awake.turn(number, "spin", listed=True)
        elif one.at == "lend":
            for to, other in enumerate(s.workers):
                if other.listed:
                    lent = s.turn(to, other.at, lent=(*other.lent, (one.own, 0)))
                    yield lent.put(one.own, holder=LENT, wants=False).turn(number, "own")
        elif one.at == "unlist":
            yield self._unlisted(s, number).turn(number, "look")
        elif one.at == "detach":
            yield self._unlisted(s, number).put(one.own, worker=-1).turn(number, "free", own=-1, leave=False)
        elif one.at == "go over":
            which = one.lent[one.took][0]
            slots = (*one.lent[: one.took], (one.own, 0), *one.lent[one.took + 1 :])
            slept, wakes = s.stacks[which].worker, s.stacks[which].wants and self.fault != "no alarm after the recall"
            s = s.put(which, holder=OWN, worker=number).put(one.own, holder=LENT, worker=slept, wants=False)
            s = s.turn(number, "answer", own=which, lent=slots, took=-1)
            s = s if self.fault == "no swap" else s.turn(slept, s.workers[slept].at, own=one.own)
            wakes |= w.ended and self.fault != "no alarm after the end"  # of which only the spinner was told
            yield s.alarmed(slept) if wakes else s
        elif one.at == "give back":
            which = one.lent[one.took][0]
            back = s.put(which, holder=OWN).turn(number, "spin", took=-1)
            yield back if self.fault == "no alarm when given back" else back.alarmed(s.stacks[which].worker)

    def _unlisted(self, s: Lending, number: int) -> Lending:
        for which, _ in s.workers[number].lent:
            if s.stacks[which].holder == LENT:
                s = s.put(which, holder=OWN)
                s = s if self.fault == "no alarm at the stop" else s.alarmed(s.stacks[which].worker)
        return s.turn(number, s.workers[number].at, listed=False, lent=())

    def _watcher(self, s: Lending) -> Iterator[Lending]:
        """Yield what follows in `recall_waiting`, for one slot at a time."""
        if s.watcher >= 0:
            yield s.alarmed(s.stacks[s.watcher].worker)._replace(watcher=-1)
        for number, one in enumerate(s.workers if s.watcher < 0 else ()):
            for place, (which, before) in enumerate(one.lent):
                w = s.stacks[which]
                seen = w.number if w.phase == CALLED else 0
                if seen and seen == before and w.holder == LENT:
                    yield s.put(which, holder=OWN)._replace(watcher=which)
                yield s.turn(number, one.at, lent=(*one.lent[:place], (which, seen), *one.lent[place + 1 :]))


def explore(machine: Lenders, astacks: int, once: str) -> set[Lending]:
    """Try every interleaving; return all states, each of which some end follows."""
    lent = tuple((number, 0) for number in range(1, astacks))
    workers = (Attendant("lent asleep", number) for number in range(1, astacks))
    stacks = (Stack(0), *(Stack(number, LENT) for number in range(1, astacks)))
    first = Lending(stacks, (Attendant("spin", 0, listed=True, lent=lent), *workers), frozenset(once.split()))
    before: dict[Lending, list[Lending]] = {first: []}
    todo, ends = [first], set()
    while todo:
        state = todo.pop()
        following = [one for one in dict.fromkeys(machine.steps(state)) if one != state]
        for number, w in enumerate(state.stacks):
            attends = [place for place, one in enumerate(state.workers) if one.own == number]
            assert attends == [w.worker] * (w.worker >= 0), "not one worker attends an A-stack"
            assert w.taken == w.number - (w.phase == CALLED), "a call is taken twice"
            assert w.holder == OWN or w.worker >= 0, "what nobody attends is lent"
            if not following and number != machine.stuck:
                assert not (w.ended and w.worker >= 0), "a worker stays for ever with what has ended"
                assert w.ended or (w.phase in (IDLE, DONE) and w.calls == machine.calls), "a call waits for ever"
        if not following:
            assert not any(one.leave and one.at != "answer" for one in state.workers), "a worker never leaves"
            ends.add(state)
        todo += [one for one in following if one not in before]
        for one in following:
            before.setdefault(one, []).append(state)
    found = set(ends)
    while ends:
        ends = {one for state in ends for one in before[state]} - found
        found |= ends
    assert found == before.keys(), "some go round for ever"
    return found


@pytest.mark.parametrize(
    ("astacks", "calls", "stuck", "once"),  # whose procedure never returns, and what else may happen
    [
        (2, 2, -1, ""),
        (3, 1, 1, ""),
        (2, 1, -1, "dismissal withdrawal"),
        (2, 1, -1, "stop withdrawal"),
        (2, 1, -1, "death idle"),
        (2, 2, 1, "dismissal"),
    ],
)
def test_in_every_interleaving_what_is_lent_is_attended(astacks: int, calls: int, stuck: int, once: str) -> None:
    found = explore(Lenders(calls, stuck), astacks, once)
    assert {w.holder for s in found for w in s.stacks} >= {OWN, LENT, TAKEN}


@pytest.mark.parametrize(
    ("fault", "message", "calls", "stuck", "once"),
    [
        ("no look", "waits for ever", 1, 0, ""),
        ("no compare", "two take the call", 1, 0, ""),
        ("no second look", "waits for ever", 1, 1, ""),
        ("late alarm", "waits for ever", 2, 0, ""),
        ("no swap", "not one worker attends", 1, -1, ""),
        ("no alarm at the stop", "waits for ever", 1, -1, "stop"),
        ("no alarm after the recall", "never leaves", 1, -1, "dismissal"),
        ("no alarm when given back", "never leaves", 1, -1, "dismissal withdrawal"),
        ("no alarm after the end", "stays for ever", 1, -1, "death"),
    ],
)
def test_the_model_notices_what_is_left_out(fault: str, message: str, calls: int, stuck: int, once: str) -> None:
    with pytest.raises(AssertionError, match=message):
        explore(Lenders(calls, stuck, fault), 2, once)
