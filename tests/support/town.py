"""A user's own servers and programs, in files as a user would have them: a town with a shop."""

from pathlib import Path
from typing import Final

CODE: Final = """
from dataclasses import dataclass

import lrpc


class Shop(lrpc.Interface):
    def buy(self, n: lrpc.Int32) -> lrpc.Int32: ...


@dataclass
class ShopServer(Shop, lrpc.Server):
    sells: int = 1000

    def buy(self, n):
        print("sold", n)
        return self.sold(n)

    def sold(self, n):
        if n == self.sells:
            raise ValueError(f"cannot sell {n}")
        return n * 2


@dataclass
class Buyer(lrpc.Program):
    rounds: int = 3

    def run(self, domain):
        shop = lrpc.bind(domain, Shop, "shop")
        for n in range(self.rounds):
            print("bought", shop.buy(n))
            domain.sleep(us=10)


TOWN = lrpc.Registry({"shop": ShopServer}, {"buyer": Buyer})
"""
TABLES: Final = """
name = "town"
links = {{ delay_us = 60.0 }}

[machines.home]
[machines.market]

[domains.shop]
machine = "{shop}"
exports.shop = {{ server = "shop", parameters = {{ sells = {sells} }} }}

[domains.buyer]
machine = "home"
imports = {{ shop = "shop" }}
threads = [{{ program = "buyer" }}]
"""


def town(folder: Path, *, shop: str = "market", sells: int = 1000) -> tuple[Path, str]:
    """Write a town whose shop is on a machine and fails at a number; return it and its registry."""
    scenario, code = folder / "town.toml", folder / "town.py"
    scenario.write_text(TABLES.format(shop=shop, sells=sells))
    code.write_text(CODE)
    return scenario, f"{code}:TOWN"
