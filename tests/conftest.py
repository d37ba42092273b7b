"""Which tests run, with how many examples and where: `long` ones by a seeded share, all that need Ray on one worker.

`python -m pytest` runs every test that it is given. `make test` leaves the long ones out (`--long-share 0`),
`make test-ci` takes a share of them that is drawn anew each time, and `make test-all` takes all of them.

Hypothesis' examples are the same in each `make test`, so that a test which fails there fails because something was
changed, and fails again; more of them would find nothing new the next time. The larger profiles draw others each time.
The seed that the header shows repeats both.

Tests that need Ray stand in classes `TestOnRay`. They come first, one after the other, and those that need no more of
it than actors share one start of it, which takes longer than they do.
"""

import hashlib
import random
from contextlib import ExitStack
from typing import Any, Final

import pytest
from hypothesis import settings

from tests.support.properties import USUAL

# No deadlines: how long an example takes depends on what else the computer does.
ALIKE = settings(deadline=None, database=None, print_blob=True)
settings.register_profile("default", ALIKE, max_examples=USUAL // 2, derandomize=True)
settings.register_profile("ci", ALIKE, max_examples=2 * USUAL, derandomize=False)
settings.register_profile("all", ALIKE, max_examples=10 * USUAL, derandomize=False)
settings.load_profile("default")

ON_RAY: Final = "::TestOnRay::"
SHARED_RAY: Final = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare what the tiers differ in."""
    group = parser.getgroup("lrpc")
    group.addoption("--long-share", type=float, default=1.0, help="The share of `long` tests to run, from 0 to 1.")
    group.addoption("--seed", type=int, help="Seed of that share, and of Hypothesis' examples unless they are fixed.")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw a seed unless one is given; workers have it, and Hypothesis, from here."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(10**6)
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(config.option.seed)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what repeats this run."""
    return f"lrpc: --long-share {config.option.long_share:g} --seed {config.option.seed}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests on Ray first, and skip the long ones that the seed does not choose."""
    items.sort(key=lambda item: ON_RAY not in item.nodeid)
    for item in items:
        if ON_RAY in item.nodeid:
            item.add_marker("ray")
        if item.get_closest_marker("long") and drawn(config.option.seed, item.nodeid) >= config.option.long_share:
            item.add_marker(pytest.mark.skip(reason="long"))


def drawn(seed: int, name: str) -> float:
    """Return a number from 0 to below 1 that this seed gives this test, on whatever computer."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=6).digest()) / 2**48


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have a worker run all tests on Ray, and else all tests of a file, whose fixtures are then made once."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduling = LoadFileScheduling(config, log)
    file_of = scheduling._split_scope
    scheduling._split_scope = lambda nodeid: "on Ray" if ON_RAY in nodeid else file_of(nodeid)
    return scheduling


@pytest.fixture
def on_ray(request: pytest.FixtureRequest) -> None:
    """Ray with as many processors as any test uses; it ends behind the last of all tests on Ray."""
    from lrpc.cluster.session import ray_session

    if SHARED_RAY not in request.config.stash:
        with ExitStack() as stack:
            stack.enter_context(ray_session(None, 8))
            request.config.stash[SHARED_RAY] = stack.pop_all()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Leave the tests that follow without Ray."""
    if SHARED_RAY in item.config.stash and (nextitem is None or ON_RAY not in nextitem.nodeid):
        with item.config.stash[SHARED_RAY]:
            del item.config.stash[SHARED_RAY]
