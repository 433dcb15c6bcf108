"""The cache's memory: bounds, age, what makes room for what."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.answers import Usage
from gateway.cache import Entry, ResponseCache
from gateway.cache.store import ENTRY_BYTES
from gateway.settings import CacheSettings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def settings(**fields: Any) -> CacheSettings:
    return CacheSettings.model_validate({"enabled": True, "answer_bytes": 4_096, "memory_bytes": 65_536, **fields})


def entry(body: bytes = b"{}") -> Entry:
    return Entry("application/json", body, Usage(1, 2))


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_what_is_kept_is_found() -> None:
    cache = ResponseCache(settings(), Clock())
    assert cache.look(key(1)) is None
    assert cache.keep(key(1), entry(b"one"))
    found = cache.look(key(1))
    assert found is not None
    assert (found.body, found.usage, found.stored_at) == (b"one", Usage(1, 2), 1_000.0)
    assert cache.look(key(2)) is None


def test_answer_is_gone_after_its_time_without_being_looked_for() -> None:
    clock = Clock()
    cache = ResponseCache(settings(ttl_s=60), clock)
    cache.keep(key(1), entry())
    clock.now += 59.9
    assert cache.look(key(1)) is not None
    clock.now += 0.1
    assert cache.look(key(2)) is None
    assert (len(cache), cache.state().held_bytes, cache.state().expired) == (0, 0, 1)


def test_looking_does_not_make_an_answer_younger() -> None:
    clock = Clock()
    cache = ResponseCache(settings(ttl_s=60), clock)
    cache.keep(key(1), entry())
    for _ in range(10):
        clock.now += 6
        cache.look(key(1))
    assert cache.look(key(1)) is None


def test_age_is_in_whole_seconds_and_may_be_limited() -> None:
    clock = Clock()
    cache = ResponseCache(settings(), clock)
    cache.keep(key(1), entry())
    clock.now += 5.9
    found = cache.look(key(1))
    assert found is not None
    assert cache.age_s(found) == 5
    assert cache.look(key(1), max_age_s=5) is None
    assert cache.look(key(1), max_age_s=6) is not None


def test_newer_answer_takes_the_place_and_begins_anew() -> None:
    clock = Clock()
    cache = ResponseCache(settings(ttl_s=60), clock)
    cache.keep(key(1), entry(b"old"))
    clock.now += 50
    cache.keep(key(1), entry(b"new"))
    clock.now += 50
    found = cache.look(key(1))
    assert found is not None
    assert (found.body, len(cache)) == (b"new", 1)


def test_least_recently_used_goes_first() -> None:
    cache = ResponseCache(settings(entries=3), Clock())
    for number in (1, 2, 3):
        cache.keep(key(number), entry())
    cache.look(key(1))
    cache.keep(key(4), entry())
    assert [number for number in (1, 2, 3, 4) if cache.look(key(number))] == [1, 3, 4]
    assert cache.state().evicted == 1


def test_too_large_an_answer_is_not_kept_and_its_predecessor_is_gone() -> None:
    cache = ResponseCache(settings(), Clock())
    cache.keep(key(1), entry(b"old"))
    assert not cache.keep(key(1), entry(b"x" * 4_097))
    assert cache.look(key(1)) is None


def test_streams_under_way_get_a_part_of_the_memory_and_push_answers_out() -> None:
    cache = ResponseCache(settings(), Clock())
    for number in range(100):
        cache.keep(key(number), entry(b"x" * 1_000))
    before = len(cache)
    assert cache.lend(16_000)
    assert not cache.lend(1_000)
    assert len(cache) < before
    assert cache.state().held_bytes <= 65_536
    cache.give_back(16_000)
    assert cache.lend(1_000)


def test_smaller_settings_count_at_once() -> None:
    cache = ResponseCache(settings(), Clock())
    for number in range(20):
        cache.keep(key(number), entry())
    cache.configure(settings(entries=5))
    assert len(cache) == 5


def test_shorter_time_counts_for_what_is_kept_already() -> None:
    clock = Clock()
    cache = ResponseCache(settings(ttl_s=600), clock)
    cache.keep(key(1), entry())
    clock.now += 100
    cache.configure(settings(ttl_s=60))
    assert len(cache) == 0


def test_switched_off_forgets_all() -> None:
    cache = ResponseCache(settings(), Clock())
    cache.keep(key(1), entry())
    cache.configure(settings(enabled=False))
    assert (len(cache), cache.state().held_bytes) == (0, 0)
    cache.configure(settings())
    assert cache.look(key(1)) is None


class Driven:
    """A cache that is driven step by step, and what it should know."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cache = ResponseCache(settings(entries=8, ttl_s=60), self.clock)
        self.lent: list[int] = []
        self.last: dict[int, tuple[bytes, float]] = {}

    def keep(self, number: int, size: int) -> None:
        body = bytes([number]) * size
        self.last.pop(number, None)
        assert self.cache.keep(key(number), entry(body)) == (size <= 4_096)
        if size <= 4_096:
            self.last[number] = (body, self.clock.now)

    def look(self, number: int, _: int) -> None:
        found = self.cache.look(key(number))
        if found is not None:
            assert (found.body, found.stored_at) == self.last[number]
            assert self.clock.now - found.stored_at < 60

    def wait(self, seconds: int, _: int) -> None:
        self.clock.now += seconds

    def lend(self, _: int, size: int) -> None:
        if self.cache.lend(size):
            self.lent.append(size)

    def give_back(self, _: int, __: int) -> None:
        if self.lent:
            self.cache.give_back(self.lent.pop())

    def clear(self, _: int, __: int) -> None:
        self.cache.clear()
        self.last.clear()

    def check(self) -> None:
        assert len(self.cache) <= 8
        assert sum(self.lent) <= self.cache.state().held_bytes <= 65_536


names = st.sampled_from(["keep", "keep", "look", "look", "wait", "lend", "give_back", "clear"])


@given(st.lists(st.tuples(names, st.integers(0, 40), st.integers(0, 5_000)), max_size=80))
def test_bounds_hold_and_nothing_old_or_wrong_comes_back(steps: list[tuple[str, int, int]]) -> None:
    driven = Driven()
    for name, number, size in steps:
        getattr(driven, name)(number % 12 if name != "wait" else number, size)
        driven.check()
    while driven.lent:
        driven.give_back(0, 0)
    driven.cache.clear()
    assert driven.cache.state().held_bytes == 0


@pytest.mark.parametrize("size", [0, 100, 2_000])
def test_memory_in_truth_stays_within_what_is_counted(size: int) -> None:
    limit = 4 * 2**20
    cache = ResponseCache(settings(memory_bytes=limit, entries=100_000), Clock())
    tracemalloc.start()
    try:
        for number in range(3 * limit // (size + ENTRY_BYTES)):
            cache.keep(key(number), Entry("application/json", bytes([number % 256]) * size, Usage(number, number)))
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert cache.state().evicted
    assert used < limit * 1.1


@pytest.mark.parametrize(
    "fields",
    [
        {"answer_bytes": 16_385},
        {"entries": 0},
        {"ttl_s": 0},
        {"ttl_s": float("inf")},
        {"scope": "everybody"},
        {"memory_bytes": 1},
        {"size": 1},
    ],
)
def test_settings_refuse_what_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**fields)


def test_cache_is_off_by_default_and_keeps_callers_apart() -> None:
    default = CacheSettings()
    assert (default.enabled, default.scope) == (False, "per_key")
