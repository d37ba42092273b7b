"""What one machine is charged: paths of steps that are always charged together, each counted where it is performed."""

from collections.abc import Sequence

from lrpc.kernel.simulated.costs import (
    CLIENT_STUB,
    KERNEL_CALL,
    KERNEL_RETURN,
    MESSAGE_BUFFER,
    MESSAGE_CLIENT_STUB,
    MESSAGE_DISPATCH,
    MESSAGE_ENQUEUE,
    MESSAGE_SCHEDULE,
    MESSAGE_SERVER_STUB,
    MESSAGE_TRANSFER,
    MESSAGE_VALIDATE,
    NETWORK_RECEIVE,
    NETWORK_SEND,
    PROCEDURE_CALL,
    REMOTE_CLIENT,
    REMOTE_SERVER,
    SERVER_STUB,
    STEPS,
    SWITCH,
    TLB_MISS,
    TRAP,
    CostModel,
)


class Path:
    """Steps that follow each other with nothing in between: what they cost together, and how often that was."""

    def __init__(self, costs: CostModel, steps: Sequence[int]) -> None:
        self.steps = tuple(steps)
        self.ns = (sum(costs.ps[step] for step in self.steps) + 500) // 1000  # rounded once
        self.times = 0


class Charges:
    """The paths of one machine and the copies it made; counts of steps are derived from them."""

    def __init__(self, costs: CostModel) -> None:
        self._paths: list[Path] = []
        self._costs = costs
        self._ps = costs.ps
        tlb = costs.file.tlb
        self.tagged = tlb.tagged
        self._copied = [0] * len(STEPS)
        self.procedure_call = self._path(PROCEDURE_CALL)
        self.trap = self._path(TRAP)
        self.switch = self._path(SWITCH)
        self.enter = self._path(SWITCH, *[TLB_MISS] * tlb.pages_on_call)
        self.back = self._path(SWITCH, *[TLB_MISS] * tlb.pages_on_return)
        self.client_stub = self._path(PROCEDURE_CALL, CLIENT_STUB)
        self.call = self._path(TRAP, KERNEL_CALL)
        self.server_stub = self._path(SERVER_STUB)
        self.leave = self._path(TRAP, KERNEL_RETURN)
        self.message_client_stub = self._path(PROCEDURE_CALL, MESSAGE_CLIENT_STUB, MESSAGE_BUFFER)
        self.message_transfer = self._path(MESSAGE_VALIDATE, MESSAGE_ENQUEUE, MESSAGE_TRANSFER, MESSAGE_SCHEDULE)
        self.message_dispatch = self._path(MESSAGE_DISPATCH, MESSAGE_SERVER_STUB)
        self.remote_client = self._path(REMOTE_CLIENT)
        self.remote_server = self._path(REMOTE_SERVER)
        self.network_send = self._path(NETWORK_SEND)
        self.network_receive = self._path(NETWORK_RECEIVE)

    def copy(self, value_step: int, byte_step: int, values: int, size: int) -> int:
        """Count a copy of `values` of `size` bytes in all; return what it costs in ns, rounded once."""
        self._copied[value_step] += values
        self._copied[byte_step] += size
        return (values * self._ps[value_step] + size * self._ps[byte_step] + 500) // 1000

    def counts(self) -> list[int]:
        """Return how often each step was charged so far, by step number."""
        found = list(self._copied)
        for path in self._paths:
            for step in path.steps:
                found[step] += path.times
        return found

    def _path(self, *steps: int) -> Path:
        path = Path(self._costs, steps)
        self._paths.append(path)
        return path
