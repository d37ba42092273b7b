"""Table III: which copies each discipline of message passing makes, and from where to where."""

from typing import Final, Literal

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
