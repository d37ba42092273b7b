"""What `lrpc bench` must show, by made-up cells: each target is held, missed, or not measured."""

from dataclasses import asdict, replace

import pytest

from lrpc.workloads.bench import record, targets
from lrpc.workloads.bench.measure import FLOOR, QUICK, BenchCell, Shared
from lrpc.workloads.bench.pairs import SideBySide
from lrpc.workloads.bench.peers import BESIDE, SHIPPED_CHANNEL
from lrpc.workloads.bench.targets import Target

ALL = 26  # targets
TESTS = ("Null", "Add", "BigIn", "BigInOut", "64 KiB", "1 MiB")
FACTOR = {
    "lrpc/mp": 2.0,
    "lrpc": 7.0,
    "lrpc adapting": 2.1,
    "socket": 30.0,
    BESIDE: 500.0,
    "Pyro5": 90.0,
    "lrpc channel/mp": 4.0,
    "lrpc channel": 12.0,
    SHIPPED_CHANNEL: 4.5,
    "lrpc channel, asyncio": 100.0,
    "gRPC, asyncio": 700.0,
}


def cells() -> list[BenchCell]:
    """Return cells by which each target is held."""
    found = [BenchCell(FLOOR, "Null", "sleep", 5.0, 6.0, None, None)]
    for peer, us in FACTOR.items():
        mode = "spin" if peer.endswith("/mp") else "sleep"
        found += [BenchCell(peer, test, mode, us, us * 3, None, None) for test in TESTS]
        found += [BenchCell(peer, "Add", f"paced {pace}", us * 2, us * 9, None, None) for pace in (100, 1000)]
    found += [BenchCell(peer, "Add", "sleep, server computes", 20.0, 900.0, None, None) for peer in ("lrpc", BESIDE)]
    found.append(BenchCell("iceoryx2", "Add", "spin", 4.0, 5.0, None, None))
    return found


SHARED = [
    Shared("lrpc adapting", 4, 100_000, 0.9),
    Shared("lrpc", 1, 90_000, 1.0),
    Shared(BESIDE, 4, 3_000, 0.9),
    Shared("lrpc adapting", 4, 1, 0.0, "threads"),  # which no target is about
]
COMPARED = [
    SideBySide("stream both ways", 990.0, 1000.0, 0.99, 0.96, 1.02, 100),
    SideBySide("stream from the client", 1040.0, 1000.0, 1.04, 1.01, 1.07, 100),
    SideBySide("plain server, TCP", 500.0, 500.0, 1.001, 0.99, 1.01, 100),
]


def by_name(found: list[Target]) -> dict[str, Target]:
    return {one.what: one for one in found}


def test_a_record_that_shows_all_holds_every_target() -> None:
    found = targets.targets(cells(), SHARED, COMPARED)
    assert [one.what for one in found if one.held is not True] == []
    assert len(found) == ALL
    assert targets.summary(found) == f"targets: {ALL} held"
    assert by_name(found)["Add, a worker watches: beside gRPC"].found == "250 times"
    assert by_name(found)["Beside each peer that is not ours, every size up to 1 MiB"].found == (
        "2.00 times as fast at least (iceoryx2, Add)"
    )


def test_what_was_not_measured_is_neither_held_nor_missed() -> None:
    found = targets.targets([], [], [])
    assert {one.verdict for one in found} == {"not measured"}
    assert targets.summary(found) == f"targets: {ALL} not measured"


@pytest.mark.parametrize(
    ("peer", "test", "mode", "us", "missed"),
    [
        ("lrpc/mp", "Add", "spin", 2.6, {"Add, a worker watches: beside gRPC"}),
        (
            "lrpc/mp",
            "Add",
            "spin",
            7.5,
            {
                "Add, a worker watches: beside gRPC",
                "Add, a worker watches: median",
                "Add, a worker watches: 99th percentile",
                "Beside each peer that is not ours, every size up to 1 MiB",
                "Table IV, today: LRPC/MP, LRPC, message passing, gRPC",
            },
        ),
        (
            "lrpc",
            "Add",
            "sleep",
            12.6,
            {"Add, a worker sleeps: beside gRPC", "Add, a worker sleeps: beside the C handoff"},
        ),
        ("lrpc", "Add", "paced 1000", 51.0, {"Add, a worker sleeps: 1,000 calls/s"}),
        ("lrpc", "1 MiB", "sleep", 91.0, {"Beside each peer that is not ours, every size up to 1 MiB"}),
        ("Pyro5", "Add", "paced 100", 13.0, {"Beside each peer that is not ours, every pace"}),
        ("socket", "BigIn", "sleep", 600.0, {"Table IV, today: LRPC/MP, LRPC, message passing, gRPC"}),
        ("lrpc channel/mp", "Add", "spin", 5.1, {"gRPC's stubs: Add, a worker watches"}),
        (
            "lrpc channel",
            "Add",
            "sleep",
            21.0,
            {"gRPC's stubs: Add, a worker sleeps", "gRPC's stubs: Add, a worker sleeps: median"},
        ),
        (SHIPPED_CHANNEL, "Add", "paced 1000", 130.0, {"gRPC's stubs: Add, 1,000 calls/s"}),
        (SHIPPED_CHANNEL, "64 KiB", "sleep", 101.0, {"gRPC's stubs: 64 KiB"}),
        (SHIPPED_CHANNEL, "1 MiB", "sleep", 167.0, {"gRPC's stubs: 1 MiB"}),
        ("lrpc channel, asyncio", "Add", "sleep", 117.0, {"gRPC's stubs: asyncio, back to back"}),
        ("lrpc channel, asyncio", "Add", "paced 1000", 351.0, {"gRPC's stubs: asyncio, gaps of 1 ms"}),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(peer: str, test: str, mode: str, us: float, missed: set[str]) -> None:
    changed = [
        replace(one, median_us=us, p99_us=us * 3) if (one.peer, one.test, one.mode) == (peer, test, mode) else one
        for one in cells()
    ]
    found = targets.targets(changed, SHARED, COMPARED)
    assert {one.what for one in found if one.held is False} == missed
    assert targets.summary(found).startswith(f"targets: {ALL - len(missed)} held, {len(missed)} missed (")


@pytest.mark.parametrize(
    ("adapting", "grpc", "verdict"), [(2.1, 3_000, "held"), (2.1, 6_000, "missed"), (6.9, 6_000, "not measured")]
)
def test_several_clients_are_compared_with_grpc_where_workers_watch(adapting: float, grpc: float, verdict: str) -> None:
    changed = [replace(one, median_us=adapting) if one.peer == "lrpc adapting" else one for one in cells()]
    shared = [replace(one, calls_per_s=grpc) if one.peer == BESIDE else one for one in SHARED]
    found = by_name(targets.targets(changed, shared, COMPARED))
    assert found["4 client processes of one server: beside gRPC"].verdict == verdict


def test_a_slow_computer_need_not_take_under_three_microseconds() -> None:
    slow = [replace(one, median_us=one.median_us * 2) for one in cells()]
    assert by_name(targets.targets(slow, SHARED, COMPARED))["Add, a worker watches: median"].verdict == "not measured"


def test_the_record_and_its_page_have_the_targets() -> None:
    made = record.BenchRecord(["lrpc", "bench"], QUICK, cells(), SHARED, COMPARED, [], 0, False)
    assert made.as_document()["targets"] == [{**asdict(one), "verdict": "held"} for one in made.targets]
    (section, *_) = record.report(made).sections
    assert section.title == "What it must show"


@pytest.mark.parametrize(("more", "verdict"), [(0.0, "held"), (0.02, "not measured"), (0.05, "missed")])
def test_what_takes_grpc_may_take_a_twentieth_longer_than_by_grpc(more: float, verdict: str) -> None:
    """Where the pairs do not tell whether it does, it is neither held nor missed."""
    slow = [replace(one, ratio=one.ratio + more, least=one.least + more) for one in COMPARED]
    found = by_name(targets.targets(cells(), SHARED, slow))["gRPC's stubs: streams"]
    assert found.found.startswith(f"{1.04 + more:.3f} times as long at most (from the client; from ")
    assert found.verdict == verdict
