"""The steps on a tape, read back as they were written."""

from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.replay.tape import (
    COMPUTE,
    DO,
    END,
    FORK_JOINED,
    JOIN,
    WAIT,
    Compute,
    Do,
    Fork,
    Join,
    Steps,
    StepTape,
    Wait,
)


def steps_of(done: Activity) -> dict[int, Steps]:
    """Return the steps of each span that has steps of its own, by its index."""
    return {span: _read(done.steps, done.steps.place(span)) for span in range(len(done.pods)) if span not in done.calls}


def _read(tape: StepTape, at: int) -> Steps:
    found: list[Compute | Wait | Do | Fork | Join] = []
    while (code := tape.codes[at]) != END:
        number = tape.numbers[at]
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
            found.append(Fork(number, _read(tape, at), code == FORK_JOINED))
            at = tape.behind(at)
    return tuple(found)
