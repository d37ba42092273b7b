"""A system that records the operations it is asked for and performs none.

The recorded activity gives counts of operations, and bounds on the calls of any system, without a
simulation.
"""

from lrpc.workloads.systems.activity import System

Operation = tuple[str, int, int]  # name; file, or -1; block or page, or the count of `other`


class Recording(System):
    """The operations of all processes that ran on it, in order."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def wait_until(self, ms: int) -> None:
        """Return at once: a recording takes no time."""

    def event(self) -> None:
        """Record an event."""
        self.operations.append(("event", -1, 0))

    def paint(self) -> None:
        """Record a line drawn."""
        self.operations.append(("paint", -1, 0))

    def other(self, count: int) -> None:
        """Record `count` other calls as one operation."""
        self.operations.append(("other", -1, count))

    def execute(self, program: int) -> None:
        """Record a program started."""
        self.operations.append(("execute", program, 0))

    def touch(self, program: int, page: int) -> None:
        """Record a page of a program run."""
        self.operations.append(("touch", program, page))

    def use(self, data: int, page: int) -> None:
        """Record a page of data used."""
        self.operations.append(("use", data, page))

    def status(self, file: int) -> None:
        """Record a request for a file's attributes."""
        self.operations.append(("status", file, 0))

    def open(self, file: int) -> None:
        """Record a file opened."""
        self.operations.append(("open", file, 0))

    def create(self, file: int) -> None:
        """Record a file created."""
        self.operations.append(("create", file, 0))

    def read(self, file: int, block: int) -> None:
        """Record a block read."""
        self.operations.append(("read", file, block))

    def write(self, file: int, block: int) -> None:
        """Record a block written."""
        self.operations.append(("write", file, block))

    def close(self, file: int) -> None:
        """Record a file closed."""
        self.operations.append(("close", file, 0))

    def remove(self, file: int) -> None:
        """Record a file removed."""
        self.operations.append(("remove", file, 0))
