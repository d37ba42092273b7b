"""A cluster of your own servers and programs, described in own_classes.toml.

Run it from here, or with `lrpc run`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import lrpc


class Shop(lrpc.Interface):
    """What a shop offers."""

    def buy(self, article: Annotated[str, lrpc.UpTo(32)], count: lrpc.UInt32) -> lrpc.UInt32:
        """Buy some of an article; return how many were sold."""
        raise NotImplementedError


@dataclass
class ShopServer(Shop, lrpc.Server):
    """A shop. Its parameters, which the scenario sets, are the fields of the dataclass."""

    stock: int = 100
    sale_us: float = 200.0

    def __post_init__(self) -> None:
        """Open with full shelves."""
        self._left: dict[str, int] = {}
        self._sold = 0

    def buy(self, article: str, count: int) -> int:
        """Sell what is there; each sale takes `sale_us` of computation."""
        self.domain.compute(us=self.sale_us)
        left = self._left.get(article, self.stock)
        sold = min(left, count)
        self._left[article] = left - sold
        self._sold += sold
        return sold

    def findings(self) -> lrpc.Findings:
        """Return what the record should say about this server."""
        return {"sold": self._sold}


@dataclass
class Customer(lrpc.Program):
    """A customer who buys at random, with pauses. It imports the shop as `shop`."""

    visits: int = 10
    pause_us: float = 500.0

    def __post_init__(self) -> None:
        """Begin with an empty bag."""
        self._bought = 0

    @property
    def imports(self) -> Collection[str]:
        """Return the imports that it needs, by the names that the scenario gives them."""
        return ("shop",)

    @property
    def planned_calls(self) -> int:
        """Return about how many calls it makes, for the progress bar."""
        return self.visits

    def run(self, domain: lrpc.Domain) -> None:
        """Visit the shop again and again: the body of one thread."""
        shop = domain.bind(Shop, "shop")
        chance = domain.random("what to buy")  # the same numbers for the same seed, wherever it runs
        for _ in range(self.visits):
            self._bought += shop.buy(("tea", "milk", "bread")[chance.below(3)], 1 + chance.below(4))
            domain.sleep(us=self.pause_us)

    def findings(self) -> lrpc.Findings:
        """Return what the record should say about this program."""
        return {"bought": self._bought}


REGISTRY = lrpc.Registry(servers={"shop": ShopServer}, programs={"customer": Customer})


def main() -> None:
    """Run the cluster in this process and print what came of it."""
    cluster = lrpc.read_cluster(Path(__file__).with_suffix(".toml"), registry=REGISTRY)
    result = lrpc.run(cluster, seed=1)
    for machine, found in result.findings.items():
        for resident, values in found.items():
            print(f"{machine}: {resident}: {dict(values)}")
    print(f"{result.counts['cross_machine']} of {cluster.planned_calls} calls crossed machines")
    for cell in result.cells:
        print(f"{cell.column}: {cell.ours:.1f} {cell.unit}")


if __name__ == "__main__":
    main()
