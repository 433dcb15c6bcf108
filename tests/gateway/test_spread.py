"""Which of an expert's servers is asked first, and what servers say of their load."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import Rank
from gateway.load import UNKNOWN, Load, from_metrics
from gateway.settings.reliability import BalancingSettings
from gateway.spread import Spread

NOW = 500.0


@dataclass(eq=False)
class FakeServer:
    url: str
    inflight: int = 0
    share: float = 1.0
    rank: int = Rank.USABLE
    load: Load = UNKNOWN


def rank_of(server: FakeServer) -> int:
    return server.rank


def spread(seed: int = 0, **fields: float | bool) -> Spread:
    return Spread(BalancingSettings.model_validate(fields), Random(seed), clock=lambda: NOW)


def servers(*inflight: int) -> list[FakeServer]:
    return [FakeServer(f"http://vllm-{number}:8000", count) for number, count in enumerate(inflight)]


def firsts(chooser: Spread, among: list[FakeServer], times: int, key: bytes | None = None) -> Counter[str]:
    return Counter(chooser.order(among, rank_of, key)[0].url for _ in range(times))


def test_two_servers_the_less_busy_is_first() -> None:
    among = servers(7, 3)
    assert firsts(spread(), among, 50) == {among[1].url: 50}


def test_equals_share_the_requests() -> None:
    counts = firsts(spread(), servers(0, 0, 0, 0), 4_000)
    assert len(counts) == 4
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_of_many_servers_the_busiest_is_never_first_but_all_are_listed() -> None:
    among, chooser = servers(9, 0, 1, 2, 3), spread()
    for _ in range(100):
        order = chooser.order(among, rank_of)
        assert order[0] is not among[0]
        assert sorted(server.url for server in order) == [server.url for server in among]
        # Behind the first the least busy comes next.
        assert [s.inflight for s in order[1:]] == sorted(s.inflight for s in order[1:])


def test_many_gateways_that_know_the_same_do_not_all_choose_the_same() -> None:
    counts = Counter(spread(seed).order(servers(1, 0, 1, 1, 1, 1, 1, 1), rank_of)[0].url for seed in range(1_000))
    assert counts["http://vllm-1:8000"] < 400
    assert len(counts) == 8


def test_power_of_two_keeps_the_fullest_near_the_average() -> None:
    among, chooser = servers(*[0] * 10), spread()
    for _ in range(10_000):
        chooser.order(among, rank_of)[0].inflight += 1
    assert max(server.inflight for server in among) <= 1_000 + 10


def test_rank_goes_before_load_and_all_remain() -> None:
    among = servers(0, 0, 0, 50)
    among[0].rank, among[1].rank, among[2].rank = Rank.EJECTED, Rank.SATURATED, Rank.EJECTED
    for seed in range(20):
        order = spread(seed).order(among, rank_of, b"key")
        assert [server.rank for server in order] == [Rank.USABLE, Rank.SATURATED, Rank.EJECTED, Rank.EJECTED]


def test_server_to_be_probed_is_first() -> None:
    among = servers(0, 0)
    among[1].rank = Rank.PROBE
    assert firsts(spread(), among, 20, b"key") == {among[1].url: 20}


def test_all_ejected_all_are_asked() -> None:
    among = servers(0, 0, 0)
    for server in among:
        server.rank = Rank.EJECTED
    assert len(firsts(spread(), among, 300)) == 3
    assert len(spread().order(among, rank_of)) == 3


def test_server_that_comes_back_gets_few_until_its_share_grows() -> None:
    among, chooser = servers(0, 0), spread()
    among[1].share = 0.1
    for _ in range(110):
        chooser.order(among, rank_of)[0].inflight += 1
    assert 5 <= among[1].inflight <= 15
    among[1].share = 1
    assert chooser.order(among, rank_of)[0] is among[1]


def test_conversation_stays_with_its_server_in_every_gateway() -> None:
    keys = [b"conversation %d" % number for number in range(300)]
    favourites = [spread(1).order(servers(0, 0, 0), rank_of, key)[0].url for key in keys]
    assert favourites == [spread(2).order(servers(1, 3, 0), rank_of, key)[0].url for key in keys]
    counts = Counter(favourites)
    assert len(counts) == 3
    assert max(counts.values()) < 1.5 * min(counts.values())


def test_favourite_is_the_same_in_every_process() -> None:
    favourites = [spread().order(servers(0, 0, 0), rank_of, b"%d" % number)[0].url[12] for number in range(12)]
    assert "".join(favourites) == "121212010112"


def test_fewer_servers_move_only_the_conversations_of_the_one_that_is_gone() -> None:
    keys = [b"%d" % number for number in range(200)]
    before = [spread().order(servers(0, 0, 0), rank_of, key)[0].url for key in keys]
    after = [spread().order(servers(0, 0), rank_of, key)[0].url for key in keys]
    assert all(old in (new, "http://vllm-2:8000") for old, new in zip(before, after, strict=True))


def test_favourite_too_busy_the_next_favourite_takes_over_for_all_alike() -> None:
    key = b"hot"
    ranking = []
    among = servers(0, 0, 0, 0)
    while among:
        ranking.append(spread().order(among, rank_of, key)[0].url)
        among = [server for server in among if server.url != ranking[-1]]
    busy = servers(0, 0, 0, 0)
    next(server for server in busy if server.url == ranking[0]).inflight = 30
    assert firsts(spread(), busy, 100, key) == {ranking[1]: 100}


@pytest.mark.parametrize(("mine", "others", "stays"), [(3, 0, True), (4, 0, False), (14, 10, True), (20, 10, False)])
def test_favourite_is_left_when_it_is_half_above_the_average(mine: int, others: int, stays: bool) -> None:
    key = b"conversation"
    among = servers(others, others, others)
    favourite = spread().order(servers(0, 0, 0), rank_of, key)[0].url
    next(server for server in among if server.url == favourite).inflight = mine
    assert (spread().order(among, rank_of, key)[0].url == favourite) is stays


def test_affinity_off_the_load_alone_decides() -> None:
    among = servers(0, 0)
    assert len(firsts(spread(affinity=False), among, 100, b"key")) == 2


def test_what_a_server_says_counts_while_it_is_fresh() -> None:
    among = servers(0, 3)
    among[0].load = Load(waiting=20, told_at=NOW - 4)
    assert spread().order(among, rank_of)[0] is among[1]
    among[0].load = Load(waiting=20, told_at=NOW - 6)
    assert spread().order(among, rank_of)[0] is among[0]


def test_of_equals_the_emptier_cache_is_first() -> None:
    among = servers(2, 2)
    among[0].load, among[1].load = Load(0, 0.9, NOW), Load(0, 0.1, NOW)
    assert firsts(spread(), among, 50) == {among[1].url: 50}


@given(
    states=st.lists(
        st.tuples(st.integers(0, 2_000), st.floats(0.1, 1), st.sampled_from(Rank), st.floats(0, 1e6)),
        min_size=1,
        max_size=8,
    ),
    key=st.one_of(st.none(), st.binary()),
    seed=st.integers(0, 99),
)
def test_any_servers_are_all_listed_once_by_rank(
    states: list[tuple[int, float, Rank, float]], key: bytes | None, seed: int
) -> None:
    among = [
        FakeServer(f"http://s{number}", inflight, share, rank, Load(waiting, 0.5, NOW))
        for number, (inflight, share, rank, waiting) in enumerate(states)
    ]
    given_order = list(among)
    order = spread(seed).order(among, rank_of, key)
    assert sorted(map(id, order)) == sorted(map(id, among))
    assert [server.rank for server in order] == sorted(server.rank for server in among)
    assert among == given_order


def test_metrics_page_gives_the_same_two_gauges() -> None:
    page = b"""# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a}b"} 2.0
vllm:num_requests_waiting{engine="1",model_name="a}b"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
"""
    assert from_metrics(page, NOW) == Load(3, 0.75, NOW)
    assert from_metrics(b"sglang:num_queue_reqs 4\n", NOW) is None
    assert from_metrics(b"vllm:num_requests_waiting 4\nvllm:kv_cache_usage_perc NaN\n", NOW) == Load(4, 0, NOW)


@given(page=st.binary(max_size=500))
def test_any_page_is_read_without_an_error(page: bytes) -> None:
    load = from_metrics(b"vllm:num_requests_waiting " + page, NOW)
    assert load is None or math.isfinite(load.waiting)
