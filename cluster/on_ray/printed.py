"""Shows what users' code prints on actors, as it would be shown here, line by line by machine.

An actor's process has no terminal. So its two streams are kept there as lines, each with the name
of the machine that ran, and the coordinator's process asks for them now and then, and at the end.
What an actor keeps between two times is bounded: code that prints without end loses lines, and is
told how many.

A machine may do again what it did, on another actor (`synchronisation`), and then prints the same
again. So each line says how much its machine had printed by then, and no more is shown than that
goes beyond what was.
"""

import io
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Final, Literal

from lrpc.kernel.text import visible

PrintedOn = Literal["stdout", "stderr"]
# The machine, the stream, the text, and how many characters the machine had printed there with it.
PrintedLine = tuple[str, PrintedOn, str, int]
MOST_LINES: Final = 10_000  # that wait on an actor
LONGEST_LINE: Final = 10_000  # characters; a longer line is divided
PERIOD_S: Final = 0.5
UNCOUNTED: Final = 2**62  # characters: of a line that no machine printed


class Lines:
    """What was printed in a process and has not been taken yet. `runs` returns who prints."""

    def __init__(self, runs: Callable[[], str]) -> None:
        self._runs = runs
        self._lock = Lock()
        self._waiting: deque[PrintedLine] = deque()
        self._printed: Counter[tuple[str, PrintedOn]] = Counter()  # characters, by machine and stream
        self._lost = 0
        self._writers: list[_Writer] = []

    def writer(self, stream: PrintedOn) -> io.TextIOBase:
        """Return a stream that keeps here what is written to it."""
        self._writers.append(_Writer(self, stream))
        return self._writers[-1]

    def add(self, stream: PrintedOn, text: str, characters: int) -> None:
        """Keep a line that was printed as so many characters, or count it as lost."""
        with self._lock:
            machine = self._runs()
            self._printed[machine, stream] += characters
            if len(self._waiting) < MOST_LINES:
                self._waiting.append((machine, stream, text, self._printed[machine, stream]))
            else:
                self._lost += 1

    def taken(self) -> list[PrintedLine]:
        """Return and forget the lines that wait, and those that have no end yet."""
        for one in self._writers:
            one.end_line()
        with self._lock:
            found, lost = list(self._waiting), self._lost
            self._waiting.clear()
            self._lost = 0
        return [*found, (self._runs(), "stderr", f"({lost:,} more lines were lost)", UNCOUNTED)] if lost else found


class _Writer(io.TextIOBase):
    """A stream of text that hands over whole lines."""

    def __init__(self, lines: Lines, stream: PrintedOn) -> None:
        self._lines = lines
        self._stream = stream
        self._begun = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Keep all lines that have ended; return how many characters were written."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._lines.add(self._stream, line, len(line) + 1)
        while len(self._begun) > LONGEST_LINE:
            self._lines.add(self._stream, self._begun[:LONGEST_LINE], LONGEST_LINE)
            self._begun = self._begun[LONGEST_LINE:]
        return len(text)

    def end_line(self) -> None:
        """End the line that has begun, if there is one."""
        begun, self._begun = self._begun, ""
        if begun:
            self._lines.add(self._stream, begun, len(begun))


class Shown:
    """A thread that asks for lines that were printed elsewhere, by `ask`, and prints them here."""

    def __init__(self, ask: Callable[[], list[PrintedLine]]) -> None:
        self._ask = ask
        self._shown: Counter[tuple[str, PrintedOn]] = Counter()  # characters, by machine and stream
        self._ended = Event()
        self._thread = Thread(target=self._show_all, name="printed", daemon=True)
        self._thread.start()

    def stop(self, *, last: bool) -> None:
        """Stop asking; with `last`, ask once more before."""
        self._ended.set()
        self._thread.join()
        if last:
            self._show()

    def _show_all(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self._show()

    def _show(self) -> None:
        with suppress(Exception):  # Ray's, while it ends, and those of a stream that is closed
            for machine, stream, text, printed in self._ask():
                if printed <= self._shown[machine, stream]:
                    continue
                if printed != UNCOUNTED:
                    self._shown[machine, stream] = printed
                shown = visible(f"{machine}: {text}")
                print(shown, file=sys.stdout if stream == "stdout" else sys.stderr, flush=True)
