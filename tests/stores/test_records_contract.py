"""What every store of records does, on real databases: nothing twice, nothing lost, rollups equal to the rows."""

from __future__ import annotations

import math
import threading
from collections import Counter
from contextlib import closing
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.context import Attempt, RouteRecord
from gateway.stores.records import Batch, EventRow, Retention
from gateway.stores.records.queries import BadCursor, RecordFilter, RollupFilter
from gateway.stores.records.tables import COLUMNS, row_of
from tests.stores.conftest import Place
from tests.stores.samples import START_S, mixed, record, row

DAY_S = 86_400
AROUND = RollupFilter(START_S - DAY_S, START_S + DAY_S)


def requests_in(place: Place) -> float:
    return sum(point.sums["requests"] for point in place.queries.totals(AROUND))


def test_row_comes_back_as_it_was_written(place: Place) -> None:
    tries = [Attempt("math", "http://a:1", "connect", None), Attempt("generalist", "http://b:2", "ok", 200)]
    place.store.write(Batch([row_of(record(1, stream=True, excluded={"law": "forbidden"}, attempts=2), tries)]))
    found = place.queries.find("r-1")
    assert found is not None
    assert (found["stream"], found["rewritten"], found["excluded"]) == (True, False, {"law": "forbidden"})
    assert (found["confidence"], found["cost"], found["baseline_cost"]) == (0.91, 0.00002, None)
    assert found["at_us"] == (START_S + 1) * 1_000_000
    assert [(t["n"], t["expert"], t["outcome"], t["status"]) for t in found["tries"]] == [
        (1, "math", "connect", None),
        (2, "generalist", "ok", 200),
    ]


def test_every_field_of_a_record_has_a_column() -> None:
    renamed = {"request_id": "id", "timestamp": "at_us"}
    assert {renamed.get(field.name, field.name) for field in fields(RouteRecord)} <= set(COLUMNS)


def test_batch_written_again_changes_nothing(place: Place) -> None:
    batch = Batch([row(n) for n in range(20)], [EventRow("gap", {"rows": 3}, START_S * 1_000_000)])
    place.store.write(batch)
    place.store.write(batch)
    with closing(place.another()) as other:
        other.write(Batch([*batch.rows, row(20), row(20)], batch.events))
    assert len(place.queries.page(RecordFilter()).rows) == 21
    assert requests_in(place) == 21
    assert [event["detail"] for event in place.queries.events()] == [{"rows": 3}]


def test_rollups_are_equal_to_the_rows(place: Place) -> None:
    records = mixed(2_000, step_s=3)
    for start in range(0, 2_000, 500):
        place.store.write(Batch([row_of(r) for r in records[start : start + 500]]))
    for points in (2_000, 50, 1):
        series = place.queries.series(AROUND, by="chosen", points=points)
        expected = Counter(r.chosen for r in records)
        for chosen, count in expected.items():
            mine = [point for point in series if point.name == chosen]
            assert sum(point.sums["requests"] for point in mine) == count
            tokens = sum(r.input_tokens or 0 for r in records if r.chosen == chosen)
            assert sum(point.sums["input_tokens"] for point in mine) == tokens
            assert sum(sum(point.histograms()["duration"]) for point in mine) == count
    (total,) = place.queries.totals(AROUND)
    exact = sorted(r.duration_s for r in records)[1_000]
    assert total.described()["duration_p50"] == pytest.approx(exact, rel=0.1)
    assert total.sums["cost"] == pytest.approx(math.fsum(r.cost or 0 for r in records))


def test_two_writers_at_once_lose_no_count(place: Place) -> None:
    def write(first: int) -> None:
        with closing(place.another()) as store:
            for start in range(first, first + 200, 20):
                store.write(Batch([row(n) for n in range(start, start + 20)]))

    place.store.write(Batch([row(10_000)]))
    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 200, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert requests_in(place) == 601
    assert len(list(place.queries.every(RecordFilter()))) == 601


def test_pages_show_every_row_once_newest_first(place: Place) -> None:
    rows = [row_of(record(n // 3, request_id=f"r-{n:03}")) for n in range(50)]  # three share a time
    place.store.write(Batch(rows))
    found, cursor = [], None
    while True:
        page = place.queries.page(RecordFilter(), cursor, limit=7)
        found += [entry["id"] for entry in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert found == sorted((row.id for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (RecordFilter(domain="law"), 2),
        (RecordFilter(status_class=5), 1),
        (RecordFilter(key="team-b", chosen="math"), 1),
        (RecordFilter(confidence_from=0.9, confidence_below=0.95), 4),
        (RecordFilter(since_us=(START_S + 2) * 1_000_000, until_us=(START_S + 4) * 1_000_000), 2),
        (RecordFilter(policy="' OR 1=1 --"), 0),
        (RecordFilter(reason="confident"), 5),
    ],
)
def test_filters_find_what_fits(place: Place, wanted: RecordFilter, count: int) -> None:
    changes: list[dict[str, Any]] = [
        {"domain": "law"},
        {"status": 503, "domain": "law"},
        {"key": "team-b"},
        {"confidence": 0.2},
        {},
    ]
    place.store.write(Batch([row(n, **change) for n, change in enumerate(changes)]))
    assert len(place.queries.page(wanted).rows) == count


@pytest.mark.parametrize("cursor", ["", "x", "1", "99999999999999999999.a", "1.a b", "1.\0", "-1.a", "1.'; DROP TABLE"])
def test_cursor_of_nobody_is_refused_or_harmless(place: Place, cursor: str) -> None:
    place.store.write(Batch([row()]))
    if cursor == "":
        assert len(place.queries.page(RecordFilter(), cursor).rows) == 1
    else:
        with pytest.raises(BadCursor):
            place.queries.page(RecordFilter(), cursor)


def test_another_keys_request_is_not_found(place: Place) -> None:
    place.store.write(Batch([row(1)]))
    assert place.queries.find("r-1", key="team-b") is None
    assert place.queries.find("r-1", key="team-a") is not None


def test_id_given_twice_by_a_client_is_two_rows(place: Place) -> None:
    place.store.write(Batch([row(1, request_id="same"), row(2, request_id="same")]))
    found = place.queries.find("same")
    assert found is not None
    assert found["at_us"] == (START_S + 2) * 1_000_000
    assert requests_in(place) == 2


def test_facets_name_what_occurred(place: Place) -> None:
    place.store.write(Batch([row(1), row(2, domain=None, chosen="generalist")]))
    facets = place.queries.facets()
    assert (facets["domain"], facets["chosen"]) == (["math"], ["generalist", "math"])


@example(text="\0", number=-(10**30), real=math.nan, status=0)
@example(text="=\u2028", number=10**30, real=math.inf, status=700)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=600),
    number=st.integers(),
    real=st.floats(),
    status=st.integers(-1, 10**6),
)
def test_any_value_can_be_stored(place: Place, text: str, number: int, real: float, status: int) -> None:
    odd = record(
        5,
        request_id=f"odd-{abs(hash((text, number, real, status)))}",
        request_model=text,
        error="\ud800" + text,
        excluded={text: text} if text.isprintable() else {},
        input_tokens=number,
        confidence=real,
        margin=real,
        duration_s=real,
        time_to_first_byte_s=real,
        status=status,
    )
    place.store.write(Batch([row_of(odd, [Attempt(text, text, text, status)])]))
    assert place.queries.find(odd.request_id) is not None


def test_absurd_numbers_do_not_spoil_the_sums_of_those_after_them(place: Place) -> None:
    for number in range(4):
        place.store.write(Batch([row(number, input_tokens=10**30, cost=1e308, duration_s=1e308), row(number + 10)]))
    (point,) = place.queries.totals(AROUND)
    assert point.sums["requests"] == 8
    assert point.sums["input_tokens"] > 2**41
    assert math.isfinite(point.sums["cost"])


def test_retention_deletes_the_old_and_keeps_the_rest(place: Place) -> None:
    ages = [0, 1, 13, 16, 20]
    place.store.write(Batch([row(-DAY_S * age) for age in ages]))
    rules, now_us = Retention(minutes_s=15 * DAY_S), START_S * 1_000_000
    while place.store.retain(rules, now_us):
        pass
    assert len(place.queries.page(RecordFilter()).rows) == 3
    assert place.queries.find(f"r-{-DAY_S * 20}") is None
    long_ago = RollupFilter(START_S - 30 * DAY_S, START_S + DAY_S)
    assert sum(point.sums["requests"] for point in place.queries.totals(long_ago)) == 5
    by_minute = place.queries.series(RollupFilter(START_S - 21 * DAY_S, START_S + 1), points=10**6)
    assert len(by_minute) == 3


def test_full_store_drops_the_oldest_first(place: Place) -> None:
    for day in range(4):
        place.store.write(Batch([row_of(r) for r in mixed(500, seed=day)]))
        place.store.write(Batch([row(-DAY_S * (day + 1) + n, error="x" * 400) for n in range(2_500)]))
    removed = place.store.retain(Retention(max_bytes=1), START_S * 1_000_000)
    assert 0 < removed <= 1_000
    assert place.queries.find(f"r-{-DAY_S * 4}") is None
    assert place.queries.find(f"r-{-DAY_S}") is not None
