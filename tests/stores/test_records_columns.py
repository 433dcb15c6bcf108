"""Columns of the newest rows and sums by the database: they say what the rows say, and how many were looked at."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.records import Batch
from gateway.stores.records.columns import newest, price_changes
from gateway.stores.records.contract import microseconds
from gateway.stores.records.queries import RollupFilter, span_of
from gateway.stores.records.sums import DRAWN, steps_of, sums
from gateway.stores.records.tables import row_of
from tests.stores.conftest import Place
from tests.stores.samples import START_S, mixed, record, row

START_US = START_S * 1_000_000
END_US = START_US + 86_400_000_000


def test_newest_columns_come_back_newest_first_and_say_whether_they_are_all(place: Place) -> None:
    place.store.write(Batch([row(n, cost=None if n % 2 else n / 8) for n in range(30)]))
    found = newest(place.queries.run, ("id", "cost", "cached_tokens"), START_US, END_US, 10)
    assert (len(found), found.whole) == (10, False)
    assert found.texts("id") == [f"r-{n}" for n in range(29, 19, -1)]
    costs = found.floats("cost")
    assert np.isnan(costs[::2]).all()
    assert costs[1::2].tolist() == [n / 8 for n in range(28, 19, -2)]
    assert np.isnan(found.floats("cached_tokens")).all()
    assert found.oldest_us == START_US + 20_000_000
    assert newest(place.queries.run, ("id",), START_US, END_US, 30).whole
    assert newest(place.queries.run, ("id",), START_US, START_US + 5_000_001).texts("id")[0] == "r-5"


def test_unknown_columns_and_empty_spans_are_no_error(place: Place) -> None:
    place.store.write(Batch([row(1)]))
    found = newest(place.queries.run, ("no_such_column", "cost; DROP TABLE record"), START_US, END_US)
    assert list(found.values) == ["at_us"]
    assert np.isnan(found.floats("no_such_column")).tolist() == [True]
    empty = newest(place.queries.run, ("cost",), 0, 1)
    assert (len(empty), empty.whole, empty.oldest_us, empty.floats("cost").shape) == (0, True, None, (0,))


def test_sums_by_the_database_are_those_of_the_rows(place: Place) -> None:
    rows = mixed(400, step_s=30)
    place.store.write(Batch([row_of(one) for one in rows]))
    wanted = RollupFilter(START_S, START_S + 86_400)
    expected = Counter((one.domain, one.chosen) for one in rows)
    found = sums(place.queries.run, wanted, ("domain", "chosen"))
    assert {one.names: one["requests"] for one in found} == expected
    by_hour: dict[int, float] = defaultdict(float)
    for one in rows:
        by_hour[microseconds(one.timestamp) // 3_600_000_000 * 3_600] += one.cost or 0.0
    over_time = sums(place.queries.run, wanted, over_time=True, points=100)
    assert {one.at_s: pytest.approx(one["cost"]) for one in over_time} == by_hour
    assert [one.names for one in over_time] == [()] * len(by_hour)
    (math,) = sums(place.queries.run, RollupFilter(START_S, START_S + 86_400, domain="math"))
    assert math["requests"] == sum(one.domain == "math" for one in rows)


def test_sums_of_nothing_are_no_sums(place: Place) -> None:
    place.store.write(Batch([row(1)]))
    wanted = RollupFilter(START_S - 86_400, START_S - 7_200)
    assert sums(place.queries.run, wanted) == []
    assert sums(place.queries.run, wanted, ("chosen",), over_time=True) == []


def test_price_changes_are_seen_where_they_happen(place: Place) -> None:
    versions = ["old"] * 50 + ["new"] * 50 + ["newest"] * 20
    rows = [row_of(record(n * 60, price_version=version)) for n, version in enumerate(versions)]
    place.store.write(Batch(rows))
    until_us = START_US + len(rows) * 60_000_000
    changes = price_changes(place.queries.run, START_US, until_us)
    assert [version for _, version in changes] == ["new", "newest"]
    step_s = len(rows) * 60 / 48
    assert [at / 1e6 - START_S for at, _ in changes] == [
        pytest.approx(3_000, abs=step_s + 60),
        pytest.approx(6_000, abs=step_s + 60),
    ]
    assert price_changes(place.queries.run, 0, 1_000) == []
    assert price_changes(place.queries.run, START_US, START_US + 1) == []


@given(st.integers(0, 2**32), st.integers(1, 800 * 86_400))
def test_steps_cover_the_span_in_whole_rollups_and_are_few(since_s: int, length_s: int) -> None:
    until_s = since_s + length_s
    steps = steps_of(since_s, until_s)
    assert steps.since_s <= since_s < until_s <= steps.until_s
    assert steps.since_s % steps.step_s == steps.until_s % steps.step_s == steps.step_s % steps.span_s == 0
    assert (steps.until_s - steps.since_s) // steps.step_s <= DRAWN + 2
    assert steps.start_of(since_s) == steps.since_s
    assert span_of(steps.wanted, steps.points) == steps.span_s
