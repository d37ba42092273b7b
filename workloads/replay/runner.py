"""Runs the steps of spans in one domain, straight from the tape that holds them."""

from collections.abc import Callable, Mapping

from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.threads import Thread
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.replay.tape import COMPUTE, DO, END, FORK_JOINED, JOIN, WAIT

Perform = Callable[[int], int]  # calls a pod, which performs the span with this index


class SpanRunner:
    """The interpreter of spans' steps in one domain."""

    def __init__(
        self, domain: ProtectionDomain, kernel: Kernel, activity: Activity, pods: Mapping[str, Perform]
    ) -> None:
        """Prepare to run the spans of `activity`; the domain has bound `pods`."""
        self.domain = domain
        self.kernel = kernel
        self.activity = activity
        # Spans performed, except first spans of traces: as the client's side of a call, and as
        # calls to what is not traced.
        self.client_sides = self.outside = 0
        self._pods = pods

    def run_span(self, span: int) -> None:
        """Run the steps of a span, or make its call if it is the client's side of one."""
        server = self.activity.calls.get(span)
        if server is not None:
            self._call(server)
        else:
            self._run(self.activity.steps.place(span))

    def _run(self, at: int) -> None:
        """Run the steps from a place on the tape to their end."""
        forked: list[Thread] = []
        tape = self.activity.steps
        codes, numbers = tape.codes, tape.numbers
        while (code := codes[at]) != END:
            number = numbers[at]
            at += 1
            if code == COMPUTE:
                self.kernel.compute(number)
            elif code == DO:
                self._do(number)
            elif code == WAIT:
                self.kernel.sleep(number)
            elif code == JOIN:
                for thread in forked:
                    thread.join()
                forked.clear()
            else:
                thread = self._fork(number, at)
                if code == FORK_JOINED:
                    forked.append(thread)
                at = tape.behind(at)

    def _do(self, span: int) -> None:
        """Call the pod that performs the span: its server's if the span is a call's client side."""
        if span in self.activity.outside:
            self.outside += 1
            self._run(self.activity.steps.place(span))
            return
        server = self.activity.calls.get(span)
        if server is not None:
            self.client_sides += 1
        self._call(span if server is None else server)

    def _call(self, span: int) -> None:
        pod = self.activity.pods[span]
        extra_ns = self.activity.extra_ns.get(span)
        if extra_ns:
            self.kernel.sleep(extra_ns)
        self._pods[pod](span)

    def _fork(self, after_ns: int, at: int) -> Thread:
        """Start a thread that runs the steps from a place on the tape, so long from now."""
        kernel = self.kernel
        name = kernel.name_for(self.domain)
        return kernel.spawn(self.domain, lambda: self._run(at), name, at_ns=kernel.now_ns + after_ns)
