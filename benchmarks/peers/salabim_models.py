"""The models of `simpy_models`, `remote` and `rings` with the fewest events, for salabim; in ns."""

import time
from collections.abc import Callable, Iterator, Sequence
from heapq import heapreplace

from benchmarks.peers.peer import Exchange, Finished


def calls(clients: int, calls: int, stretches: Sequence[int]) -> Finished:
    """Run clients that each make `calls` calls: as `simpy_models.fewest_model` does."""
    if clients == 1:
        stretches = [sum(stretches)]
    legs = list(zip(stretches[::2], stretches[1::2], strict=False)) if clients > 1 else []
    rest = sum(stretches) - sum(map(sum, legs))
    free = [0]

    def client(hold: Callable[[int], object]) -> Iterator[object]:
        due = 0
        for _ in range(calls):
            for outside, under_lock in legs:
                yield hold(due + outside)
                due = free[0] = max(due + outside, free[0]) + under_lock
            due += rest
            if not legs:
                yield hold(due)
        yield hold(due)

    return _run([client] * clients)


def remote(clients: int, calls: int, exchange: Exchange) -> Finished:
    """Run clients of another machine: as `remote.run_fewest` does."""
    here, there = [0] * exchange.processors, [0] * exchange.processors
    ends = [0]

    def client(hold: Callable[[int], object]) -> Iterator[object]:
        now = received = 0
        for _ in range(calls):
            leaves = max(now, here[0]) + received + exchange.client_ns
            heapreplace(here, leaves)
            now = leaves + exchange.delay_ns
            yield hold(now)
            leaves = max(now, there[0]) + exchange.server_ns
            heapreplace(there, leaves)
            now = leaves + exchange.delay_ns
            yield hold(now)
            received = exchange.receive_ns
        ended = max(now, here[0]) + exchange.receive_ns
        heapreplace(here, ended)
        ends[0] = max(ends[0], ended)

    found = _run([client] * clients)
    return Finished(ends[0], found.seconds)


def ring(machines: int, rounds: int, own: Sequence[int], exchange: Exchange) -> Finished:
    """Run machines in a ring: as `rings.run_fewest` does; `own` are a round's own calls, in ns."""

    def client(hold: Callable[[int], object]) -> Iterator[object]:
        now = received = 0
        for _ in range(rounds):
            now += received
            for ns in own:
                now += ns
                yield hold(now)
            now += exchange.client_ns + exchange.delay_ns
            yield hold(now)
            now += exchange.server_ns + exchange.delay_ns
            yield hold(now)
            received = exchange.receive_ns
        yield hold(now + received)

    return _run([client] * machines)


def _run(bodies: Sequence[Callable[[Callable[[int], object]], Iterator[object]]]) -> Finished:
    """Run a component for each body, which yields what `hold` until a time returns."""
    import salabim

    class Client(salabim.Component):  # type: ignore[misc]  # it has no types
        def setup(self, body: Callable[[Callable[[int], object]], Iterator[object]]) -> None:
            self.body = body

        def process(self) -> Iterator[object]:
            yield from self.body(lambda until: self.hold(till=until))

    environment = salabim.Environment(trace=False, yieldless=False)
    for body in bodies:
        Client(body=body, env=environment)
    began = time.process_time()
    environment.run()
    return Finished(round(environment.now()), time.process_time() - began)
