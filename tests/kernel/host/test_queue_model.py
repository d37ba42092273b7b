"""The queue of A-stacks of one group, as a model whose interleavings are all tried.

The steps are those of `take_astack` and `release_astack`: what one does with the interpreter lock
is one step, and a sleep compares its word once more. Several callers share a few A-stacks; each may
give up, and the binding may end. No A-stack is held twice, and nobody sleeps while one is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest


@dataclass(frozen=True)
class Caller:
    at: str = "want"  # or: sleep, asleep, has, and done
    seen: int = 0  # of the word that changes when an A-stack comes back
    seen_alarm: bool = False
    held: int = -1
    calls: int = 0


@dataclass(frozen=True)
class Queue:
    callers: tuple[Caller, ...]
    free: tuple[int, ...]
    freed: int = 0
    waiting: int = 0
    ended: bool = False
    alarm: bool = False


def change(s: Queue, number: int, **named: object) -> Queue:
    """Return the state with one caller changed."""
    one = replace(s.callers[number], **named)  # type: ignore[arg-type]  # fields of a caller
    return replace(s, callers=(*s.callers[:number], one, *s.callers[number + 1 :]))


class Machine:
    """The model's steps; `fault` leaves out one thing that the code does."""

    def __init__(self, calls: int, gives_up: bool, ends: bool, fault: str = "") -> None:
        self.calls, self.gives_up, self.ends, self.fault = calls, gives_up, ends, fault

    def steps(self, s: Queue) -> Iterator[Queue]:
        """Yield every state that can follow."""
        for number, one in enumerate(s.callers):
            yield from self._caller(s, number, one)
        if self.ends and not s.ended:
            yield replace(s, ended=True)
        elif s.ended and not s.alarm:
            woken = tuple(replace(one, at="awake") if one.at == "asleep" else one for one in s.callers)
            yield replace(s, alarm=True, callers=woken)

    def _caller(self, s: Queue, number: int, one: Caller) -> Iterator[Queue]:
        if one.at == "want":
            if one.calls == self.calls or s.ended:
                yield change(s, number, at="done")
            elif s.free:
                taken = replace(s, free=s.free[1:])
                yield change(taken, number, at="has", held=s.free[0], calls=one.calls + 1)
            else:
                seen = -1 if self.fault == "no count" else s.freed
                waits = replace(s, waiting=s.waiting + 1)
                yield change(waits, number, at="sleep", seen=seen, seen_alarm=s.alarm)
        elif one.at == "sleep":  # the futex compares the word, and the alarm
            if self.fault != "no count" and (one.seen != s.freed or one.seen_alarm != s.alarm):
                yield change(s, number, at="awake")
            else:
                yield change(s, number, at="asleep")
        elif one.at == "asleep" and self.gives_up:  # its deadline
            yield change(s, number, at="late")
        elif one.at == "late":
            yield change(replace(s, waiting=s.waiting - 1), number, at="done")
        elif one.at == "awake":
            yield change(replace(s, waiting=s.waiting - 1), number, at="want")
        elif one.at == "has":
            back = change(replace(s, free=(one.held, *s.free)), number, at="want", held=-1)
            sleepers = [place for place, other in enumerate(back.callers) if other.at == "asleep"]
            if not back.waiting or self.fault == "no wake":
                yield back
                return
            counted = replace(back, freed=back.freed + 1)
            if not sleepers:
                yield counted
            for place in sleepers:  # whichever the system wakes
                yield change(counted, place, at="awake")


def explore(machine: Machine, callers: int, astacks: int) -> int:
    """Try every interleaving; return how many states there are."""
    first = Queue((Caller(),) * callers, tuple(range(astacks)))
    seen, todo = {first}, [first]
    while todo:
        s = todo.pop()
        held = [one.held for one in s.callers if one.held >= 0]
        assert len({*held, *s.free}) == len(held) + len(s.free) == astacks, "an A-stack is lost, or held twice"
        following = set(machine.steps(s))
        if not following:
            assert all(one.at == "done" for one in s.callers), "a caller sleeps for ever"
            assert s.waiting == 0
        for one in following - seen:
            seen.add(one)
            todo.append(one)
    return len(seen)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("gives_up", [False, True])
@pytest.mark.parametrize(("callers", "astacks"), [(2, 1), (3, 1), (3, 2)])
def test_in_every_interleaving_each_caller_gets_an_a_stack(
    callers: int, astacks: int, gives_up: bool, ends: bool
) -> None:
    assert explore(Machine(4 - callers, gives_up, ends), callers, astacks) > 10


@pytest.mark.parametrize("fault", ["no wake", "no count"])
def test_the_model_notices_what_is_left_out(fault: str) -> None:
    with pytest.raises(AssertionError, match="sleeps for ever"):
        explore(Machine(2, False, False, fault), 2, 1)
