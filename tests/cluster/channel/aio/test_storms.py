"""Many calls at once that end in all ways: each has one outcome, and nothing is lost or left."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import grpc
import pytest

from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import awaited_pair, awaited_stub, run, text

NAMES = ("echo", "wait", "large", "raises", "sync_echo", "metadata")
ALLOWED = {"OK", "cancelled", "late here", "DEADLINE_EXCEEDED", "NOT_FOUND"}


async def outcome(channel: AwaitedChannel, chance: random.Random) -> str:
    """Make a call that is cancelled, or has a deadline, or is left alone; return how it ended."""
    name, size = chance.choice(NAMES), chance.choice([1, 100, 2_500, 50_000, 300_000])
    soon = chance.choice([0.001, 0.005, 0.02])
    limit = soon if name == "wait" else chance.choice([None, soon, 5])
    call = awaited_stub(channel, name)(text(str(size) if name == "large" else "x" * size), timeout=limit)
    if chance.random() < 0.3:
        asyncio.get_running_loop().call_later(chance.random() / 100, call.cancel)
    try:
        async with asyncio.timeout(chance.random() / 100 if chance.random() < 0.3 else None):
            await call
    except asyncio.CancelledError:
        return "cancelled"
    except TimeoutError:
        return "late here"
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_calls_leaves_nothing(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        ends: Counter[str] = Counter()
        async with awaited_pair(tmp_path) as (_, ours, _):

            async def many() -> None:
                for _ in range(25):
                    ends[await outcome(ours, chance)] += 1

            async with asyncio.TaskGroup() as callers:
                for _ in range(30):
                    callers.create_task(many())
            assert ends.total() == 750
            assert set(ends) <= ALLOWED, ends
            calls = ours.calls
            assert calls is not None
            own = calls.binding.native
            while own.counts()["free"] < own.counts()["astacks"]:  # late answers bring A-stacks back
                own.idle(0)
                await asyncio.sleep(0)
            assert (ours.outstanding, calls.busy, own.ended) == (set(), False, 0)

    run(main())
