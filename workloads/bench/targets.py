"""What a benchmark must show: one row for each target, with what was asked and what was found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.workloads.bench.measure import ALONE, COMPUTING, FLOOR, PACES, BenchCell, Shared
from lrpc.workloads.bench.pairs import PLAIN, STREAM, SideBySide
from lrpc.workloads.bench.peers import BESIDE, SHIPPED_CHANNEL
from lrpc.workloads.records.tables import Table

MP: Final = "lrpc/mp"  # a worker watches
LRPC: Final = "lrpc"  # a worker sleeps
SHIPPED: Final = "lrpc adapting"  # as bindings do where nothing else is asked for
CHANNEL_MP: Final = "lrpc channel/mp"
CHANNEL: Final = "lrpc channel"
AWAITED: Final = "lrpc channel, asyncio"
BESIDE_AWAITED: Final = "gRPC, asyncio"
OURS: Final = (MP, LRPC, SHIPPED, CHANNEL_MP, CHANNEL, SHIPPED_CHANNEL, AWAITED, "pipe", "socket")
MOST_LONGER: Final = 1.05  # than gRPC's own: what the channel leaves to it may take
CLIENTS: Final = 4
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True)
class Target:
    """One target: whether it was held, or None where it was not measured."""

    what: str
    asked: str
    found: str
    held: bool | None

    @property
    def verdict(self) -> str:
        """Return in a word or two how it came out."""
        return NOT_MEASURED if self.held is None else "held" if self.held else "missed"


class _Found:
    """What was measured, by peer, test and mode."""

    def __init__(self, cells: Sequence[BenchCell], shared: Sequence[Shared], compared: Sequence[SideBySide]) -> None:
        self.compared = compared
        self.cells = {(one.peer, one.test, one.mode): one for one in cells}
        self.shared = {(one.peer, one.clients): one for one in shared if one.are == "processes"}

    def median(self, peer: str, test: str, mode: str) -> float | None:
        cell = self.cells.get((peer, test, mode))
        return None if cell is None else cell.median_us

    def p99(self, peer: str, test: str, mode: str) -> float | None:
        cell = self.cells.get((peer, test, mode))
        return None if cell is None else cell.p99_us

    def total(self, peer: str, clients: int) -> float | None:
        one = self.shared.get((peer, clients))
        return None if one is None else one.calls_per_s


def targets(cells: Sequence[BenchCell], shared: Sequence[Shared], compared: Sequence[SideBySide]) -> list[Target]:
    """Return how each target came out."""
    found = _Found(cells, shared, compared)
    parts = _spinning, _sleeping, _against_others, _several, _today, _channel, _beside_grpc
    return [one for part in parts for one in part(found)]


def table(rows: Sequence[Target]) -> Table:
    """Return the targets as a table."""
    heads = ("target", "asked", "found", "held")
    found = [(one.what, one.asked, one.found, one.verdict) for one in rows]
    return Table("targets", "What it must show", heads, found, named=True)


def summary(rows: Sequence[Target]) -> str:
    """Return in a line how many targets were held, and which were missed."""
    counts = {word: sum(one.verdict == word for one in rows) for word in ("held", "missed", NOT_MEASURED)}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    missed = "; ".join(f"{one.what}: {one.found}, asked {one.asked}" for one in rows if one.held is False)
    return f"targets: {said}" + (f" ({missed})" if missed else "")


def _row(what: str, asked: str, value: float | None, holds: Callable[[float], bool], unit: str) -> Target:
    if value is None:
        return Target(what, asked, NOT_MEASURED, None)
    return Target(what, asked, f"{value:,.{2 if value < 10 else 0}f} {unit}".rstrip(), holds(value))


def _quotient(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _spinning(found: _Found) -> Iterator[Target]:
    own, grpc = found.median(MP, "Add", "spin"), found.median(BESIDE, "Add", "sleep")
    what = "Add, a worker watches"
    yield _row(f"{what}: beside gRPC", "at least 200 times as fast", _quotient(grpc, own), lambda n: n >= 200, "times")
    asked = "under 3 µs where gRPC takes under 650"
    if grpc is not None and grpc >= 650 and own is not None and own >= 3:
        yield Target(f"{what}: median", asked, f"{own:.2f} µs; gRPC takes {grpc:,.0f}", None)
    else:
        yield _row(f"{what}: median", asked, own, lambda us: us < 3, "µs")
    yield _row(f"{what}: 99th percentile", "under 20 µs", found.p99(MP, "Add", "spin"), lambda us: us < 20, "µs")


def _sleeping(found: _Found) -> Iterator[Target]:
    own, grpc = found.median(LRPC, "Add", "sleep"), found.median(BESIDE, "Add", "sleep")
    floor, p99 = found.median(FLOOR, "Null", "sleep"), found.p99(LRPC, "Add", "sleep")
    paced = found.median(LRPC, "Add", "paced 1000")
    what = "Add, a worker sleeps"
    yield _row(f"{what}: beside gRPC", "at least 40 times as fast", _quotient(grpc, own), lambda n: n >= 40, "times")
    yield _row(f"{what}: median", "under 16 µs", own, lambda us: us < 16, "µs")
    yield _row(f"{what}: beside the C handoff", "under 2.5 times", _quotient(own, floor), lambda n: n < 2.5, "times")
    yield _row(f"{what}: 99th percentile", "under 5 medians", _quotient(p99, own), lambda n: n < 5, "medians")
    yield _row(f"{what}: 1,000 calls/s", "under 50 µs", paced, lambda us: us < 50, "µs")


def _against_others(found: _Found) -> Iterator[Target]:
    """Compare like with like: peers that watch memory with a worker that does, others not."""
    sizes, paces = [], []
    watching = {peer for peer, _, mode in found.cells if mode == "spin"}
    for (peer, test, mode), cell in found.cells.items():
        if peer in OURS or peer in (FLOOR, ALONE):
            continue
        own = found.median(MP if peer in watching else LRPC, test, mode)
        if own is None:
            continue
        if mode in ("spin", "sleep"):
            sizes.append((cell.median_us / own, f"{peer}, {test}"))
        elif mode in {f"paced {pace}" for pace in PACES}:
            paces.append((cell.median_us / own, f"{peer}, {mode.removeprefix('paced ')} calls/s"))
    for what, ratios in (("every size up to 1 MiB", sizes), ("every pace", paces)):
        name, asked = f"Beside each peer that is not ours, {what}", "faster"
        if not ratios:
            yield Target(name, asked, NOT_MEASURED, None)
            continue
        least, who = min(ratios)
        yield Target(name, asked, f"{least:.2f} times as fast at least ({who})", least > 1)


def _several(found: _Found) -> Iterator[Target]:
    what = f"{CLIENTS} client processes of one server"
    one = found.shared.get((SHIPPED, CLIENTS))
    least = None if one is None else one.least_of_mean
    yield _row(f"{what}: the least served", "over half the mean", least, lambda n: n > 0.5, "of the mean")
    total = found.total(SHIPPED, CLIENTS)
    of_one = _quotient(total, found.total(LRPC, 1))
    yield _row(f"{what}: in all", "at least half of one that sleeps", of_one, lambda n: n >= 0.5, "times")
    beside = _quotient(total, found.total(BESIDE, CLIENTS))
    name, asked = f"{what}: beside gRPC", "at least 20 times, where workers watch"
    adapting, sleeping = found.median(SHIPPED, "Add", "sleep"), found.median(LRPC, "Add", "sleep")
    if beside is not None and beside < 20 and adapting is not None and sleeping is not None and adapting > sleeping / 2:
        yield Target(name, asked, f"{beside:,.1f} times; workers do not watch here", None)
    else:
        yield _row(name, asked, beside, lambda n: n >= 20, "times")


def _today(found: _Found) -> Iterator[Target]:
    columns = ((MP, "spin"), (LRPC, "sleep"), ("socket", "sleep"), (BESIDE, "sleep"))
    tests = ("Null", "Add", "BigIn", "BigInOut")
    there = sum((peer, test, mode) in found.cells for peer, mode in columns for test in tests)
    rows = [found.median(peer, test, mode) for test in tests for peer, mode in columns]
    order = all(
        left < right
        for at in range(0, len(rows), len(columns))
        for left, right in zip(rows[at:], rows[at + 1 : at + len(columns)], strict=False)
        if left is not None and right is not None
    )
    computing = found.p99(LRPC, "Add", "sleep" + COMPUTING), found.p99(BESIDE, "Add", "sleep" + COMPUTING)
    name, asked = "While the server computes: 99th percentile", "measured"
    if computing[0] is None or computing[1] is None:
        yield Target(name, asked, NOT_MEASURED, None)
    else:
        yield Target(name, asked, f"{computing[0]:,.0f} µs; gRPC {computing[1]:,.0f}", True)
    name, asked = "Table IV, today: LRPC/MP, LRPC, message passing, gRPC", "16 cells, in this order"
    whole = there == len(rows)
    yield Target(name, asked, f"{there} cells" if there else NOT_MEASURED, order if whole else None)


def _channel(found: _Found) -> Iterator[Target]:
    """Compare gRPC's stubs on A-stacks with the same stubs by gRPC."""

    def times(peer: str, test: str, mode: str, beside: str = BESIDE) -> float | None:
        return _quotient(found.median(beside, test, mode.replace("spin", "sleep")), found.median(peer, test, mode))

    rows = [
        ("Add, a worker watches", 100, times(CHANNEL_MP, "Add", "spin")),
        ("Add, a worker sleeps", 30, times(CHANNEL, "Add", "sleep")),
        *((f"Add, {pace:,} calls/s", 8, times(SHIPPED_CHANNEL, "Add", f"paced {pace}")) for pace in PACES),
        ("64 KiB", 5, times(SHIPPED_CHANNEL, "64 KiB", "sleep")),
        ("1 MiB", 3, times(SHIPPED_CHANNEL, "1 MiB", "sleep")),
        ("asyncio, back to back", 6, times(AWAITED, "Add", "sleep", BESIDE_AWAITED)),
        ("asyncio, gaps of 1 ms", 4, times(AWAITED, "Add", "paced 1000", BESIDE_AWAITED)),
    ]
    for what, least, ratio in rows:
        asked = f"at least {least} times as fast"
        yield _row(f"gRPC's stubs: {what}", asked, ratio, lambda n, least=least: n >= least, "times")  # type: ignore[misc]
    own = found.median(CHANNEL, "Add", "sleep")
    yield _row("gRPC's stubs: Add, a worker sleeps: median", "under 20 µs", own, lambda us: us < 20, "µs")


def _beside_grpc(found: _Found) -> Iterator[Target]:
    """Compare what the channel leaves to gRPC with gRPC's own channel."""
    asked = "within 5 % of gRPC's own"
    for what, begins in (("streams", STREAM), ("calls to a plain server", PLAIN)):
        some = [one for one in found.compared if one.what.startswith(begins)]
        name = f"gRPC's stubs: {what}"
        if not some:
            yield Target(name, asked, NOT_MEASURED, None)
            continue
        one = max(some, key=lambda one: one.ratio)
        held = (
            True if one.ratio <= MOST_LONGER else False if one.least > MOST_LONGER else None
        )  # None: it cannot be told
        said = f"{one.ratio:.3f} times as long at most ({one.what.removeprefix(begins)}"
        yield Target(name, asked, f"{said}; from {one.least:.3f} to {one.most:.3f})", held)
