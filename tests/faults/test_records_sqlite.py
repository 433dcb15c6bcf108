"""A SQLite file of records: disk full, deleted, broken, foreign, locked, read for long. It recovers or says why not."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.stores.records import Batch, QueryTooSlow, RecordsUnavailable, Retention, RowsRefused
from gateway.stores.records.contract import RecordRow
from gateway.stores.records.queries import RecordFilter
from gateway.stores.records.retention import size_bytes
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.sqlite_reader import sqlite_queries
from gateway.stores.records.tables import COLUMNS, row_of
from gateway.stores.sqlite import StoreError
from tests.stores.samples import START_S, mixed, row

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


def count(path: Path) -> int:
    return len(list(sqlite_queries(str(path)).every(RecordFilter())))


def kinds(path: Path) -> list[str]:
    return [event["kind"] for event in sqlite_queries(str(path)).events()]


def write_many(store: SqliteRecords, rows: int) -> None:
    for first in range(1, rows, 500):
        store.write(Batch([row(n) for n in range(first, first + 500)]))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files may not grow beyond `size`: a write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.row("E1")
def test_full_disk_fails_and_the_same_batch_passes_later(path: Path) -> None:
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(0)]))
        batch = Batch([row(n, error="x" * 400) for n in range(1, 500)])
        with full_disk(100_000), pytest.raises(RecordsUnavailable):
            store.write(batch)
        store.write(batch)
    assert count(path) == 500


@pytest.mark.row("E2")
def test_deleted_file_is_made_anew_with_an_event(path: Path) -> None:
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(0)]))
        for name in ("", "-wal", "-shm"):
            Path(f"{path}{name}").unlink(missing_ok=True)
        store.write(Batch([row(1)]))
        assert count(path) == 1
    assert kinds(path) == ["store_missing"]


@pytest.mark.parametrize("damage", ["all", "head"])
@pytest.mark.row("E2")
def test_corrupt_file_is_moved_aside_with_an_event(path: Path, damage: str) -> None:
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(n) for n in range(300)]))
    garbage = b"\xff" * (path.stat().st_size if damage == "all" else 100)
    with open(path, "r+b") as file:
        file.write(garbage)
    with closing(SqliteRecords(str(path))) as store:
        store.check()
        store.write(Batch([row(500)]))
        assert count(path) == 1
    assert kinds(path) == ["store_moved_aside"]
    (aside,) = path.parent.glob("*.corrupt-*")
    assert aside.read_bytes().startswith(garbage)


@pytest.mark.row("E2")
def test_file_that_rots_while_in_use_is_moved_aside(path: Path) -> None:
    records = mixed(12_000)
    with closing(SqliteRecords(str(path))) as store:
        for first in range(0, 10_000, 500):
            store.write(Batch([row_of(record) for record in records[first : first + 500]]))
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(1)]))
        size = path.stat().st_size
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        last = Batch([row_of(record) for record in records[10_000:]])
        with pytest.raises(RecordsUnavailable, match="SQLITE_CORRUPT"):
            store.write(last)
        store.write(last)
        assert count(path) == 2_000
    assert kinds(path) == ["store_moved_aside"]


def test_what_is_not_ours_is_never_moved(path: Path) -> None:
    path.write_text("generalist: {model: x}\n" * 100)
    for _ in range(2):
        with closing(SqliteRecords(str(path))) as store, pytest.raises(StoreError):
            store.check()
    assert path.read_text().startswith("generalist")


@pytest.mark.row("D13")
def test_newer_schema_is_refused(path: Path) -> None:
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(0)]))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
        connection.commit()
    with closing(SqliteRecords(str(path))) as store, pytest.raises(StoreError, match="use a newer one"):
        store.check()


@pytest.mark.row("E9")
def test_second_gateway_is_refused_and_a_worker_is_not(path: Path) -> None:
    with closing(SqliteRecords(str(path), group="one")) as first:
        first.check()
        refused = pytest.raises(StoreError, match=f"another gateway writes to it .process {os.getpid()}")
        with closing(SqliteRecords(str(path), group="two")) as other, refused:
            other.check()
        with closing(SqliteRecords(str(path), group="one")) as worker:
            worker.write(Batch([row(1)]))
            first.write(Batch([row(2)]))
    with closing(SqliteRecords(str(path), group="two")) as other:
        other.write(Batch([row(3)]))
    assert count(path) == 3


def test_lock_of_another_process_ends_with_it(path: Path) -> None:
    code = "import sys,time; from gateway.stores.records.sqlite import SqliteRecords as S; "
    code += "s=S(sys.argv[1]); s.check(); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with closing(SqliteRecords(str(path))) as store, pytest.raises(StoreError, match=f"process {process.pid}"):
        store.check()
    process.kill()
    process.wait()
    process.stdout.close()
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(1)]))


@pytest.mark.row("E8")
def test_reader_with_a_snapshot_bounds_the_log_instead_of_the_disk(path: Path) -> None:
    limit = 4 * 2**20
    with closing(SqliteRecords(str(path), wal_limit_bytes=limit)) as store:
        store.write(Batch([row(0)]))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM record").fetchone()
            with pytest.raises(RecordsUnavailable, match="wal_full"):
                write_many(store, 100_000)
            assert Path(f"{path}-wal").stat().st_size < limit + 2**21
        store.write(Batch([row(-1)]))
        assert Path(f"{path}-wal").stat().st_size < limit
    assert sqlite_queries(str(path)).find("r--1") is not None


def test_row_that_cannot_be_stored_is_refused_and_leaves_nothing(path: Path) -> None:
    huge = RecordRow(2, "huge", (2, "huge", *[2**70] * (len(COLUMNS) - 2)))
    with closing(SqliteRecords(str(path))) as store:
        store.write(Batch([row(0)]))
        with pytest.raises(RowsRefused):
            store.write(Batch([row(1), huge]))
    assert count(path) == 1


def test_query_that_takes_too_long_is_cut(path: Path) -> None:
    with closing(SqliteRecords(str(path))) as store:
        for first in range(0, 5_000, 500):
            store.write(Batch([row(n) for n in range(first, first + 500)]))
    with pytest.raises(QueryTooSlow):
        sqlite_queries(str(path), query_s=0).page(RecordFilter(key="nobody"))


def test_missing_file_is_unavailable_to_readers(path: Path) -> None:
    with pytest.raises(RecordsUnavailable):
        sqlite_queries(str(path)).page(RecordFilter())


def test_file_is_private_and_gives_space_back(path: Path) -> None:
    with closing(SqliteRecords(str(path))) as store:
        for first in range(0, 5_000, 500):
            store.write(Batch([row(n, error="x" * 400) for n in range(first, first + 500)]))
        store.retain(Retention(), START_S * 1_000_000)
        assert path.stat().st_mode & 0o777 == 0o600
        steps = 0
        while store.retain(Retention(rows_s=0, minutes_s=0, hours_s=0), (START_S + 10**6) * 1_000_000):
            steps += 1
        assert steps >= 6
    with closing(sqlite3.connect(path)) as connection:
        assert size_bytes(connection) < 200_000
    assert path.stat().st_size < 1_000_000
