"""The two stores of records, each with an empty place of its own for every test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.stores.records import RecordStore
from gateway.stores.records.postgres import PostgresRecords
from gateway.stores.records.postgres_connection import postgres_queries
from gateway.stores.records.queries import Queries
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.sqlite_reader import sqlite_queries
from tests.stores.servers import Postgres, binaries


@dataclass(frozen=True, slots=True)
class Place:
    """One database, and how to open it once more."""

    kind: str
    address: str
    store: RecordStore
    queries: Queries
    another: Callable[[], RecordStore]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; skips where Debian's package is not installed (`deploy/ci/servers.sh`)."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed; deploy/ci/servers.sh installs it")
    with closing(Postgres(programs)) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])  # the latter starts a server
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    store: RecordStore
    if request.param == "sqlite":
        path = str(tmp_path / "records.db")
        store = SqliteRecords(path, group="tests")
        found = Place("sqlite", path, store, sqlite_queries(path), lambda: SqliteRecords(path, group="tests"))
    else:
        server: Postgres = request.getfixturevalue("postgres")
        address = server.create(f"records_{uuid.uuid4().hex}")
        store = PostgresRecords(address)
        found = Place("postgres", address, store, postgres_queries(address), lambda: PostgresRecords(address))
    with closing(store):
        yield found
