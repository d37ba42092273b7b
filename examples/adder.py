"""A server to be called by other processes of this computer: see docs/use-it.md.

lrpc serve examples/adder.py:AdderServer --name adder
lrpc call adder.add 1 2
"""

import lrpc


class Adder(lrpc.Interface):
    """Sums."""

    def add(self, a: lrpc.Int32, b: lrpc.Int32) -> lrpc.Int32:
        """Return a sum."""


class AdderServer(Adder):
    """Adds."""

    def add(self, a: int, b: int) -> int:
        """Return a sum."""
        return a + b


def main() -> None:
    """Call it in this process, to show that it works."""
    with lrpc.this_machine("example") as here:
        here.export(Adder, AdderServer(), "example-adder")
        print(f"1 + 2 = {here.bind(Adder, 'example-adder').add(1, 2)}")


if __name__ == "__main__":
    main()
