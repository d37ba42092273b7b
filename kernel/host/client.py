"""The client's side of a binding: the import through a door, and what lies beneath its stubs."""

import base64
import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Final, cast

from lrpc.kernel.errors import ArgumentError, BindingRefused, CallAborted, CallError, CallFailed
from lrpc.kernel.host import kept, messages, native, segments, spares
from lrpc.kernel.host.doors import Doors
from lrpc.kernel.host.messages import BadMessage

ANSWER_S: Final = 5.0  # within which a server answers a hello, or takes an out-of-band segment
_LISTEN_NS: Final = 10_000_000  # for which it takes what is there, at one go
GIVEN_BACK_S: Final = 0.5  # likewise, or takes back an out-of-band segment that is not used
NEVER: Final = -1  # the deadline of a call without one
COLLECT: Final = 0xFFFF_FFFF  # native.c: asks for results that found no room
NO_ROOM: Final = 1
ENDED, ABORTED, WITHDRAWN, BROKEN, QUARANTINED, PENDING, UNTAKEN, NOT_KEPT = -1, -2, -3, -4, -5, -6, -7, -8
PEER_BROKEN, FORKED, PEER_HOLDS = 2, 3, 5  # why a binding ended
HELD_S: Final = 30.0  # for which a server may hold the A-stack of a call that was aborted
native.end_held(int(HELD_S * 1e9))
# What the native part returns for a call.
Reply = bytes | tuple[int, bytes] | tuple[int, int, int, bool] | int


def status(doors: Doors, name: str) -> dict[str, object]:
    """Return what the server behind a door says of itself: see `Server.status`.

    Raises `BindingRefused` where nobody answers.
    """
    door = doors.connect(name, ANSWER_S)
    try:
        message = _exchange(door, name, {"lrpc": messages.VERSION, "want": "status", **doors.card()}, [])
        message.close()
        _known_server(doors, name, message)
        return dict(message.fields)
    finally:
        door.close()


def _known_server(doors: Doors, name: str, message: messages.DoorMessage) -> messages.Sender:
    """Return who has sent an answer. Raises `BindingRefused` where that is nobody to talk to."""
    sender = doors.known(message.sender)
    if sender is None:
        raise BindingRefused(f"import {name}: Linux did not say who its server is")
    reason = doors.refusal(sender, message.fields)
    if reason is not None:
        raise BindingRefused(f"import {name}: its server is {sender}: {reason}")
    return sender


def _exchange(
    door: socket.socket, name: str, fields: dict[str, object], descriptors: list[int]
) -> messages.DoorMessage:
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        messages.send(door, fields, descriptors)
        message = messages.receive(door)
    except TimeoutError:
        raise BindingRefused(f"import {name}: the server did not answer in time") from None
    except BadMessage as error:
        raise BindingRefused(f"import {name}: the server's answer cannot be used: {error}") from None
    except OSError as error:
        raise BindingRefused(f"import {name}: the server ended before it answered: {error.strerror}") from None
    if message is None:
        raise BindingRefused(f"import {name}: the server closed its door without an answer")
    if "refused" in message.fields:
        message.close()
        raise BindingRefused(str(message.fields["refused"])[:1000])
    return message


class NoRoom(CallFailed):
    """A call's values find no room: the server takes no segment for them, or keeps no more results.

    `executed` says whether its procedure has run.
    """

    def __init__(self, message: str, executed: bool) -> None:
        super().__init__(message)
        self.executed = executed


class TooLarge(ArgumentError):
    """A call's values are larger than any segment, or than its client believes; as `NoRoom`."""

    def __init__(self, message: str, executed: bool) -> None:
        super().__init__(message)
        self.executed = executed


class ClientBinding:
    """A client's end of a binding: calls go through `native`, the rest is here.

    Raises `BindingRefused` where nobody exports the name, the server is another user's, its clerk
    refuses, or its interface differs.
    """

    def __init__(
        self,
        doors: Doors,
        name: str,
        interface: str,
        signatures: tuple[str, ...],
        waits: int,
        notified: bool,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.name = name
        self.largest = segments.MOST_SEGMENT  # bytes of arguments or results that are believed
        self.forked = False
        self._attaching = threading.RLock()
        # Segments that the server has not taken yet, by turn: A-stack, descriptor, bytes. What is
        # given back has no descriptor.
        self._offered: dict[int, tuple[int, int, int]] = {}
        self._turn = 0
        # Is told what the server says of a call before its reply: A-stack, number, bytes.
        self.on_early: Callable[[int, int, bytes], None] | None = None
        # Is told once what it has counted, when it ends here.
        self.on_close: Callable[[str, dict[str, int]], None] | None = None
        self.pidfd = -1
        self.notify: socket.socket | None = None
        theirs: socket.socket | None = None
        self.door = doors.connect(name, answer_s)
        try:
            if notified:
                self.notify, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                self.notify.setblocking(False)
            hello = {
                "lrpc": messages.VERSION,
                "want": "binding",
                "interface": interface,
                "signatures": list(signatures),
                **doors.card(),
            }
            message = _exchange(self.door, name, hello, [] if theirs is None else [theirs.fileno()])
            try:
                self._enter(doors, message, len(signatures), waits)
                self.door.setblocking(False)
            finally:
                message.close()
        except BaseException as error:
            self._close_descriptors()
            if isinstance(error, OSError):
                raise BindingRefused(f"import {name}: this process cannot bind: {error.strerror}") from None
            raise
        finally:
            if theirs is not None:
                theirs.close()

    def _enter(self, doors: Doors, message: messages.DoorMessage, procedures: int, waits: int) -> None:
        """Check what the server has sent, and map its segment."""
        name = self.name
        try:
            bound = messages.DoorMessage(message.get("bound", dict), (), None)
            size = bound.get("size", int)
            layout = segments.read_layout(size, bound.get("astacks", list), bound.get("groups", list), procedures)
            if len(message.descriptors) != 1:
                raise BadMessage("no segment, or several")
        except CallError as error:
            raise BindingRefused(f"import {name}: the server speaks another language: {error}") from None
        self.groups = layout.groups
        sender = _known_server(doors, name, message)
        segments.check(message.descriptors[0], size)
        self.sender = sender
        self.pidfd = messages.process_of(sender)
        try:
            self.native = native.Binding(
                message.descriptors[0], size, layout.astacks, self.door.fileno(), self.pidfd, -1, waits, False
            )
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else error
            raise BindingRefused(f"import {name}: its segment cannot be mapped: {text}") from None

    def finish(self, reply: Reply, group: int, procedure: int, deadline: int, data: bytes) -> tuple[int, bytes]:
        """Bring a call that has not simply returned to its end; return the reply's kind and bytes.

        `data` are the packed arguments, which are passed again once there is room for them. Raises
        the `CallError` with which the call ended.
        """
        for _ in range(2):  # once for the arguments, once for the results
            if type(reply) is not tuple or len(reply) != 4:
                break
            try:
                index = self.make_room(reply, deadline)
            except BaseException as error:
                if not isinstance(error, CallError):
                    self.let_go(reply)
                raise
            if reply[3]:  # the procedure has run; its results found no room
                procedure, data = COLLECT, b""
            reply = self.native.call(group, procedure, data, deadline, index)
        if type(reply) is bytes:
            return 0, reply
        if type(reply) is tuple and len(reply) == 4:
            self.native.end()  # a server that is never content with what it asked for
            reply = BROKEN
        if type(reply) is int:
            self.take_late_answers()
            raise self.error(reply)
        assert isinstance(reply, tuple)
        return reply[0], cast(bytes, reply[1])

    def make_room(self, reply: tuple[int, ...], deadline: int) -> int:
        """Give an A-stack the out-of-band segment that a call needs; return the A-stack's index.

        Raises `NoRoom` where the server does not take it, `TooLarge` where nobody would, and
        `CallAborted` at the deadline.
        """
        _, index, need, executed = reply
        size = segments.region_size(need)
        if need > self.largest:
            self.native.release(index)
            at_most = f"{self.name}: values of {need:,} bytes; at most {self.largest:,} travel"
            raise TooLarge(at_most, bool(executed))
        refusal = self._offer(index, size, deadline)
        if refusal is not None:  # what was lent before may be in the way
            spares.give_all()
            refusal = self._offer(index, size, deadline)
        if refusal is not None:
            self.native.release(index)
            raise NoRoom(f"{self.name}: {refusal}", bool(executed))
        spares.watch(self)
        segments.keep_pages(size)
        return index

    def let_go(self, reply: Reply | None) -> None:
        """Release the A-stack of a call that Ctrl-C ended, unless an answer of the server will."""
        offered = [index for index, _, _ in self._offered.values()]
        if type(reply) is tuple and len(reply) == 4 and reply[1] not in offered:
            self.native.release(reply[1])

    def _offer(self, index: int, size: int, deadline: int) -> str | None:
        """Offer the server a segment for an A-stack; return why it does not get one."""
        with self._attaching:
            try:
                segment = segments.make(size)
            except BindingRefused as error:
                return f"in this process, {error}"
            try:
                self._wait(select.POLLOUT, _until(deadline))
            except CallError:
                self.native.release(index)
                os.close(segment)
                raise
            refusal = self._send({"attach": index, "size": size}, index, segment, size, deadline)
            return None if refusal is None else f"the server takes no segment of {size:,} bytes: {refusal}"

    def _send(self, fields: dict[str, object], index: int, segment: int, size: int, deadline: int) -> str | None:
        """Send what is to change an A-stack's segment, and await the answer: a refusal, or None."""
        self._turn += 1
        self._offered[self._turn] = (index, segment, size)
        try:
            messages.send(self.door, {**fields, "turn": self._turn}, [] if segment < 0 else [segment])
            return self._await_answer(self._turn, deadline)
        except (OSError, ValueError, BadMessage):
            raise self.error(ENDED) from None

    @property
    def holds_regions(self) -> bool:
        """Return whether it has out-of-band segments that could be given back."""
        return not self.forked and not self.native.ended and self.native.regions() > 0

    def give_back(self, idle_ns: int) -> bool:
        """Give back the segments that were not used for so long; return whether others are left."""
        with self._attaching:
            self.take_late_answers()
            while not self.forked and (index := self.native.spare(idle_ns)) >= 0:
                soon = native.now_ns() + int(GIVEN_BACK_S * 1e9)
                try:
                    self._wait(select.POLLOUT, soon)
                except CallError:
                    self.native.release(index)
                    break
                try:
                    self._send({"detach": index}, index, -1, 0, soon)
                except CallError:  # its answer comes later, or never
                    break
                self.native.release(index)
        return self.holds_regions

    def _await_answer(self, turn: int, deadline: int) -> str | None:
        """Take the server's answers until that to the segment of this turn; return a refusal.

        Where a deadline passes before it, the A-stack stays away until it comes: until then, nobody
        knows which segment the server has. Turn 0 never comes: all that is there is taken.
        """
        until = _until(deadline)
        late = until if turn else native.now_ns() + _LISTEN_NS
        heard = False
        while True:
            if heard and native.now_ns() >= late:  # whatever else it may say
                raise self.error(WITHDRAWN)
            heard = True
            try:
                message = messages.receive(self.door)
            except BlockingIOError:
                self._wait(select.POLLIN, until)
                continue
            if message is None:
                raise self.error(ENDED)
            message.close()
            if "early" in message.fields:
                self._take_early(message.get("early", list))
                continue
            answered = message.get("turn", int)
            if answered not in self._offered:
                raise BadMessage("an answer to nothing")
            index, segment, size = self._offered.pop(answered)
            attached = message.fields.get("attached")
            try:
                if attached is True and segment >= 0:
                    self.native.attach(index, segment, size)
                elif attached is False and segment < 0:
                    self.native.detach(index)
            finally:
                if segment >= 0:
                    os.close(segment)
            if answered != turn:
                self.native.release(index)  # its call went on without it
            elif type(attached) is bool:
                return None
            else:
                return str(message.fields.get("refused", "it does not say why"))[:300]

    def _wait(self, event: int, until: int) -> None:
        """Wait for the door; an event loop that also listens to it is not held up.

        Raises `CallAborted` when it is late, `CallFailed` where server or binding has ended.
        """
        left = until - native.now_ns()
        poll = select.poll()
        try:
            poll.register(self.door, event)
            if self.pidfd >= 0:  # which ends where a forked child keeps the door open
                poll.register(self.pidfd, select.POLLIN)
        except (OSError, ValueError):  # another thread has ended the binding
            raise self.error(ENDED) from None
        ready = poll.poll(left / 1e6) if left > 0 else []
        if not ready:
            raise self.error(WITHDRAWN)
        if any(fd == self.pidfd for fd, _ in ready):
            raise self.error(ENDED)

    def _take_early(self, fields: list[object]) -> None:
        index, number, data = fields if len(fields) == 3 else (None, None, None)
        if not (type(index) is int and type(number) is int and isinstance(data, str)):
            raise BadMessage("something early of no call")
        if self.on_early is not None:
            self.on_early(index, number, base64.b64decode(data))

    def ring(self) -> None:
        """Ring: the server looks at its calls, one of which was aborted."""
        with contextlib.suppress(OSError):  # full: the bell rings already; closed: nobody is there
            self.door.send(b"b", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def take_late_answers(self) -> bool:
        """Take what has come over the door: answers after a deadline, which bring A-stacks back.

        Returns whether there may have been any.
        """
        if not self._offered and self.on_early is None:
            return False
        if self._attaching.acquire(blocking=False):
            try:
                with contextlib.suppress(CallAborted):
                    self._await_answer(0, 0)
            except (CallError, OSError, ValueError):
                return False
            finally:
                self._attaching.release()
        return True

    def error(self, code: int) -> CallError:
        """Return the error for what the native part returned in place of results."""
        if self.forked or self.native.ended == FORKED:
            return CallFailed(f"{self.name}: this process was forked, and bindings stay with the parent; bind again")
        if code == ABORTED:
            return CallAborted(f"{self.name}: the deadline passed while the server executes the call")
        if code == WITHDRAWN:
            return CallAborted(f"{self.name}: the deadline passed before the server took the call")
        if code == QUARANTINED:
            return CallFailed(f"{self.name}: 64 calls that were aborted still hold their A-stacks in the server")
        if code == NOT_KEPT:
            return NoRoom(
                f"{self.name}: the call was executed, but its results found no room: the server keeps only so many "
                f"bytes, and only for {kept.KEPT_S:g} seconds",
                True,
            )
        if self.native.ended == PEER_HOLDS:
            return CallFailed(
                f"{self.name}: the server has executed a call that was aborted for more than {HELD_S:g} seconds; "
                "the binding is ended, bind again"
            )
        if code == BROKEN or self.native.ended == PEER_BROKEN:
            return CallFailed(f"{self.name}: the server wrote what no server writes; the binding is ended, bind again")
        return CallFailed(f"{self.name}: its server has ended; bind again once it is back")

    @property
    def has_ended(self) -> bool:
        """Return whether the server has closed its door, or the binding was ended here."""
        if self.native.ended:
            return True
        try:
            return not self.door.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """End the binding: outstanding calls fail, and the server learns of it."""
        told, self.on_close = self.on_close, None
        if told is not None:
            told(self.name, self.native.counts())
        self.native.end()
        self._close_descriptors()

    def forget(self) -> None:
        """Close a forked child's copies; the parent's binding goes on."""
        self.forked = True
        self._close_descriptors()

    def __del__(self) -> None:
        """End the binding once no stub is left that could use it."""
        if hasattr(self, "native") and not self.forked:
            self.close()

    def _close_descriptors(self) -> None:
        self.door.close()
        if self.notify is not None:
            self.notify.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        for _, segment, _ in self._offered.values():
            if segment >= 0:
                os.close(segment)
        self._offered.clear()


def _until(deadline: int) -> int:
    """Return when a server that should answer is late."""
    soon = native.now_ns() + int(ANSWER_S * 1e9)
    return soon if deadline == NEVER else min(soon, deadline)
