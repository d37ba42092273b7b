"""The server's end of a binding: what was exported, to whom, and the memory that both share."""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrpc.kernel.descriptors import Authoriser, Entry, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused
from lrpc.kernel.host import messages, native, segments
from lrpc.kernel.host.doors import Door
from lrpc.kernel.host.messages import BadMessage, DoorMessage, Sender


class Refusal(BindingRefused):
    """A refusal to bind, with one of a few words that stand for its kind."""

    def __init__(self, why: str, reason: str) -> None:
        super().__init__(reason)
        self.why = why


@dataclass(frozen=True, slots=True)
class HostExport:
    """An export of this process: what a client may bind to."""

    name: str
    interface: str
    signatures: tuple[str, ...]  # one line for each procedure; both sides must have the same
    descriptors: tuple[ProcedureDescriptor, ...]
    clerk: Authoriser | None  # None: every process of the same user is accepted
    door: Door
    # Makes the server stubs of one binding, where they are not the same for all.
    stubs_for: Callable[["ServerBinding"], Sequence[Entry]] | None = None

    def compare(self, interface: str, signatures: list[object]) -> None:
        """Raise `Refusal` where client and server have different interfaces; say where."""
        why = "another interface"
        if interface != self.interface:
            raise Refusal(why, f"import {self.name}: it is a {self.interface}, not a {interface[:80]}")
        version = f"import {self.name}: another version of {interface}"
        for own, other in zip(self.signatures, signatures, strict=False):
            if own != other:
                raise Refusal(why, f"{version}: the server has {own}, the client {str(other)[:300]}")
        counts = len(self.signatures), len(signatures)
        if counts[0] != counts[1]:
            raise Refusal(why, f"{version}: the server has {counts[0]} procedures, the client {counts[1]}")


class ServerBinding:
    """The server's end of one binding: its segment, and who is at the other end."""

    def __init__(
        self,
        export: HostExport,
        sender: Sender,
        door: socket.socket,
        notify: int | None,
        waits: int,
        pins: bool = True,  # whether workers may go to the processors that the client names
    ) -> None:
        self.export, self.sender, self.door, self.pins = export, sender, door, pins
        # Whose it is, for what is shared out: a process, or a user whose processes have no number.
        self.owner = sender.pid or -1 - sender.uid
        self.hears = notify is not None  # its client listens to the door all the time
        self.layout = segments.lay_out(export.descriptors)
        self.entries: Sequence[Entry] = [one.entry for one in export.descriptors]
        if export.stubs_for is not None:
            self.entries = export.stubs_for(self)
        self.on_end: set[Callable[[], None]] = set()  # called once it has ended
        self.on_aborted: dict[int, Callable[[], None]] = {}  # by A-stack: called where its client aborts the call
        self.bytes = self.layout.size
        self.bells = self.bells_since_ns = self.calls_before = 0
        self.regions: dict[int, int] = {}
        self.pidfd = self.segment = -1
        try:
            self.pidfd = messages.process_of(sender)
            self.segment = segments.make(self.layout.size)
            told = -1 if notify is None else notify
            layout, fd = self.layout, door.fileno()
            self.native = native.Binding(
                self.segment, layout.size, layout.astacks, fd, self.pidfd, told, waits, True, pins, self.owner
            )
        except BaseException:
            self._close_descriptors()  # but not the door: the reason goes over it
            raise

    def attach(self, message: DoorMessage) -> None:
        """Give an A-stack the out-of-band segment that came with a message."""
        index, size = message.get("attach", int), message.get("size", int)
        if len(message.descriptors) != 1:
            raise BadMessage("an out-of-band segment without a descriptor")
        segments.check(message.descriptors[0], size)
        self.native.attach(index, message.descriptors[0], size)
        self.bytes += size - self.regions.get(index, 0)
        self.regions[index] = size
        segments.keep_pages(size)

    def detach(self, message: DoorMessage) -> None:
        """Take an A-stack's out-of-band segment away: its client needs it no more."""
        index = message.get("detach", int)
        self.native.detach(index)
        self.bytes -= self.regions.pop(index, 0)

    def close(self) -> None:
        """End the binding: workers leave it, and its descriptors are closed."""
        self.native.end()
        self.forget()
        self.entries = ()  # which may know this binding: its memory goes now, not when cycles are looked for
        while self.on_end:
            with contextlib.suppress(KeyError):  # another thread may have taken it away
                self.on_end.pop()()

    def forget(self) -> None:
        """Close this process's descriptors."""
        self.door.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for one in (self.pidfd, self.segment):
            if one >= 0:
                os.close(one)
        self.pidfd = self.segment = -1
