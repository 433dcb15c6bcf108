"""Measures the stores of records: rows written per second, the cost of `put`, and queries on many rows.

    python -m deploy.benchmarks.record_stores sqlite:/tmp/records.db --rows 1000000
    python -m deploy.benchmarks.record_stores postgresql://postgres@127.0.0.1/records --rows 200000

The rows are made up, spread over `--days`. The file or database should be empty; it is not deleted.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from gateway.context import Attempt, RouteRecord
from gateway.record_writer import RecordWriter
from gateway.stores.records import Batch, RecordStore
from gateway.stores.records.queries import Queries, RecordFilter, RollupFilter
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.sqlite_reader import sqlite_queries
from gateway.stores.records.tables import row_of
from tests.stores.samples import START_S, mixed

BATCH_ROWS = 500
RUNS = 5


def main() -> None:
    """Write, then ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--days", type=float, default=14)
    given = parser.parse_args()
    store, queries = _opened(given.place)
    _measure_put(store)
    store, queries = _opened(given.place)
    _measure_writes(store, given.rows, given.days)
    _measure_queries(queries, int(given.days * 86_400))
    store.close()


def _opened(place: str) -> tuple[RecordStore, Queries]:
    if place.startswith("sqlite:"):
        path = place.removeprefix("sqlite:")
        return SqliteRecords(path), sqlite_queries(path)
    from gateway.stores.records.postgres import PostgresRecords
    from gateway.stores.records.postgres_connection import postgres_queries

    return PostgresRecords(place), postgres_queries(place)


def _measure_put(store: RecordStore) -> None:
    records, tries = mixed(9_000, seed=1), [Attempt("math", "http://math:8000", "ok", 200)]
    writer = RecordWriter(store)
    began = time.perf_counter()
    for record in records:
        writer.put(record, tries)
    took = time.perf_counter() - began
    print(f"put, thread not running: {took / len(records) * 1e6:.2f} us")
    began, used = time.perf_counter(), time.process_time()
    with writer:
        pass
    print(
        f"writer: {len(records) / (time.perf_counter() - began):,.0f} rows/s with one attempt each, "
        f"{(time.process_time() - used) / len(records) * 1e6:.0f} us of CPU a row; {writer.state()}"
    )


def _traffic(rows: int, days: float) -> Iterator[RouteRecord]:
    """Repeat some traffic with other ids and times, in ascending order, from the samples' start on."""
    chance, base = random.Random(3), mixed(20_000)
    step = timedelta(days=days) / rows
    for number in range(rows):
        record = base[number % len(base)]
        yield replace(record, request_id=f"{chance.getrandbits(128):032x}", timestamp=base[0].timestamp + number * step)


def _measure_writes(store: RecordStore, rows: int, days: float) -> None:
    tries = [Attempt("math", "http://math:8000", "ok", 200)]
    batch, spent, slowest = [], 0.0, 0.0
    for record in _traffic(rows, days):
        batch.append(row_of(record, tries))
        if len(batch) == BATCH_ROWS:
            began = time.perf_counter()
            store.write(Batch(batch))
            took = time.perf_counter() - began
            spent, slowest, batch = spent + took, max(slowest, took), []
    print(f"{rows:,} rows over {days:g} days: {rows / spent:,.0f} rows/s, slowest batch {slowest * 1e3:.0f} ms")


def _measure_queries(queries: Queries, span_s: int) -> None:
    end_s = START_S + span_s
    middle = RecordFilter(until_us=(START_S + span_s // 2) * 1_000_000)
    cursor = queries.page(middle, limit=50).next
    day, all_of_it = RollupFilter(end_s - 43_200, end_s), RollupFilter(START_S, end_s)
    some_id = queries.page(middle).rows[0]["id"]
    asked: dict[str, Callable[[], object]] = {
        "first page": lambda: queries.page(RecordFilter()),
        "page in the middle": lambda: queries.page(middle, cursor),
        "page of one key": lambda: queries.page(RecordFilter(key="team-3")),
        "page of errors": lambda: queries.page(RecordFilter(status_class=5)),
        "filter that nothing fits": lambda: queries.page(RecordFilter(key="nobody")),
        "one request": lambda: queries.find(some_id),
        "series of 12 h by expert": lambda: [p.described() for p in queries.series(day, by="chosen")],
        "series of all by expert": lambda: [p.described() for p in queries.series(all_of_it, by="chosen")],
        "totals of all by domain": lambda: [p.described() for p in queries.totals(all_of_it, by="domain")],
        "facets": queries.facets,
    }
    for name, ask in asked.items():
        times = []
        for _ in range(RUNS):
            began = time.perf_counter()
            ask()
            times.append((time.perf_counter() - began) * 1e3)
        print(f"{name}: median {sorted(times)[RUNS // 2]:.1f} ms, worst {max(times):.1f} ms")


if __name__ == "__main__":
    main()
