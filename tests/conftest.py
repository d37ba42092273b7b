"""Chooses the tests that run, their number of examples, and their worker.

`python -m pytest` runs every test that it is given. `make test` leaves the long ones out
(`--long-share 0`), `make test-ci` takes a share of them that is drawn anew each time, and
`make test-all` takes all of them.

Hypothesis' examples are the same in each `make test`, and in each `make test-ci`. A test that fails
there fails because the code was changed, and fails again. `make test-all` draws other examples each
time. The seed in the header repeats both these and the share.

Tests that need Ray stand in classes `TestOnRay`. They run first, one after the other, on one
worker. Those that need only actors share one start of Ray, which takes longer than they do.
"""

import hashlib
import importlib.util
import os
import random
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from lrpc.kernel.simulated.kernel import FRAMES_PER_CALL, NESTED_CALLS
from tests.support.properties import USUAL

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before numpy is imported

# No deadlines: how long an example takes, or its drawing, depends on what else the computer does.
ALIKE = settings(deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", ALIKE, max_examples=USUAL // 2, derandomize=True)
settings.register_profile("ci", ALIKE, max_examples=2 * USUAL, derandomize=True)
settings.register_profile("all", ALIKE, max_examples=10 * USUAL, derandomize=False)
settings.load_profile("default")

# What needs the host kernel, whose native part is built where there is Linux and a C compiler.
HAS_HOST: Final = importlib.util.find_spec("lrpc.kernel.host.native") is not None
NEEDS_HOST: Final = (
    *("tests/kernel/host", "tests/domains/host", "tests/cluster/channel", "tests/workloads/here"),
    "tests/workloads/bench",
)
ON_RAY: Final = "::TestOnRay::"
SHARED_RAY: Final = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options in which the tiers differ."""
    group = parser.getgroup("lrpc")
    group.addoption("--long-share", type=float, default=1.0, help="The share of `long` tests to run, from 0 to 1.")
    group.addoption("--seed", type=int, help="Seed of that share, and of Hypothesis' examples unless they are fixed.")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw a seed unless one is given; workers and Hypothesis take it from here.

    A shell has commands in the background ignore Ctrl-C and the like, and what they start does so
    too. Handlers are not inherited: where there is one, commands that tests start heed signals.
    """
    # The first kernel would raise this, and Hypothesis complains if that is during an example.
    sys.setrecursionlimit(1000 + FRAMES_PER_CALL * NESTED_CALLS)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(10**6)
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(config.option.seed)


def pytest_report_header(config: pytest.Config) -> str:
    """Return the options that repeat this run, and what it leaves out."""
    without = "" if HAS_HOST else "; without the host kernel, which was not built here"
    return f"lrpc: --long-share {config.option.long_share:g} --seed {config.option.seed}{without}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what needs the host kernel where there is none."""
    if HAS_HOST or not collection_path.is_relative_to(config.rootpath):
        return None
    return collection_path.relative_to(config.rootpath).as_posix().startswith(NEEDS_HOST) or None


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
    """Return a number in [0, 1) that depends only on the seed and the test's name."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=6).digest()) / 2**48


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one worker all tests on Ray, and each worker whole files, to make fixtures once."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduling = LoadFileScheduling(config, log)
    file_of = scheduling._split_scope
    scheduling._split_scope = lambda nodeid: "on Ray" if ON_RAY in nodeid else file_of(nodeid)
    return scheduling


@pytest.fixture
def on_ray(request: pytest.FixtureRequest) -> None:
    """Start Ray with as many processors as any test uses, unless it runs already."""
    from lrpc.cluster.on_ray.session import ray_session

    if SHARED_RAY not in request.config.stash:
        with ExitStack() as stack:
            stack.enter_context(ray_session(None, 8))
            request.config.stash[SHARED_RAY] = stack.pop_all()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop Ray after the last test that uses it."""
    if SHARED_RAY in item.config.stash and (nextitem is None or ON_RAY not in nextitem.nodeid):
        with item.config.stash[SHARED_RAY]:
            del item.config.stash[SHARED_RAY]
