"""Defines the steps that a span takes, and keeps those of all spans on a tape.

A span takes some three steps. As objects they need 150 bytes a span, which for a million spans is
more than all else that is known of them. On the tape a step is a code and a number, 9 bytes; the
steps of one span are made when they are asked for. They are values: nothing changes them.
"""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class Compute:
    """Occupy a processor for `ns` nanoseconds."""

    ns: int


@dataclass(slots=True)
class Wait:
    """Let `ns` nanoseconds pass without a processor."""

    ns: int


@dataclass(slots=True)
class Do:
    """Perform another span, and wait for its end."""

    span: int


@dataclass(slots=True)
class Fork:
    """Start a thread that runs `steps` `after_ns` from now; if `joined`, a `Join` waits for it."""

    after_ns: int
    steps: "Steps"
    joined: bool


@dataclass(slots=True)
class Join:
    """Wait for all threads with `joined` that were forked since the last `Join`."""


Steps = tuple[Compute | Wait | Do | Fork | Join, ...]

# Codes on a tape. A fork's steps follow it; the end of them, or of a span's, has a code too.
COMPUTE: Final = 0
WAIT: Final = 1
DO: Final = 2
FORK: Final = 3
FORK_JOINED: Final = 4
JOIN: Final = 5
END: Final = 6
ALONE: Final = bytes([COMPUTE, END])  # the steps of a span that only computes
NONE: Final = -1  # where a span without steps of its own would begin


class StepTape(Mapping[int, Steps]):
    """The steps of spans by their index, written once, in order of spans.

    `codes` and `numbers` are the tape: a step has the same place on both.
    """

    def __init__(self) -> None:
        """Begin with no span."""
        self.codes = bytearray()
        self.numbers = array("q")
        self._begins = array("q")  # by span
        self._length = 0

    def add(self, steps: Steps) -> None:
        """Write the steps of the next span."""
        self._begins.append(len(self.codes))
        self._length += 1
        self._write(steps)

    def skip(self) -> None:
        """Leave the next span without steps of its own; it is no key."""
        self._begins.append(NONE)

    def place(self, span: int) -> int:
        """Return where on the tape the steps of a span begin; raise `KeyError` if it has none."""
        at = self._begins[span] if 0 <= span < len(self._begins) else NONE
        if at == NONE:
            raise KeyError(span)
        return at

    def behind(self, at: int) -> int:
        """Return the place behind the end of the steps that begin at a place."""
        within = 1  # forks, and what is asked for, whose end is not reached
        while within:
            code = self.codes[at]
            within += 1 if code in (FORK, FORK_JOINED) else -1 if code == END else 0
            at += 1
        return at

    def __getitem__(self, span: int) -> Steps:
        """Return the steps of a span."""
        at = self.place(span)
        if self.codes.startswith(ALONE, at):  # as of most spans
            return (Compute(self.numbers[at]),)
        return self._read(at)[0]

    def __iter__(self) -> Iterator[int]:
        """Yield the spans that have steps, in order."""
        return (span for span, at in enumerate(self._begins) if at != NONE)

    def __len__(self) -> int:
        """Return the number of spans that have steps."""
        return self._length

    def _write(self, steps: Steps) -> None:
        for step in steps:
            if isinstance(step, Compute):
                self._note(COMPUTE, step.ns)
            elif isinstance(step, Do):
                self._note(DO, step.span)
            elif isinstance(step, Wait):
                self._note(WAIT, step.ns)
            elif isinstance(step, Fork):
                self._note(FORK_JOINED if step.joined else FORK, step.after_ns)
                self._write(step.steps)
            else:
                self._note(JOIN, 0)
        self._note(END, 0)

    def _note(self, code: int, number: int) -> None:
        self.codes.append(code)
        self.numbers.append(number)

    def _read(self, at: int) -> tuple[Steps, int]:
        """Return the steps that begin at a place on the tape, and the place after their end."""
        found: list[Compute | Wait | Do | Fork | Join] = []
        codes, numbers = self.codes, self.numbers
        while (code := codes[at]) != END:
            number = numbers[at]
            at += 1
            if code == COMPUTE:
                found.append(Compute(number))
            elif code == DO:
                found.append(Do(number))
            elif code == WAIT:
                found.append(Wait(number))
            elif code == JOIN:
                found.append(Join())
            else:
                steps, at = self._read(at)
                found.append(Fork(number, steps, code == FORK_JOINED))
        return tuple(found), at + 1
