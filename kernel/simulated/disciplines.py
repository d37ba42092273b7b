"""Table III's copies of each discipline, with from where to where each goes.

Also how messages travel, as a cost model says it: by which discipline, and what is under a lock.
"""

from typing import Final, Literal

from pydantic import Field, model_validator

from lrpc.kernel.simulated.origins import Sourced

# The copies, by Table III's letters, that a message-passing system makes of each mutable argument,
# each immutable argument and each result. Taos' shared buffers are mapped into every domain, and so
# need no copies between domains.
Discipline = Literal["shared buffers", "message passing", "restricted message passing"]
COPIES: Final[dict[str, tuple[str, str, str]]] = {
    "shared buffers": ("A", "AE", "F"),
    "message passing": ("ABCE", "ABCE", "BCF"),
    "restricted message passing": ("ADE", "ADE", "BF"),
}

# Where the bytes of a message are on its way; the first four are buffers.
SENDER: Final = 0  # a buffer in the client's memory
KERNEL: Final = 1  # one in the kernel's
RECEIVER: Final = 2  # one in the server's
SHARED: Final = 3  # one that is mapped into every domain
STUB: Final = 4  # the client stub's arguments, or the results that it returns
STACK: Final = 5  # the stack on which the server's procedure finds arguments
CopyPath = dict[str, tuple[int, int]]  # from where to where each copy goes, by Table III's letter
ARGUMENT_PATHS: Final[dict[str, CopyPath]] = {
    "shared buffers": {"A": (STUB, SHARED), "E": (SHARED, STACK)},
    "message passing": {
        "A": (STUB, SENDER),
        "B": (SENDER, KERNEL),
        "C": (KERNEL, RECEIVER),
        "E": (RECEIVER, STACK),
    },
    "restricted message passing": {"A": (STUB, SENDER), "D": (SENDER, RECEIVER), "E": (RECEIVER, STACK)},
}
RESULT_PATHS: Final[dict[str, CopyPath]] = {
    "shared buffers": {"F": (SHARED, STUB)},
    "message passing": {"B": (RECEIVER, KERNEL), "C": (KERNEL, SENDER), "F": (SENDER, STUB)},
    "restricted message passing": {"B": (RECEIVER, KERNEL), "F": (KERNEL, STUB)},
}

# The steps of a message's transfer, in order.
TRANSFER_STEPS: Final = (
    "message_validate",
    "message_enqueue",
    "message_transfer",
    "message_schedule",
    "message_switch",
)


class TransferLock(Sourced):
    """The steps of a message's transfer over which one lock of the machine is held: none, or some.

    Those follow each other in `TRANSFER_STEPS`.
    """

    steps: tuple[str, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _steps_follow_each_other(self) -> "TransferLock":
        if self.steps != self.parts[1]:
            known = ", ".join(TRANSFER_STEPS)
            raise ValueError(f"steps: {', '.join(self.steps)}: name none, or some that follow each other in {known}")
        return self

    @property
    def parts(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return a transfer's steps: before the lock is taken, under it, and after."""
        first = self.steps[0] if self.steps else ""
        begin = TRANSFER_STEPS.index(first) if first in TRANSFER_STEPS else len(TRANSFER_STEPS)
        end = begin + len(self.steps)
        return TRANSFER_STEPS[:begin], TRANSFER_STEPS[begin:end], TRANSFER_STEPS[end:]


class BufferCount(Sourced):
    """How many message buffers each server has."""

    count: int = Field(ge=1, le=1 << 16)


class MessagePassing(Sourced):
    """How messages travel between domains."""

    discipline: Discipline
    locked: TransferLock
    buffers: BufferCount
