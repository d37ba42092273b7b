"""The class that implements `lrpc.domains.domain.Domain` for the host kernel: this process."""

import asyncio
import atexit
import contextlib
import functools
import inspect
import os
import signal
import threading
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Exhausted, I, Policy, Transfer
from lrpc.domains.host.generated import client_stub, server_stub
from lrpc.domains.host.here import Waits, waits_number
from lrpc.domains.host.stubs import MOST_ERROR, AwaitedCalls, AwaitedStub, GrowingStub, HostStub, as_reply
from lrpc.domains.host.timeline import LiveTimeline
from lrpc.domains.interface import Interface
from lrpc.kernel.descriptors import Authoriser, Convention, Entry, ProcedureDescriptor
from lrpc.kernel.errors import CallFailed, Refused
from lrpc.kernel.host import native, processors
from lrpc.kernel.host.bindings import ServerBinding
from lrpc.kernel.host.client import ClientBinding
from lrpc.kernel.host.doors import doors_at
from lrpc.kernel.host.server import COUNTED, HostServer
from lrpc.kernel.random import Stream

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

_LOOK_S: Final = 0.5  # after which a server looks for a signal that came just before it began to wait
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_open: Final["weakref.WeakSet[HostDomain]"] = weakref.WeakSet()


class HostDomain:
    """This process as a protection domain: it exports servers, and binds to those of others.

    Made by `lrpc.this_machine()`. Use it in a `with` block, or call `close`.
    """

    convention: Convention = "argument pointer"

    def __init__(self, name: str | None, folder: Path | str | None, waits: Waits, workers: int, seed: int) -> None:
        if not 1 <= workers <= 10_000:
            raise Refused(f"workers={workers}: allowed are 1 to 10,000")
        self.name = name or f"process {os.getpid()}"
        self.seed = seed
        self._waits, self._most_workers = waits_number(waits), workers
        self._began_ns = native.now_ns()
        self._doors = doors_at(folder)
        self._server: HostServer | None = None
        self._bindings: weakref.WeakSet[ClientBinding] = weakref.WeakSet()
        self._loop: _EventLoop | None = None
        self._lock = threading.Lock()
        self._counting = threading.RLock()  # a binding may end in the midst of it
        self._past: defaultdict[str, Counter[str]] = defaultdict(Counter)  # of bindings that have ended
        self._closed = threading.Event()
        self._timeline: LiveTimeline | None = None
        self._threads = 0
        self._thread_names = threading.local()
        processors.choose_spinning()
        _open.add(self)

    def __repr__(self) -> str:
        return f"<domain {self.name} of this computer, doors in {self._doors.where}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- binding ---------------------------------------------------------------------------------

    def bind(self, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait") -> I:
        """Import an interface; return an object whose methods are client stubs of its procedures.

        `name` is the name of an export of a process on this computer. Procedures that the interface
        defines by `async def` are awaited. Where all A-stacks are in use, calls wait for one, or
        take one of a later region with `exhausted="grow"`, as far as the server allows.

        Raises `BindingRefused` where nobody exports that name, its clerk refuses, or it has another
        interface; `CallFailed` where this domain is closed; `Refused` for what this kernel does not
        have: another `transfer`, or awaited procedures that grow.
        """
        awaited = any(one.awaited for one in interface.procedures)
        if transfer != "lrpc" or (awaited and exhausted != "wait"):
            raise Refused(f'bind {name}: between processes there is only "lrpc", and awaited procedures only "wait"')
        made = interface.__new__(interface)
        definition = interface.interface.__name__
        binding = self._import(interface, name, awaited)
        loops: dict[object, AwaitedCalls] = {}
        regions: list[list[HostStub]] = []

        def more() -> list[HostStub]:
            return self._region(self._import(interface, name, False), interface)

        if exhausted == "grow":
            regions.append(self._region(binding, interface))
        for number, one in enumerate(interface.procedures):
            stub: Callable[..., object]
            if exhausted == "grow":
                stub = GrowingStub(number, regions, more)
            elif one.awaited:
                stub = AwaitedStub(binding, one, number, loops)
            else:
                stub = client_stub(binding, one, number)
            if self._timeline is not None:
                stub = self._timeline.stub(f"{definition}.{one.name}", stub)
            vars(made)[one.name] = stub
        return made

    def _import(self, interface: type[Interface], name: str, notified: bool) -> ClientBinding:
        self._require_open()
        procedures = interface.procedures
        signatures = tuple(one.signature for one in procedures)
        definition = interface.interface.__name__
        binding = ClientBinding(self._doors, name, definition, signatures, self._waits, notified)
        largest = max(MOST_ERROR, *(max(one.arguments.largest, one.results.largest) for one in procedures))
        binding.largest = min(binding.largest, largest)
        binding.on_close = self._remember
        self._bindings.add(binding)
        return binding

    def _remember(self, name: str, counts: dict[str, int]) -> None:
        with self._counting:
            self._past[name].update({one: counts[one] for one in COUNTED})

    def _region(self, binding: ClientBinding, interface: type[Interface]) -> list[HostStub]:
        return [HostStub(binding, one, number) for number, one in enumerate(interface.procedures)]

    def export(self, interface: type[Interface], server: object, name: str, policy: Policy | None = None) -> None:
        """Export a server of this process under a name, and set `server.domain` to this domain.

        Its procedures are called on the threads of workers, several at a time; those written with
        `async def` run in one event loop. Processes of the same user may import it. With a `policy`
        it alone decides: it returns None to accept, or the reason to refuse.

        Raises `BindingRefused` where the server lacks a procedure of the interface, or the name is
        taken or unfit; `CallFailed` where this domain is closed.
        """
        self._require_open()
        exporting = _Exporting(self, interface, policy is not None)
        Clerk(policy).export(exporting, interface, self._threaded(server, interface), name)
        if hasattr(server, "__dict__"):
            vars(server)["domain"] = self

    def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve calls until SIGINT, SIGTERM, SIGHUP or `close`; then close the domain.

        Calls are served from the moment of their export: this only waits. Outside the main thread,
        signals are left alone, as are those that the process ignores. `ready` is called once a
        signal would end the domain in order.
        """
        before: dict[signal.Signals, object] = {}

        def stop(number: int, frame: FrameType | None) -> None:
            raise _Stopped

        try:
            if threading.current_thread() is threading.main_thread():
                ends = (one for one in _ENDS if signal.getsignal(one) is not signal.SIG_IGN)
                before = {one: signal.signal(one, stop) for one in ends}
            ready()
            while not self._closed.wait(_LOOK_S):
                pass
        except _Stopped:
            pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # as `signal` returned it
            self.close()

    def close(self) -> None:
        """Close all doors and end all bindings; procedures that run have five seconds to return."""
        self._closed.set()
        self._shut()

    def quit(self) -> None:
        """Close all doors, at the end of a program that has not done so; nothing is waited for."""
        self._closed.set()
        if self._server is not None:
            self._server.close(0.0)
        self._doors.close()

    def _shut(self) -> None:
        with self._lock:
            if self._server is not None:
                self._server.close()
            for binding in list(self._bindings):
                binding.close()
            if self._loop is not None:
                self._loop.stop()
                self._loop = None
            self._doors.close()
            _open.discard(self)

    @property
    def doors(self) -> str:
        """Return where its doors are, as messages say it: a folder, or users of abstract doors."""
        return self._doors.where

    def status(self) -> dict[str, object]:
        """Return what is exported and who is bound: counts of calls, spins, sleeps and the like."""
        return {"domain": self.name, "exports": {}} if self._server is None else self._server.status()

    def totals(self) -> dict[str, Counter[str]]:
        """Return by name what bindings have counted, also those that have ended.

        The counts are `calls`, waits that `spun` or `slept`, of workers for calls or of callers for
        results, and `aborted` calls; and how many `bindings` there are, and A-stacks `busy` with a
        call. Names are those of exports, and of imports where this domain does not export the same.
        """
        found = self.served()
        exported = set(found)
        with self._counting:
            imports = {name: Counter(past) for name, past in self._past.items()}
        for binding in list(self._bindings):
            counts = binding.native.counts()
            if binding.on_close is not None:  # else it is counted above
                own = {
                    **{one: counts[one] for one in COUNTED},
                    "bindings": 1,
                    "busy": counts["astacks"] - counts["free"],
                }
                imports.setdefault(binding.name, Counter()).update(own)
        blank = Counter(dict.fromkeys((*COUNTED, "bindings", "busy"), 0))
        for name, counted in imports.items():
            if name not in exported:
                found[name] = blank.copy()
                found[name].update(counted)
        return found

    def served(self) -> dict[str, Counter[str]]:
        """Return by export what its bindings have counted: see `totals`."""
        return {} if self._server is None else self._server.totals()

    def instrument(self, meter: "Meter | None" = None) -> None:
        """Report this domain's totals as OpenTelemetry metrics, by the global meter by default.

        Raises `Refused` where OpenTelemetry is not installed.
        """
        from lrpc.domains.host.metrics import instrument

        instrument(self, meter)

    def record(self, most: int = 100_000) -> LiveTimeline:
        """Record the procedures and calls of what is exported and bound from now on.

        `most` bounds the slices that are kept: the first ones. `lrpc serve --timeline` writes them.
        """
        if self._timeline is None:
            self._timeline = LiveTimeline(most)
        return self._timeline

    @property
    def timeline(self) -> LiveTimeline | None:
        """Return what was recorded so far; None where nothing is."""
        return self._timeline

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise CallFailed(f"domain {self.name} is closed")

    def _threaded(self, server: object, interface: type[Interface]) -> object:
        """Return the server with its coroutine functions run in the domain's event loop."""
        bodies = {one.name: getattr(server, one.name, None) for one in interface.procedures}
        if not any(inspect.iscoroutinefunction(body) for body in bodies.values()):
            return server
        return _Threaded(server, self, bodies)

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop in which procedures written with `async def` run."""
        with self._lock:
            if self._loop is None:
                self._loop = _EventLoop(self.name)
            return self._loop.loop

    def server(self) -> HostServer:
        """Return the server's side of this domain, begun when it is first needed."""
        with self._lock:
            if self._server is None:
                self._server = HostServer(self.name, self._doors, as_reply, self._waits, self._most_workers)
            return self._server

    def forget(self) -> None:
        """Give up everything in a forked child; the parent goes on."""
        self._lock, self._counting = threading.Lock(), threading.RLock()
        self._closed.set()
        for binding in list(self._bindings):
            binding.forget()
        if self._server is not None:
            self._server.forget()
        self._doors.forget()

    # --- time and threads ------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Return the time since this domain was made, in nanoseconds."""
        return native.now_ns() - self._began_ns

    @property
    def now_us(self) -> float:
        """Return the time since this domain was made, in microseconds."""
        return self.now_ns / 1000

    def compute(self, us: float) -> None:
        """Occupy a processor for `us` microseconds of processor time."""
        until = time.thread_time_ns() + int(us * 1000)
        while time.thread_time_ns() < until:
            pass

    def sleep(self, us: float) -> None:
        """Make the running thread wait for `us` microseconds without a processor."""
        time.sleep(us / 1e6)

    def system_call(self, us: float = 0.0) -> None:
        """Trap into the system's kernel, and occupy a processor for `us` microseconds more."""
        os.getppid()
        self.compute(us)

    def spawn(self, body: Callable[[], None], name: str = "") -> threading.Thread:
        """Start a thread of this domain that runs `body`. Raises `CallFailed` once it is closed."""
        self._require_open()
        thread = threading.Thread(target=body, name=name or None, daemon=True)
        thread.start()
        return thread

    def random(self, purpose: str) -> Stream:
        """Return a new stream of random numbers for `purpose`, which belongs to the running thread.

        Asked again for the same purpose, it returns the same numbers from their beginning.
        """
        return Stream(self.seed, self.name, f"{threading.current_thread().name} {purpose}")


class _Stopped(BaseException):
    """A signal tells a server to end."""


class _Exporting:
    """A host domain, as a clerk that exports one interface from it sees it."""

    convention: Convention = "argument pointer"

    def __init__(self, domain: HostDomain, interface: type[Interface], asks: bool) -> None:
        self._domain, self._interface, self._asks = domain, interface, asks

    def register(
        self,
        name: str,
        interface: str,
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        """Register an export with the kernel."""
        procedures = self._interface.procedures
        signatures = tuple(one.signature for one in procedures)
        faster = tuple(
            replace(one, entry=server_stub(procedure, getattr(server, one.name), one.entry))
            for one, procedure in zip(descriptors, procedures, strict=True)
        )
        timeline, stubs_for = self._domain.timeline, None
        if timeline is not None:
            names, entries = [one.name for one in faster], [one.entry for one in faster]

            def stubs_for(binding: ServerBinding) -> list[Entry]:
                return timeline.entries(str(binding.sender), interface, names, entries)

        self._domain.server().export(name, interface, signatures, faster, clerk if self._asks else None, stubs_for)


class _EventLoop:
    """An event loop in a thread of its own, for procedures written with `async def`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"{name} event loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # its caller has them
                self.loop.run_until_complete(task)
        self.loop.close()

    def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


class _Threaded:
    """A server some of whose procedures are coroutine functions, as workers call it."""

    def __init__(self, server: object, domain: HostDomain, bodies: dict[str, object]) -> None:
        def run(body: Callable[..., object], *values: object) -> object:
            return asyncio.run_coroutine_threadsafe(body(*values), domain.event_loop()).result()  # type: ignore[arg-type]

        for name, body in bodies.items():
            if inspect.iscoroutinefunction(body):
                vars(self)[name] = functools.partial(run, body)
            elif body is not None:
                vars(self)[name] = body


def _forget_all() -> None:
    for domain in list(_open):
        domain.forget()
    _open.clear()


def _quit_all() -> None:
    for domain in list(_open):
        domain.quit()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_quit_all)
