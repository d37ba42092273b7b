"""Random streams: one for each seed, machine and purpose, with the same values for ever.

No library samples them.
"""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Philox

from lrpc.kernel.random import Stream, zipf_bounds
from tests.support.simulated import machine


def words(seed: int, machine: str, purpose: str, count: int = 4) -> list[int]:
    stream = Stream(seed, machine, purpose)
    return [stream.word() for _ in range(count)]


def test_the_first_words_of_a_stream_are_what_they_always_were() -> None:
    assert words(0, "m", "test") == [0xE50054EC60C13136, 0x67EE30D62916C5D6, 0xD7E8159D63A75422, 0x14732B8ACC86121A]
    assert words(7, "büro-1", "keys", 1) == [0x1781DC481DCD999E]


@given(st.integers(), st.text(max_size=5), st.text(max_size=5))
def test_the_same_seed_machine_and_purpose_give_the_same_words(seed: int, machine: str, purpose: str) -> None:
    first = words(seed, machine, purpose, 300)
    assert words(seed, machine, purpose, 300) == first
    assert all(0 <= word < 2**64 for word in first)
    assert len(set(first)) == 300


def test_another_seed_machine_or_purpose_gives_other_words() -> None:
    streams = [(0, "a", "b"), (1, "a", "b"), (0, "b", "a"), (0, "ab", ""), (0, "", "ab"), (-1, "a", "b"), (0, "a", "c")]
    assert len({word for stream in streams for word in words(*stream)}) == 4 * len(streams)


def test_taking_from_one_stream_does_not_move_another() -> None:
    one = machine(seed=5)
    first, second = one.client.random("think"), one.client.random("choose")
    alone = [one.client.random("choose").word() for _ in range(1)]
    for _ in range(1000):
        first.word()
    assert second.word() == alone[0]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 90)), max_size=9))
def test_streams_that_take_turns_give_the_words_of_one_generator_each(turns: list[tuple[int, int]]) -> None:
    """Each makes a few words ahead, with the generator that all of them share."""
    streams = [Stream(0, "m", str(number)) for number in range(3)]
    taken: list[list[int]] = [[], [], []]
    for number, count in turns:
        taken[number] += [streams[number].word() for _ in range(count)]
    for number, found in enumerate(taken):
        key = int.from_bytes(blake2b(f"0\0m\0{number}".encode(), digest_size=16).digest(), "little")
        assert found == Philox(key=key).random_raw(len(found)).tolist()


@given(st.lists(st.integers(0, 9), max_size=9))
def test_halves_are_those_of_the_words_one_after_another(counts: list[int]) -> None:
    stream, words_alone = Stream(0, "m", "halves"), Stream(0, "m", "halves")
    found = [half for count in counts for half in stream.halves(count)]
    assert found == [words_alone.word() >> 32 for _ in range(sum(counts))]


def test_threads_that_draw_at_once_get_what_each_would_alone() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: words(number, "m", "threads", 3000), range(4)))
    assert found == [words(number, "m", "threads", 3000) for number in range(4)]


def test_domains_of_one_machine_have_streams_of_their_own() -> None:
    one = machine(seed=5)
    assert one.client.random("think").word() != one.server.random("think").word()
    assert one.client.random("think").word() == machine(seed=5).client.random("think").word()
    assert one.client.random("think").word() != machine(seed=6).client.random("think").word()


@given(st.integers(), st.integers(1, 2**32))
def test_below_is_below(seed: int, bound: int) -> None:
    stream = Stream(seed, "m", "below")
    assert all(0 <= stream.below(bound) < bound for _ in range(20))


def test_below_is_even() -> None:
    stream = Stream(1, "m", "below")
    counted = Counter(stream.below(6) for _ in range(12_000))
    assert sorted(counted) == list(range(6))
    assert all(abs(count - 2000) < 5 * 2000**0.5 for count in counted.values())


def test_chance_comes_true_as_often_as_it_says() -> None:
    stream = Stream(1, "m", "chance")
    assert sum(stream.chance(1, 20) for _ in range(20_000)) == pytest.approx(1000, abs=5 * 1000**0.5)
    assert not any(stream.chance(0, 20) for _ in range(100))
    assert all(stream.chance(20, 20) for _ in range(100))


def by_comparisons(stream: Stream, mean: int) -> int:
    """Return what von Neumann's method makes of whole words, with numbers as large as it takes."""
    whole = 0
    while True:
        run = [stream.word()]
        while (following := stream.word()) < run[-1]:
            run.append(following)
        if len(run) % 2:
            return whole * mean + (run[0] * mean >> 64)
        whole += 1


@given(
    st.integers(0, 99),
    st.lists(
        st.integers(0, 2**70) | st.integers(2**31 - 2, 2**31 + 2) | st.integers(2**32 - 2, 2**32 + 2), max_size=30
    ),
)
def test_samples_are_what_whole_words_give(seed: int, means: list[int]) -> None:
    stream, words_alone = Stream(seed, "m", "samples"), Stream(seed, "m", "samples")
    for mean in means:
        assert stream.exponential(mean) == by_comparisons(words_alone, mean)
        assert stream.below(mean) == (words_alone.word() >> 32) * mean >> 32


@given(st.integers(0, 99))
def test_a_copy_of_a_stream_goes_on_where_that_is(taken: int) -> None:
    stream = Stream(0, "m", "copied")
    for _ in range(taken):
        stream.word()
    copied, pickled = deepcopy(stream), pickle.loads(pickle.dumps(stream))
    found = [[one.word() for _ in range(99)] for one in (stream, copied, pickled)]
    assert found[1:] == [found[0], found[0]]


@pytest.mark.parametrize("mean", [1_000, 250_000, 10**9])
def test_exponential_times_have_their_mean_their_spread_and_their_median(mean: int) -> None:
    stream = Stream(1, "m", "exponential")
    count = 20_000
    drawn = sorted(stream.exponential(mean) for _ in range(count))
    average = sum(drawn) / count
    assert average == pytest.approx(mean, rel=5 / count**0.5)
    spread = (sum((value - average) ** 2 for value in drawn) / count) ** 0.5
    assert spread == pytest.approx(mean, rel=0.06)
    assert drawn[count // 2] == pytest.approx(0.6931 * mean, rel=0.05)
    assert drawn[0] >= 0
    assert sum(value > 3 * mean for value in drawn) / count == pytest.approx(0.0498, rel=0.15)


def test_an_exponential_time_of_mean_0_is_0() -> None:
    stream = Stream(1, "m", "exponential")
    assert {stream.exponential(0) for _ in range(50)} == {0}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers())
def test_a_choice_is_one_of_those_there_are(weights: list[int], seed: int) -> None:
    stream = Stream(seed, "m", "choose")
    bounds = [sum(weights[: number + 1]) for number in range(len(weights))]
    assert all(0 <= stream.choose(bounds) < len(weights) for _ in range(20))


def test_choices_are_as_frequent_as_their_weights() -> None:
    stream = Stream(1, "m", "choose")
    counted = Counter(stream.choose([1, 1, 4, 10]) for _ in range(20_000))
    assert counted[1] == 0
    for number, weight in ((0, 1), (2, 3), (3, 6)):
        assert counted[number] == pytest.approx(2000 * weight, abs=5 * (2000 * weight) ** 0.5)


def test_zipf_bounds_fall_as_one_over_the_rank() -> None:
    bounds = zipf_bounds(4)
    assert bounds == [1_000_000, 1_500_000, 1_833_333, 2_083_333]
    many = zipf_bounds(1_100_000)
    assert many[-1] - many[-2] == 1
    assert many[-1] <= 2**32
