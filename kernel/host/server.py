"""The server's side of bindings: doors are answered, clients bound, bells heard, ends noticed.

One thread, the dispatcher, listens to all doors of a domain and to all its bindings. It never runs
what users wrote: imports are decided by another thread, the clerk's, and procedures by workers. So
neither a slow policy nor a long procedure delays a binding or a bell.
"""

import contextlib
import os
import select
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Final

from lrpc.kernel.descriptors import Authoriser, Entry, ImportRequest, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused, CallError, CallFailed
from lrpc.kernel.host import messages, native, processors, segments
from lrpc.kernel.host.bindings import HostExport, Refusal, ServerBinding
from lrpc.kernel.host.doors import Doors
from lrpc.kernel.host.knocks import Hello, Knocks, answer
from lrpc.kernel.host.messages import BadMessage, DoorMessage, Sender
from lrpc.kernel.host.workers import IDLE_S, Attends, OnError, Served, Workers

COUNTED: Final = ("calls", "spun", "slept", "aborted")  # of each binding, without end
_PAUSE_NS: Final = 50_000_000  # without accepting, where no descriptor is left
MOST_BINDINGS: Final = 256  # of one user
MOST_BYTES: Final = 512 << 20  # of segments, of one user
_UNTOLD: Final = ("free", "quarantined", "lent")  # of what is counted: not in the status
_BELLS_A_SECOND: Final = 1000  # without a call, before a binding is ended
_REASONS: Final = {1: "client ended", 2: "client broke the segment", 3: "forked", 4: "closed"}


class HostServer:
    """What one domain exports, and everybody bound to it.

    `waits` is how its workers wait: 0 adapts, 1 always sleeps, 2 always spins. `thread_name` begins
    the names of their threads, which end when they were idle for `idle_s`; `fair` leaves some for
    each process. `attends` makes what takes calls in the place of workers.
    """

    def __init__(
        self,
        name: str,
        doors: Doors,
        on_error: OnError,
        waits: int,
        most_workers: int,
        thread_name: str = "",
        idle_s: float = IDLE_S,
        fair: bool = True,
        attends: "Callable[[HostServer], Attends] | None" = None,
    ) -> None:
        self.name, self.doors, self.waits = name, doors, waits
        threads = thread_name or f"{name} worker "
        self.workers: Attends
        if attends is not None:
            self.workers = attends(self)
        else:
            self.workers = Workers(threads, on_error, self._has_ended, most_workers, idle_s, fair=fair)
        self.exports: dict[str, HostExport] = {}
        self.bindings: dict[int, ServerBinding] = {}  # by the descriptor of their door
        self._processes: dict[int, ServerBinding] = {}  # by the descriptor of their client's process
        self.ended: Counter[str] = Counter()
        self._past: defaultdict[str, Counter[str]] = defaultdict(Counter)  # of ended bindings, by export
        self._counting = threading.Lock()
        self._paused_until = 0  # the doors do not accept until then
        self._poll = select.epoll()
        self._knocks = Knocks(self._poll)
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._poll.register(self._wake_read, select.EPOLLIN)
        self._todo: SimpleQueue[Callable[[], None]] = SimpleQueue()  # for the dispatcher
        self._hellos: SimpleQueue[Hello | None] = SimpleQueue()
        self._closed = threading.Event()
        self._listening: dict[int, HostExport] = {}
        self._threads = [
            threading.Thread(target=self._dispatch, name=f"{name} dispatcher", daemon=True),
            threading.Thread(target=self._be_clerk, name=f"{name} clerk", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def export(
        self,
        name: str,
        interface: str,
        signatures: tuple[str, ...],
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser | None,
        stubs_for: Callable[[ServerBinding], Sequence[Entry]] | None = None,
    ) -> None:
        """Open a door for an export. Raises `BindingRefused` where its name is taken or unfit."""
        if self._closed.is_set():
            raise CallFailed(f"export {name}: domain {self.name} is closed")
        if name in self.exports:
            raise BindingRefused(f"export {name}: domain {self.name} exports it already; choose another name")
        if segments.lay_out(descriptors).size > segments.MOST_SEGMENT:
            raise BindingRefused(f"export {name}: its A-stacks would be larger than {segments.MOST_SEGMENT:,} bytes")
        export = HostExport(name, interface, signatures, descriptors, clerk, self.doors.open(name), stubs_for)
        self.exports[name] = export
        self._do(lambda: self._listen(export))

    def status(self) -> dict[str, object]:
        """Return what is exported, who is bound, and what has been counted, as JSON can hold it."""
        bindings = [
            {
                "export": one.export.name,
                "client": str(one.sender),
                "bytes": one.bytes,
                "why": processors.why(one.native),
                **{key: value for key, value in one.native.counts().items() if key not in _UNTOLD},
            }
            for one in list(self.bindings.values())
        ]
        return {
            "domain": self.name,
            "process": os.getpid(),
            "exports": {
                name: {"interface": one.interface, "procedures": list(one.signatures)}
                for name, one in sorted(self.exports.items())
            },
            "workers": self.workers.count,
            "bindings": bindings[:MOST_BINDINGS],
            "refusals": dict(self._knocks.refusals),
            "ended": dict(self.ended),
        }

    def totals(self) -> dict[str, Counter[str]]:
        """Return by export the sums of `COUNTED` over all bindings, also those that have ended.

        `bindings` and `busy` are how many bindings there are, and A-stacks that run a procedure.
        """
        found = {name: Counter[str](dict.fromkeys((*COUNTED, "bindings", "busy"), 0)) for name in self.exports}
        with self._counting:
            for name, past in self._past.items():
                found[name].update(past)
            for one in list(self.bindings.values()):
                counts = one.native.counts()
                found[one.export.name].update({"bindings": 1, **{name: counts[name] for name in (*COUNTED, "busy")}})
        return found

    def close_doors(self) -> None:
        """Take all doors away: nobody binds any more; bindings go on."""
        for export in self.exports.values():
            export.door.hide()
        self._do(self._listen_no_more)

    def close(self, grace_s: float = 5.0) -> None:
        """Close all doors and end all bindings; wait for procedures that run, within the grace."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._hellos.put(None)
        self._wake()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(grace_s, 1.0))  # a policy may be stuck
        while not self._todo.empty():  # exports and bindings that were made meanwhile
            self._todo.get()()
        for export in self.exports.values():
            export.door.close()
        for fd, one in list(self.bindings.items()):
            self._remove(fd, one)
        self.workers.close()
        self.workers.join(grace_s)
        self._knocks.close()
        self._poll.close()
        self._wake_read.close()
        self._wake_write.close()

    def forget(self) -> None:
        """Close a forked child's copies of everything; its parent goes on."""
        self._closed.set()
        for export in self.exports.values():
            export.door.forget()
        for one in self.bindings.values():
            one.forget()
        self._knocks.close()
        self._poll.close()
        self._wake_read.close()
        self._wake_write.close()

    # --- the dispatcher's thread -----------------------------------------------------------------

    def _do(self, action: Callable[[], None]) -> None:
        self._todo.put(action)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_write.send(b"w", socket.MSG_DONTWAIT)

    def _dispatch(self) -> None:
        while not self._closed.is_set():
            for fd, event in self._poll.poll(0.05 if self._knocks or self._paused_until else None):
                if fd == self._wake_read.fileno():
                    self._wake_read.recv(4096)
                    while not self._todo.empty():
                        self._todo.get()()
                elif fd in self._listening:
                    self._accept(self._listening[fd])
                elif fd in self._knocks:
                    if (hello := self._knocks.hello(fd)) is not None:
                        self._hellos.put(hello)
                elif fd in self.bindings:
                    self._hear(self.bindings[fd], None, event)
                elif fd in self._processes:
                    self._end(self._processes[fd], "client ended")
            if self._knocks:
                self._knocks.send_away_the_silent()
            if self._paused_until and native.now_ns() > self._paused_until:
                self._paused_until = 0
                for fd in self._listening:
                    self._poll.modify(fd, select.EPOLLIN)

    def _listen(self, export: HostExport) -> None:
        self._listening[export.door.listening.fileno()] = export
        self._poll.register(export.door.listening, select.EPOLLIN)

    def _listen_no_more(self) -> None:
        for fd, export in self._listening.items():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                self._poll.unregister(fd)
            export.door.listening.close()
        self._listening.clear()

    def _accept(self, export: HostExport) -> None:
        try:
            door, _ = export.door.listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors left: who waits goes on waiting
            self._knocks.refusals["no descriptors left"] += 1
            self._paused_until = native.now_ns() + _PAUSE_NS
            for fd in self._listening:
                self._poll.modify(fd, 0)
            return
        self._knocks.admit(door, export)

    def heard(self, binding: ServerBinding, message: DoorMessage | None) -> None:
        """Hand the dispatcher a message of a bound client that another thread has received."""
        if message is None:
            self._do(lambda: self._end(binding, "client ended"))
        else:
            self._do(lambda: self._hear(binding, message, 0))

    def _hear(self, binding: ServerBinding, message: DoorMessage | None, event: int) -> None:
        """Take one message of a bound client: a bell, an out-of-band segment, or its end."""
        try:
            message = messages.receive(binding.door) if message is None else message
            if message is None:
                self._end(binding, "client ended")
            elif message.fields.get("bell") is True:
                self._ring(binding)
            elif self.is_restless(binding):
                self._end(binding, "client sent too much")
            elif "detach" in message.fields:
                binding.detach(message)
                answer(binding.door, {"attached": False, "turn": message.get("turn", int)})
            elif sum(one.bytes for one in self._of_user(binding.sender)) + message.get("size", int) > MOST_BYTES:
                refusal = f"{MOST_BYTES:,} bytes of segments are the most that one user gets"
                answer(binding.door, {"refused": refusal, "turn": message.get("turn", int)})
            else:
                binding.attach(message)
                answer(binding.door, {"attached": True, "turn": message.get("turn", int)})
        except BlockingIOError:
            if event & (select.EPOLLHUP | select.EPOLLERR):
                self._end(binding, "client ended")
        except (CallError, ValueError, OverflowError) as error:
            answer(binding.door, {"refused": str(error)})
            self._end(binding, "client sent nonsense")
        except OSError:
            self._end(binding, "client ended")
        finally:
            if message is not None:
                message.close()

    def _ring(self, binding: ServerBinding) -> None:
        if binding.native.ended:
            self._end(binding, _REASONS.get(binding.native.ended, "ended"))
        elif self.is_restless(binding):
            self._end(binding, "client rang too often")
        else:
            self.workers.attend(binding)
            if binding.on_aborted:
                for index in binding.native.aborted():
                    binding.on_aborted.pop(index, _nothing)()

    def is_restless(self, binding: ServerBinding) -> bool:
        """Return whether a client has sent more in a second than one that calls would."""
        now, calls = native.now_ns(), binding.native.counts()["calls"]
        if now - binding.bells_since_ns > 1_000_000_000 or calls != binding.calls_before:
            binding.bells, binding.bells_since_ns, binding.calls_before = 0, now, calls
        binding.bells += 1
        return binding.bells > _BELLS_A_SECOND

    def _has_ended(self, binding: Served) -> None:
        """Tell the dispatcher to clear away a binding that has ended under a worker."""
        assert isinstance(binding, ServerBinding)
        self._do(lambda: self._end(binding, _REASONS.get(binding.native.ended, "ended")))

    def _end(self, binding: ServerBinding, why: str) -> None:
        fd = binding.door.fileno()
        if self.bindings.get(fd) is not binding:
            return  # it was ended before
        why = _REASONS[2] if binding.native.ended == 2 else why
        with contextlib.suppress(OSError):
            self._poll.unregister(fd)
        if binding.pidfd >= 0:
            with contextlib.suppress(OSError):
                self._poll.unregister(binding.pidfd)
            self._processes.pop(binding.pidfd, None)
        self.ended[why] += 1
        self._remove(fd, binding)

    def _remove(self, fd: int, binding: ServerBinding) -> None:
        with self._counting:
            self.bindings.pop(fd, None)
            counts = binding.native.counts()
            self._past[binding.export.name].update({name: counts[name] for name in COUNTED})
        binding.close()

    # --- the clerk's thread ----------------------------------------------------------------------

    def _be_clerk(self) -> None:
        while (hello := self._hellos.get()) is not None:
            export, door, message = hello
            try:
                self._welcome(export, door, message)
            except Refusal as error:
                self._knocks.refuse(door, error.why, str(error))
            except CallError as error:
                self._knocks.refuse(door, "not a hello", str(error))
            except OSError as error:
                self._knocks.refuse(door, "no room", f"import {export.name}: the server has no room: {error.strerror}")
            finally:
                message.close()

    def _welcome(self, export: HostExport, door: socket.socket, message: DoorMessage) -> None:
        if message.get("lrpc", int) != messages.VERSION:
            raise BadMessage(f"this server speaks version {messages.VERSION} of lrpc's doors; use the same lrpc")
        sender = self.doors.known(message.sender)
        if sender is None:
            raise BindingRefused(f"import {export.name}: Linux did not say who asks")
        if message.get("want", str) == "status":
            self._knocks.settle(door)
            if self.doors.refusal(sender, message.fields) is None:
                answer(door, {**self.status(), **self.doors.card()})
            door.close()
            return
        self._authorise(export, sender, message.fields)
        export.compare(message.get("interface", str), message.get("signatures", list))
        held, mine = f"import {export.name}: user {sender.uid} ", self._of_user(sender)
        if len(mine) >= MOST_BINDINGS:
            raise Refusal("too many bindings", f"{held}has {MOST_BINDINGS} bindings, the most allowed")
        if sum(one.bytes for one in mine) + segments.lay_out(export.descriptors).size > MOST_BYTES:
            raise Refusal("too many bytes", f"{held}would have more than {MOST_BYTES:,} bytes of segments")
        notify = message.descriptors[0] if message.descriptors else None
        if notify is not None and not _is_unix_socket(notify):
            raise BadMessage("a descriptor that is no socket")
        try:
            binding = ServerBinding(export, sender, door, notify, self.waits, self.doors.users is None)
        except BindingRefused as error:
            raise Refusal("no room", f"import {export.name}: in the server, {error}") from None
        self._knocks.settle(door)
        try:
            messages.send(door, {"bound": binding.layout.as_fields(), **self.doors.card()}, [binding.segment])
        except OSError:  # the client has gone already
            binding.close()
            return
        self._do(lambda: self._add(binding))

    def _authorise(self, export: HostExport, sender: Sender, fields: Mapping[str, object]) -> None:
        """Ask the clerk; where it has no policy, or users are listed, ask the doors."""
        client = f"process {sender.pid}" if sender.pid else "a process"
        request = ImportRequest(client, "this computer", export.name, sender.uid, sender.pid or None)
        reason = self.doors.refusal(sender, fields)
        if export.clerk is not None and (reason is None or self.doors.users is None):
            try:
                reason = export.clerk.authorise(request)
            except Exception as error:
                reason = f"its policy raised {type(error).__name__}: {error}"
        if reason is not None:
            raise Refusal("the clerk refused", f"import {export.name}: the clerk refuses: {reason}")

    def _add(self, binding: ServerBinding) -> None:
        fd = binding.door.fileno()
        self.bindings[fd] = binding
        if not self.workers.listens:
            self._poll.register(fd, select.EPOLLIN)
        if binding.pidfd >= 0:
            self._processes[binding.pidfd] = binding
            self._poll.register(binding.pidfd, select.EPOLLIN)
        self.workers.attend(binding)

    def _of_user(self, sender: Sender) -> list[ServerBinding]:
        return [one for one in list(self.bindings.values()) if one.sender.uid == sender.uid]


def _nothing() -> None:
    """Do nothing: nobody wants to know."""


def _is_unix_socket(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as found:
            return found.family == socket.AF_UNIX
    except OSError:
        return False
