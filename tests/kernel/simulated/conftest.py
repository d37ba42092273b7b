"""The ways of transfer, processors and caching with which each test of termination runs."""

import pytest

from lrpc.domains.domain import Transfer
from tests.support.houses import PROCESSORS, TRANSFERS, House, house_of


@pytest.fixture(params=TRANSFERS)
def transfer(request: pytest.FixtureRequest) -> Transfer:
    made: Transfer = request.param
    return made


@pytest.fixture(params=PROCESSORS, ids=lambda count: f"{count} processors")
def processors(request: pytest.FixtureRequest) -> int:
    made: int = request.param
    return made


@pytest.fixture(params=[False, True], ids=["", "caching"])
def house(request: pytest.FixtureRequest, transfer: Transfer, processors: int) -> House:
    return house_of(transfer, processors, caching=request.param)
