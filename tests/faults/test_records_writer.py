"""The writer of records under bad stores: full, stalled, failing, refusing, closed, killed. Requests never notice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.record_writer import RecordWriter
from gateway.stores.records import Batch, RecordsUnavailable, Retention, RowsRefused
from gateway.stores.records.queries import RecordFilter, RollupFilter
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.sqlite_reader import sqlite_queries
from tests.stores.samples import START_S, record


@dataclass
class FaultyStore:
    """A store in memory that fails as it is told: the fault is injected, all else is the writer's own."""

    fault: Callable[[Batch], object] = lambda batch: None
    rows: dict[tuple[int, str], int] = field(default_factory=dict)
    events: list[tuple[str, object]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    retained: int = 0
    closed: bool = False

    def write(self, batch: Batch) -> None:
        self.fault(batch)
        self.sizes.append(len(batch.rows))
        for row in batch.rows:
            self.rows[row.key] = self.rows.get(row.key, 0) + 1
        self.events += [(event.kind, event.detail.get("rows")) for event in batch.events]

    def retain(self, rules: Retention, now_us: int) -> int:
        self.retained += 1
        return 0

    def close(self) -> None:
        self.closed = True


def wait_for(done: Callable[[], bool], limit_s: float = 10) -> None:
    until = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.01)


def test_clean_stop_loses_nothing_and_closes_the_store() -> None:
    store = FaultyStore()
    with RecordWriter(store) as writer:
        assert all(writer.put(record(n)) for n in range(3_000))
    assert (len(store.rows), store.closed, max(store.sizes)) == (3_000, True, 500)
    assert writer.state().written == 3_000
    assert not writer.put(record())


def test_lone_request_is_written_soon() -> None:
    store = FaultyStore()
    with RecordWriter(store) as writer:
        writer.put(record())
        wait_for(lambda: bool(store.rows), 1)


@pytest.mark.row("E1")
def test_full_queue_drops_the_newest_and_tells_one_gap() -> None:
    open_again = threading.Event()
    store = FaultyStore(lambda batch: open_again.wait(10))
    with RecordWriter(store, queue_rows=1_000) as writer:
        writer.put(record(0))
        wait_for(lambda: writer.state().queued == 0)  # the thread hangs with the first
        taken = [writer.put(record(n)) for n in range(1, 1_501)]
        assert taken == [True] * 1_000 + [False] * 500
        open_again.set()
        wait_for(lambda: bool(store.events))
        wait_for(lambda: writer.state().written == 1_001)
    assert store.events == [("gap", 500)]
    assert writer.state().dropped == 500


def test_long_names_fill_the_queue_by_bytes() -> None:
    hang = threading.Event()
    store = FaultyStore(lambda batch: hang.wait(10))
    with RecordWriter(store, queue_bytes=100_000) as writer:
        taken = sum(writer.put(record(n, request_model="m" * 10_000)) for n in range(100))
        assert 3 < taken < 8
        hang.set()
    assert writer.state().queued_bytes == 0


@pytest.mark.row("E1")
def test_failing_store_gets_the_same_batch_until_it_recovers() -> None:
    tries: list[list[str]] = []

    def fault(batch: Batch) -> None:
        tries.append([row.id for row in batch.rows])
        if len(tries) < 4:
            raise RecordsUnavailable("down")

    store = FaultyStore(fault)
    with RecordWriter(store) as writer:
        for n in range(10):
            writer.put(record(n))
        wait_for(lambda: len(tries) >= 2)
        assert writer.state().failing == "down"
        writer.put(record(99))
        wait_for(lambda: len(store.rows) == 11)
        assert writer.state().failing is None
    assert tries[0] == tries[1] == tries[2] == tries[3]
    assert set(store.rows.values()) == {1}


@pytest.mark.parametrize("error", [RowsRefused("bad"), ValueError("a mistake of ours")])
def test_one_bad_row_costs_only_itself(error: Exception) -> None:
    def fault(batch: Batch) -> None:
        if any(row.id == "r-7" for row in batch.rows):
            raise error

    store = FaultyStore(fault)
    with RecordWriter(store) as writer:
        for n in range(20):
            writer.put(record(n))
        wait_for(lambda: len(store.rows) == 19)
    assert (writer.state().refused, writer.state().written) == (1, 19)


def test_record_that_cannot_become_a_row_does_not_end_the_thread() -> None:
    store = FaultyStore()
    with RecordWriter(store) as writer:
        writer.put(record(1, timestamp=record(1).timestamp.replace(tzinfo=None)))
        writer.put(record(2))
        wait_for(lambda: len(store.rows) == 1)
    assert (writer.state().refused, writer.state().written) == (1, 1)


def test_closing_gives_up_on_a_store_that_is_down() -> None:
    def fault(batch: Batch) -> None:
        raise RecordsUnavailable("down")

    writer = RecordWriter(FaultyStore(fault))
    writer.__enter__()
    writer.put(record())
    began = time.monotonic()
    writer.close(0.5)
    assert time.monotonic() - began < 1.5


@pytest.mark.row("E7")
def test_retention_runs_beside_the_load() -> None:
    store = FaultyStore()
    with RecordWriter(store, Retention()) as writer:
        for n in range(2_000):
            writer.put(record(n))
        wait_for(lambda: store.retained > 0)


@pytest.mark.row("E4")
async def test_loop_does_not_wait_for_a_stalled_store() -> None:
    hang = threading.Event()
    with RecordWriter(FaultyStore(lambda batch: hang.wait(20))) as writer:
        longest, last = 0.0, time.perf_counter()
        for n in range(15_000):
            writer.put(record(n))
            if n % 50 == 0:
                await asyncio.sleep(0)
                longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        hang.set()
    assert longest < 0.1


KILLED = """
import sys
from gateway.record_writer import RecordWriter
from gateway.stores.records.sqlite import SqliteRecords
from tests.stores.samples import record
import time
with RecordWriter(SqliteRecords(sys.argv[1])) as writer:
    number = 0
    while True:
        for _ in range(20):
            writer.put(record(number)); number += 1
        print(number, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.row("D3")
@pytest.mark.slow
def test_killed_process_loses_at_most_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    put, began = 0, 0.0
    for line in process.stdout:
        put, began = int(line), began or time.monotonic()
        if time.monotonic() - began > 2:
            break
    process.send_signal(signal.SIGKILL)
    put = max([put, *[int(line) for line in process.stdout.read().split()]])
    process.wait()
    process.stdout.close()
    queries = sqlite_queries(str(path))
    rows = [int(row["id"].removeprefix("r-")) for row in queries.every(RecordFilter())]
    (total,) = queries.totals(RollupFilter(START_S, START_S + 10**6))
    assert sorted(rows) == list(range(len(rows)))  # a head without holes
    assert total.sums["requests"] == len(rows)
    assert put - len(rows) <= 2_000  # 200 ms of this load are 400; a busy machine gets some more
    with RecordWriter(SqliteRecords(str(path))) as writer:  # the dead process holds no lock
        assert writer.put(record(10**6))
    assert queries.find(f"r-{10**6}") is not None
