"""PostgreSQL down at the start, killed while written to, stalled, or of a newer version. Nothing comes twice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from gateway.record_writer import RecordWriter
from gateway.stores.records import Batch, RecordsUnavailable
from gateway.stores.records.postgres import PostgresRecords
from gateway.stores.records.postgres_connection import postgres_queries
from gateway.stores.records.queries import RecordFilter, RollupFilter
from gateway.stores.sqlite import StoreError
from tests.faults.test_records_writer import wait_for
from tests.stores.conftest import postgres as postgres
from tests.stores.samples import START_S, record, row
from tests.stores.servers import Postgres, binaries

pytestmark = pytest.mark.slow  # starts servers


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that the test may kill."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed; deploy/ci/servers.sh installs it")
    with closing(Postgres(programs)) as server:
        yield server


@pytest.mark.row("E3")
@pytest.mark.slow
def test_server_down_at_start_and_killed_meanwhile_ends_with_every_row_once(own_server: Postgres) -> None:
    address = own_server.create("records")
    own_server.stop()
    store = PostgresRecords(address)
    store.check()  # says nothing: it may come up
    with RecordWriter(store) as writer:
        for n in range(1_200):
            writer.put(record(n))
        wait_for(lambda: writer.state().failing is not None)
        own_server.start()
        wait_for(lambda: writer.state().written >= 1_200, 20)
        for n in range(1_200, 4_000):
            writer.put(record(n))
            if n == 2_500:
                own_server.stop()  # at once, with a batch under way or waiting
        wait_for(lambda: writer.state().failing is not None)
        own_server.start()
        wait_for(lambda: writer.state().written >= 4_000, 20)
    queries = postgres_queries(address)
    (total,) = queries.totals(RollupFilter(START_S, START_S + 10**6))
    assert total.sums["requests"] == 4_000
    assert len(list(queries.every(RecordFilter()))) == 4_000
    assert writer.state().dropped == 0


@pytest.mark.row("E3")
def test_commit_whose_answer_was_lost_changes_nothing_the_second_time(postgres: Postgres) -> None:
    address = postgres.create(f"records_{uuid.uuid4().hex}")
    batch = Batch([row(n) for n in range(100)])
    with closing(PostgresRecords(address)) as store:
        store.write(batch)
        with psycopg.connect(address, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(RecordsUnavailable):
            store.write(batch)
        store.write(batch)
    (total,) = postgres_queries(address).totals(RollupFilter(START_S, START_S + 10**6))
    assert total.sums["requests"] == 100


@pytest.mark.row("E4")
def test_locked_tables_stall_the_thread_and_not_the_caller(postgres: Postgres) -> None:
    address = postgres.create(f"records_{uuid.uuid4().hex}")
    store = PostgresRecords(address)
    store.write(Batch([row(-1)]))
    with RecordWriter(store) as writer:
        with psycopg.connect(address) as other:
            other.execute("LOCK TABLE pointsman.record IN ACCESS EXCLUSIVE MODE")
            began = time.perf_counter()
            for n in range(2_000):
                writer.put(record(n))
            assert time.perf_counter() - began < 1
            time.sleep(0.5)
            assert writer.state().written == 0
        wait_for(lambda: writer.state().written == 2_000, 20)


@pytest.mark.row("D13")
def test_newer_schema_is_refused(postgres: Postgres) -> None:
    address = postgres.create(f"records_{uuid.uuid4().hex}")
    with closing(PostgresRecords(address)) as store:
        store.check()
    with psycopg.connect(address, autocommit=True) as other:
        other.execute("UPDATE pointsman.schema_version SET version = 99")
    with closing(PostgresRecords(address)) as store, pytest.raises(StoreError, match="version 99"):
        store.check()


def test_dropped_partition_and_dropped_schema_come_back(postgres: Postgres) -> None:
    address = postgres.create(f"records_{uuid.uuid4().hex}")
    with closing(PostgresRecords(address)) as store, RecordWriter(store) as writer:
        store.write(Batch([row(0)]))
        with psycopg.connect(address, autocommit=True) as other:
            other.execute("DROP SCHEMA pointsman CASCADE")
        writer.put(record(1))
        wait_for(lambda: writer.state().written == 1)
    assert postgres_queries(address).find("r-1") is not None


def test_messages_hold_no_address() -> None:
    store = PostgresRecords("postgresql://me:canary-secret@127.0.0.1:1/x")
    with pytest.raises(RecordsUnavailable) as caught:
        store.write(Batch([row(0)]))
    assert "canary" not in str(caught.value)
