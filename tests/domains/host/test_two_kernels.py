"""One definition and server class, unchanged, on both kernels: results and errors are the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.domain import Transfer
from lrpc.domains.host.here import this_machine
from tests.support.simulated import TRANSFERS


class OutOfStock(Exception):
    """Raised where there is no more of it."""


class Odd(Exception):
    """An exception that cannot be made from a text alone."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two)


class Store(lrpc.Interface):
    def count(self, item: str) -> lrpc.UInt32: ...

    @lrpc.procedure(raises=(OutOfStock, Odd))
    def buy(self, item: str, number: lrpc.UInt32) -> tuple[lrpc.UInt32, str]: ...

    def refill(self, item: lrpc.Reference[lrpc.UInt32]) -> None: ...

    def name(self, item: lrpc.Mutable[str], times: lrpc.Mutable[lrpc.UInt32]) -> str: ...


class StoreServer(Store):
    def __init__(self) -> None:
        self.stock = {"tea": 5}

    def count(self, item: str) -> int:
        return self.stock[item]

    def buy(self, item: str, number: int) -> tuple[int, str]:
        if item == "odd":
            raise Odd("one", "two")
        if self.stock[item] < number:
            raise OutOfStock(f"only {self.stock[item]} {item}")
        self.stock[item] -= number
        return self.stock[item], item

    def refill(self, item: lrpc.Reference[int]) -> None:
        item.value *= 2

    def name(self, item: lrpc.Mutable[str], times: lrpc.Mutable[int]) -> str:
        return item.value * times.value


def visit(store: Store) -> list[object]:
    """Call a store in all ways; return what came of each."""
    found: list[object] = [store.count("tea"), store.buy("tea", number=2)]
    reference = lrpc.Reference(21)
    store.refill(reference)
    found.append(reference.value)
    found.append(store.name(lrpc.Mutable("tea"), times=lrpc.Mutable(2)))
    wrong: list[Callable[[], object]] = [
        lambda: store.buy("tea", 9),
        lambda: store.buy("odd", 1),
        lambda: store.count("coffee"),
        lambda: store.buy("tea", -1),
    ]
    for call in wrong:
        with pytest.raises(Exception, match=r".") as error:
            call()
        found.append((type(error.value), str(error.value)))
    return found


def simulated(transfer: Transfer) -> list[object]:
    machine = lrpc.Machine("m", cost_model="cvax-firefly")
    machine.export(Store, StoreServer(), name="store")
    store = machine.bind(Store, "store", transfer=transfer)
    found: list[object] = []
    machine.spawn(lambda: found.extend(visit(store)))
    machine.run()
    return found


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_server_gives_the_same_on_a_simulated_machine_and_on_this_computer(
    tmp_path: Path, transfer: Transfer
) -> None:
    with this_machine(folder=tmp_path) as serving, this_machine(folder=tmp_path) as here:
        serving.export(Store, StoreServer(), "store")
        found = visit(here.bind(Store, "store"))
    assert found == simulated(transfer)
    assert found[:4] == [5, (3, "tea"), 42, "teatea"]
    assert found[4:6] == [(OutOfStock, "only 3 tea"), (lrpc.ProcedureRaised, "Odd: ('one', 'two')")]


class Awaited(lrpc.Interface):
    async def add(self, a: lrpc.Int32) -> lrpc.Int32: ...


class AwaitedServer(Awaited):
    async def add(self, a: int) -> int:
        return a


def test_awaited_procedures_are_refused_by_a_simulated_machine() -> None:
    machine = lrpc.Machine("m", cost_model="cvax-firefly")
    with pytest.raises(
        lrpc.Refused, match=r"export one: Awaited\.add is defined by `async def`; .* define it by `def`"
    ):
        machine.export(Awaited, AwaitedServer(), name="one")
    with pytest.raises(lrpc.Refused, match=r"import one: Awaited\.add is defined by `async def`"):
        machine.bind(Awaited, "one")
