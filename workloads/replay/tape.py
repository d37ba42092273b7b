"""Defines the steps that a span takes, and keeps those of all spans on a tape.

A span takes some three steps. As objects they need 150 bytes a span, which for a million spans is
more than all else that is known of them. On the tape a step is a code and a number, 9 bytes. What
runs the steps of a span, or adds up their times, reads them there.
"""

from array import array
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
NONE: Final = -1  # where a span without steps of its own would begin


class StepTape:
    """The steps of spans by their index, written once, in order of spans.

    `codes` and `numbers` are the tape: a step has the same place on both.
    """

    def __init__(self) -> None:
        """Begin with no span."""
        self.codes = bytearray()
        self.numbers = array("q")
        self._begins = array("q")  # by span

    def add(self, steps: Steps) -> None:
        """Write the steps of the next span."""
        self._begins.append(len(self.codes))
        self._write(steps)

    def skip(self) -> None:
        """Leave the next span without steps of its own."""
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
