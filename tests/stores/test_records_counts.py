"""Counts of tries, errors and events: bounded, and equal to what was written, on real databases."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from gateway.context import Attempt
from gateway.stores.records import Batch, EventRow
from gateway.stores.records.counts import errors, events, tries
from gateway.stores.records.tables import row_of
from tests.stores.conftest import Place
from tests.stores.samples import START_S, mixed, record

SINCE_US, UNTIL_US = START_S * 1_000_000, (START_S + 3_600) * 1_000_000
OK, RESET = Attempt("math", "http://a:1", "ok", 200), Attempt("math", "http://b:2", "upstream_reset", None)


def test_tries_are_counted_by_server_and_outcome_with_the_newest_time(place: Place) -> None:
    place.store.write(Batch([row_of(record(n), [RESET, OK] if n % 3 == 0 else [OK]) for n in range(10)]))
    found = tries(place.queries.run, SINCE_US, UNTIL_US)
    counts = {(one.upstream, one.outcome): (one.count, one.last_us) for one in found.counts}
    assert counts == {
        ("http://a:1", "ok"): (10, SINCE_US + 9_000_000),
        ("http://b:2", "upstream_reset"): (4, SINCE_US + 9_000_000),
    }
    assert (found.looked_at, found.since_us, found.whole) == (14, SINCE_US, True)


def test_only_the_newest_tries_are_looked_at_and_it_says_so(place: Place) -> None:
    place.store.write(Batch([row_of(record(n), [OK if n >= 5 else RESET]) for n in range(10)]))
    found = tries(place.queries.run, SINCE_US, UNTIL_US, scan_rows=5)
    assert [(one.outcome, one.count) for one in found.counts] == [("ok", 5)]
    assert (found.looked_at, found.since_us, found.whole) == (5, SINCE_US + 5_000_000, False)


def test_what_lies_outside_the_span_is_not_counted(place: Place) -> None:
    place.store.write(Batch([row_of(record(n), [OK]) for n in (-1, 0, 3_599, 3_600)]))
    assert tries(place.queries.run, SINCE_US, UNTIL_US).looked_at == 2
    assert errors(place.queries.run, SINCE_US, UNTIL_US).looked_at == 2
    empty = tries(place.queries.run, 0, 1)
    assert (empty.counts, empty.looked_at, empty.since_us, empty.whole) == ([], 0, None, True)


def test_errors_are_counted_among_all_requests_looked_at(place: Place) -> None:
    rows = [record(n) for n in range(6)]
    rows += [record(n, error="upstream_reset", status=502, chosen=None) for n in range(6, 9)]
    rows += [record(9, error="invalid_request", status=400, chosen=None, decided=None)]
    place.store.write(Batch([row_of(one) for one in rows]))
    found = errors(place.queries.run, SINCE_US, UNTIL_US)
    assert [(one.error, one.status, one.decided, one.count) for one in found.counts] == [
        ("upstream_reset", 502, "math", 3),
        ("invalid_request", 400, "", 1),
    ]
    assert (found.looked_at, found.counts[0].last_us) == (10, SINCE_US + 8_000_000)


def test_counts_equal_those_of_the_rows(place: Place) -> None:
    codes = ("upstream_reset", "client_left", "a'b", None, None)
    traffic = [replace(one, error=codes[n % 5]) for n, one in enumerate(mixed(1_000))]
    place.store.write(Batch([row_of(one) for one in traffic]))
    found = errors(place.queries.run, 0, UNTIL_US)
    expected = Counter((one.error, one.status, one.decided) for one in traffic if one.error is not None)
    assert {(one.error, one.status, one.decided): one.count for one in found.counts} == expected
    assert found.looked_at == 1_000


def test_events_of_some_kinds_come_newest_first(place: Place) -> None:
    kinds = ("config", "upstream_ejected", "admin", "config")
    rows = [EventRow(kind, {"n": n}, SINCE_US + n * 1_000_000) for n, kind in enumerate(kinds)]
    place.store.write(Batch([], rows))
    found = events(place.queries.run, ("config", "upstream_ejected"), SINCE_US, UNTIL_US)
    assert [(event["kind"], event["detail"]["n"]) for event in found] == [
        ("config", 3),
        ("upstream_ejected", 1),
        ("config", 0),
    ]
    assert events(place.queries.run, ("config",), SINCE_US, UNTIL_US, limit=1)[0]["detail"] == {"n": 3}
    assert events(place.queries.run, (), SINCE_US, UNTIL_US) == []
    assert events(place.queries.run, ("x' OR '1'='1",), SINCE_US, UNTIL_US) == []
