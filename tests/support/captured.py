"""A server that keeps its callers, and threads that make or abort such calls."""

from collections.abc import Callable

from lrpc.domains.domain import Transfer
from lrpc.kernel.errors import CallAborted
from lrpc.kernel.simulated.threads import Thread
from tests.support.simulated import (
    Machine,
    machine,
)

MS = 1000.0  # in us


def keeping(us: float = 100 * MS, processors: int = 1) -> Machine:
    """Return a machine whose server keeps each Null for `us`."""
    made = machine(processors=processors, before=lambda: made.server.sleep(us))
    return made


def captured_by(one: Machine, transfer: Transfer = "lrpc") -> tuple[Thread, list[str]]:
    """Return a thread that calls Null, and the list where it notes, once, how the call ended."""
    found: list[str] = []

    def body() -> None:
        try:
            one.tests(transfer).null()
            found.append("returned")
        except CallAborted:
            found.append("aborted")

    return one.client.spawn(body, "caller"), found


def aborting(one: Machine, thread: Thread, after_us: float = MS) -> Callable[[], None]:
    def body() -> None:
        one.client.sleep(after_us)
        one.client.abort(thread)

    return body
