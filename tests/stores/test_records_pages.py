"""Pages that fit a filter seldom, percentiles, spans: bounded work, nothing left out, nothing shown twice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.records import Batch
from gateway.stores.records import queries as module
from gateway.stores.records.histograms import (
    BUCKETS,
    CONFIDENCE,
    DURATION,
    pack,
    share_bucket,
    time_bucket,
    total,
    unpack,
)
from gateway.stores.records.queries import RecordFilter, RollupFilter, span_of
from gateway.stores.records.rollups import tally
from gateway.stores.records.tables import COLUMNS, row_of
from tests.stores.conftest import Place
from tests.stores.samples import START_S, mixed, row


def test_seldom_rows_are_found_over_short_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCAN_ROWS", 100)
    place.store.write(Batch([row(n, key="rare" if n % 170 == 0 else "common") for n in range(500)]))
    found, cursor, pages = [], None, 0
    while True:
        page = place.queries.page(RecordFilter(key="rare"), cursor, limit=5)
        found += [entry["id"] for entry in page.rows]
        cursor, pages = page.next, pages + 1
        if cursor is None:
            break
    assert found == ["r-340", "r-170", "r-0"]
    assert pages == 6


def test_rows_that_come_between_pages_are_not_shown_twice(place: Place) -> None:
    place.store.write(Batch([row(n) for n in range(20)]))
    first = place.queries.page(RecordFilter(), limit=10)
    place.store.write(Batch([row(n) for n in range(20, 40)]))
    second = place.queries.page(RecordFilter(), first.next, limit=10)
    assert [entry["id"] for entry in (*first.rows, *second.rows)] == [f"r-{n}" for n in range(19, -1, -1)]


@given(st.lists(st.floats(0.0011, 1_000), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_percentile_is_within_a_bucket_of_the_exact_one(values: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        bucket = time_bucket(DURATION, value)
        counts[bucket] = counts.get(bucket, 0) + 1
    found = DURATION.quantile(total([pack(counts)]), share)
    exact = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    assert found is not None
    assert exact / 1.2 <= found <= exact * 1.2


@pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, math.inf, 1e300, 5e-324])
def test_odd_values_fall_into_an_end_bucket(odd: float) -> None:
    assert time_bucket(DURATION, odd) in (DURATION.start, DURATION.start + DURATION.buckets - 1)
    assert CONFIDENCE.start <= share_bucket(CONFIDENCE, odd) < CONFIDENCE.start + CONFIDENCE.buckets


@given(st.floats(0, 1))
def test_probability_falls_between_its_buckets_edges(share: float) -> None:
    place = share_bucket(CONFIDENCE, share) - CONFIDENCE.start
    upper = CONFIDENCE.edges[place]
    assert upper - 0.01 - 1e-9 <= share <= upper + 1e-9


@given(st.lists(st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 10**6)), max_size=5))
def test_histograms_add_up_in_any_form(parts: list[dict[int, int]]) -> None:
    exact = np.zeros(BUCKETS, np.int64)
    for part in parts:
        assert unpack(pack(part)) == part
        for bucket, count in part.items():
            exact[bucket] += count
    assert (total(pack(part) for part in parts) == exact).all()


def test_tally_of_parts_is_the_tally_of_the_whole() -> None:
    rows = [row_of(record) for record in mixed(600, step_s=20)]
    whole, parts = tally(rows), [tally(rows[:100]), tally(rows[100:])]
    for key, rollup in whole.items():
        mine = [part[key] for part in parts if key in part]
        assert sum(part.sums[0] for part in mine) == rollup.sums[0]
        assert sum(sum(part.counts.values()) for part in mine) == sum(rollup.counts.values())
    assert list(whole) == sorted(whole)


@pytest.mark.parametrize(("hours", "span_s"), [(1, 60), (12, 60), (24, 3_600), (24 * 31, 3_600), (24 * 60, 86_400)])
def test_span_grows_with_the_time_asked_for(hours: int, span_s: int) -> None:
    assert span_of(RollupFilter(START_S, START_S + hours * 3_600)) == span_s


def test_saving_counts_only_requests_with_both_prices(place: Place) -> None:
    priced = row(1)
    values = list(priced.values)
    values[COLUMNS.index("baseline_cost")] = 0.00005
    both = type(priced)(priced.at_us, priced.id, tuple(values))
    place.store.write(Batch([both, row(2), row(3, cost=None)]))
    (point,) = place.queries.totals(RollupFilter(START_S, START_S + 60))
    assert (point.sums["requests"], point.sums["priced"]) == (3, 1)
    assert point.sums["saving"] == pytest.approx(0.00003)
    assert point.sums["cost"] == pytest.approx(0.00004)
