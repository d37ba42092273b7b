"""A system that records the operations it is asked for and performs none.

The recorded activity gives counts of operations, and bounds on the calls of any system, without a
simulation.
"""

from lrpc.workloads.systems.activity import System

Operation = tuple[str, int, int]  # name; file, or -1; block or page, or the count of `other`


class Recording(System):
    """The operations of all processes that ran on it, in order, and the earliest time of each."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.times: list[int] = []  # of each operation, in ms
        self._now = 0

    def wait_until(self, ms: int) -> None:
        """Note the time, and return at once: a recording takes no time."""
        self._now = max(self._now, ms)

    def event(self) -> None:
        """Record an event."""
        self._note("event", -1, 0)

    def paint(self) -> None:
        """Record a line drawn."""
        self._note("paint", -1, 0)

    def other(self, count: int) -> None:
        """Record `count` other calls as one operation."""
        self._note("other", -1, count)

    def execute(self, program: int) -> None:
        """Record a program started."""
        self._note("execute", program, 0)

    def touch(self, program: int, page: int) -> None:
        """Record a page of a program run."""
        self._note("touch", program, page)

    def use(self, data: int, page: int) -> None:
        """Record a page of data used."""
        self._note("use", data, page)

    def status(self, file: int) -> None:
        """Record a request for a file's attributes."""
        self._note("status", file, 0)

    def open(self, file: int) -> None:
        """Record a file opened."""
        self._note("open", file, 0)

    def create(self, file: int) -> None:
        """Record a file created."""
        self._note("create", file, 0)

    def read(self, file: int, block: int) -> None:
        """Record a block read."""
        self._note("read", file, block)

    def write(self, file: int, block: int) -> None:
        """Record a block written."""
        self._note("write", file, block)

    def close(self, file: int) -> None:
        """Record a file closed."""
        self._note("close", file, 0)

    def remove(self, file: int) -> None:
        """Record a file removed."""
        self._note("remove", file, 0)

    def _note(self, name: str, file: int, number: int) -> None:
        self.operations.append((name, file, number))
        self.times.append(self._now)
