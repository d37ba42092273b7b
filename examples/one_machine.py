"""One simulated machine: a server domain, two client domains, and how long each call takes."""

import lrpc


class Counter(lrpc.Interface):
    """The definition: every procedure's parameters and result have a type that stubs can carry."""

    def add(self, amount: lrpc.Int32) -> lrpc.Int32:
        """Add to the counter and return its value."""
        raise NotImplementedError

    def reset(self) -> None:
        """Set the counter to zero."""
        raise NotImplementedError


class CounterServer(Counter):
    """The server: it runs in a protection domain of its own, `self.domain`."""

    domain: lrpc.Domain

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> int:
        """Add to the counter, which takes 20 us of computation."""
        self.domain.compute(us=20)
        self.value += amount
        return self.value

    def reset(self) -> None:
        """Set the counter to zero."""
        self.value = 0


def main() -> None:
    """Run two clients on a C-VAX Firefly with two processors, and print what their calls took."""
    machine = lrpc.Machine("firefly", cost_model="cvax-firefly", processors=2)
    machine.export(Counter, CounterServer(), name="counter")

    def client(name: str) -> None:
        counter = machine.bind(Counter, "counter", domain=name)
        for _ in range(3):
            since = machine.now_us
            value = counter.add(1)
            print(f"{name}: the counter is {value} after a call of {machine.now_us - since:.1f} us")

    for name in ("alice", "bob"):
        machine.spawn(lambda name=name: client(name), domain=name)  # type: ignore[misc]
    machine.run()
    print(f"at {machine.now_us:.1f} us nothing is left to do")


if __name__ == "__main__":
    main()
