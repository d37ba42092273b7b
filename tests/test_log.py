"""The event log: what is written hashes to the digest, and tells what happened in order of virtual time."""

from hashlib import blake2b
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.stubs import Transfer
from lrpc.kernel.simulated import log
from lrpc.kernel.simulated.log import EVENT_BYTES, EventLog
from tests.simulated import TRANSFERS, events, machine

WORD = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_a_log_is_its_events_in_little_endian_words_whenever_it_is_flushed(
    wanted: list[tuple[int, int, int, int]], flushes: list[int]
) -> None:
    sink = BytesIO()
    kept, only_hashed = EventLog(sink), EventLog()
    for number, event in enumerate(wanted):
        kept.add(*event)
        only_hashed.add(*event)
        if number in flushes:
            kept.flush()
    assert kept.digest() == only_hashed.digest()
    assert events(sink) == wanted
    assert len(sink.getvalue()) == EVENT_BYTES * len(wanted)
    assert blake2b(sink.getvalue(), digest_size=32).digest() == kept.digest()


def test_a_log_longer_than_what_it_holds_back_is_written_whole() -> None:
    sink = BytesIO()
    kept = EventLog(sink)
    for number in range(10_000):
        kept.add(number, 1, 2, 3)
    assert len(sink.getvalue()) > 0
    assert blake2b(sink.getvalue(), digest_size=32).digest() != kept.digest()
    assert blake2b(sink.getvalue(), digest_size=32).digest() == kept.digest()
    assert [time for time, *_ in events(sink)] == list(range(10_000))


@pytest.mark.parametrize(
    ("transfer", "wanted"),
    [
        ("lrpc", ["thread", "bind", "call", "return", "system call", "end"]),
        ("message passing", ["thread", "bind", *["thread"] * 5, "message", "reply", "system call", "end"]),
    ],
)
def test_a_machine_logs_what_happened(transfer: Transfer, wanted: list[str]) -> None:
    sink = BytesIO()
    one = machine(sink=sink)

    def body() -> None:
        one.tests(transfer).add(1, 2)
        one.client.system_call(5)

    one.run(body)
    assert blake2b(sink.getvalue(), digest_size=32).digest() != one.kernel.log.digest() or not sink.getvalue()
    assert blake2b(sink.getvalue(), digest_size=32).digest() == one.kernel.log.digest()
    found = events(sink)
    assert [log.NAMES[kind] for _, kind, _, _ in found] == wanted
    assert [time for time, *_ in found] == sorted(time for time, *_ in found)


def test_every_kind_of_event_has_a_name_of_its_own() -> None:
    kinds = [
        value
        for name, value in vars(log).items()
        if name.isupper()
        and name not in ("LARGEST", "EVENT_BYTES")
        and isinstance(value, int)
        and not name.startswith("_")
    ]
    assert sorted(kinds) == sorted(log.NAMES)
    assert len(set(log.NAMES.values())) == len(log.NAMES)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_two_machines_that_do_the_same_have_the_same_digest(transfer: Transfer) -> None:
    digests = set()
    for _ in range(2):
        one = machine(processors=2)

        def body(one=one) -> None:  # type: ignore[no-untyped-def]
            tests = one.tests(transfer)
            for number in range(5):
                tests.add(number, number)

        one.run(body, body)
        digests.add(one.kernel.log.digest())
    assert len(digests) == 1
