"""The event log hashes to the digest, and gives the events in order of virtual time."""

from hashlib import blake2b
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.domain import Transfer
from lrpc.kernel.simulated import log
from lrpc.kernel.simulated.log import EVENT_BYTES, EventLog
from tests.support.simulated import TRANSFERS, events, machine

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
        ("lrpc", ["seed", "thread", "thread", "bind", "call", "return", "system call", "end"]),
        (
            "message passing",
            ["seed", "thread", "thread", *["thread"] * 5, "bind", "message", "reply", "system call", "end"],
        ),
    ],
)
def test_a_machine_logs_what_happened(transfer: Transfer, wanted: list[str]) -> None:
    sink = BytesIO()
    one = machine(sink=sink)

    def body() -> None:
        one.tests(transfer).add(1, 2)
        one.client.system_call(5)

    one.run(body)
    digest = one.kernel.log.digest()
    assert blake2b(sink.getvalue(), digest_size=32).digest() == digest
    found = events(sink)
    assert [log.NAMES[kind] for _, kind, _, _ in found] == wanted
    assert [time for time, *_ in found] == sorted(time for time, *_ in found)


def test_the_names_of_events_differ() -> None:
    assert len(set(log.NAMES.values())) == len(log.NAMES) == max(log.NAMES)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_two_machines_that_do_the_same_have_the_same_digest(transfer: Transfer) -> None:
    def digest() -> bytes:
        one = machine(processors=2)

        def body() -> None:
            tests = one.tests(transfer)
            for number in range(5):
                tests.add(number, number)

        one.run(body, body)
        return one.kernel.log.digest()

    assert digest() == digest()
