"""What people do, written down with no system to do it: from this follow numbers of calls, and bounds."""

from lrpc.workloads.systems.activity import System

Operation = tuple[str, int, int]  # its name; a file; a block, or how many


class Recording(System):
    """Keeps every operation that it is asked for."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def wait_until(self, ms: int) -> None:
        """Wait for nothing."""

    def event(self) -> None:
        """Note an event."""
        self.operations.append(("event", -1, 0))

    def paint(self) -> None:
        """Note a line drawn."""
        self.operations.append(("paint", -1, 0))

    def other(self, count: int) -> None:
        """Note so many other calls."""
        self.operations.append(("other", -1, count))

    def execute(self, program: int) -> None:
        """Note a program."""
        self.operations.append(("execute", program, 0))

    def touch(self, program: int, page: int) -> None:
        """Note a page."""
        self.operations.append(("touch", program, page))

    def status(self, file: int) -> None:
        """Note a look at a file."""
        self.operations.append(("status", file, 0))

    def open(self, file: int) -> None:
        """Note a file opened."""
        self.operations.append(("open", file, 0))

    def create(self, file: int) -> None:
        """Note a file made."""
        self.operations.append(("create", file, 0))

    def read(self, file: int, block: int) -> None:
        """Note a block read."""
        self.operations.append(("read", file, block))

    def write(self, file: int, block: int) -> None:
        """Note a block written."""
        self.operations.append(("write", file, block))

    def close(self, file: int) -> None:
        """Note a file closed."""
        self.operations.append(("close", file, 0))

    def remove(self, file: int) -> None:
        """Note a file removed."""
        self.operations.append(("remove", file, 0))
