"""The store of keys, on SQLite and on PostgreSQL: the same answers, and no secret in either."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from gateway.keyring import make
from gateway.stores.keys import KeyRow, KeyStore, NameTaken, NoSuchKey, Space, StoreUnavailable
from gateway.stores.keys.contract import Database
from gateway.stores.keys.postgres import PostgresKeys
from gateway.stores.keys.sqlite import SqliteKeys
from gateway.stores.sqlite import StoreError


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return SqliteKeys(str(tmp_path / "keys.db"))
    address = request.getfixturevalue("postgres").create(f"keys_{uuid.uuid4().hex}")
    return PostgresKeys(address)


@pytest.fixture
def store(database: Database) -> KeyStore:
    return KeyStore(database)


def put(store: KeyStore, name: str, space: Space = Space.KEY, *, at: float = 100.0, **fields: float) -> str:
    """Add a key. Returns its secret."""
    made = make(space)
    store.add(replace(KeyRow(made.prefix, space, name, "{}", at), **fields), made.row(at))  # type: ignore[arg-type]  # floats
    return made.token


def test_what_was_added_is_read_back(store: KeyStore) -> None:
    made = make(Space.KEY)
    key = KeyRow(made.prefix, Space.KEY, "team-a", '{"experts":["math"]}', 100.5, 200.25)
    store.add(key, made.row(100.5))
    stored = store.load()
    assert stored.keys == (key,)
    assert [(secret.digest, secret.id, secret.prefix, secret.expires_at) for secret in stored.secrets] == [
        (made.digest, made.prefix, made.prefix, None)
    ]
    assert stored.mark == store.mark()


def test_mark_changes_with_every_change_but_not_with_use(store: KeyStore) -> None:
    marks = [store.mark()]
    put(store, "a")
    marks.append(store.mark())
    store.rotate(Space.KEY, "a", make(Space.KEY).row(110), grace_s=5)
    marks.append(store.mark())
    store.revoke(Space.KEY, "a", 120)
    marks.append(store.mark())
    assert len(set(marks)) == len(marks)
    store.touch({store.load().keys[0].id: 130.0})
    assert store.mark() == marks[-1]


def test_name_is_taken_for_ever_in_its_space_only(store: KeyStore) -> None:
    put(store, "a")
    put(store, "a", Space.ADMIN)
    store.revoke(Space.KEY, "a", 110)
    before = store.load()
    with pytest.raises(NameTaken):
        put(store, "a")
    assert store.load() == before


@pytest.mark.parametrize("name", ["x'; DROP TABLE access_key; --", '"', "%", "a\0b"[:1], "?", "%s", "ключ"])
def test_h5_names_are_data_whatever_they_hold(store: KeyStore, name: str) -> None:
    put(store, name)
    put(store, "other")
    assert store.revoke(Space.KEY, name, 110) is True
    assert [(key.name, key.revoked_at) for key in store.load().keys if key.name == name] == [(name, 110.0)]
    assert next(key for key in store.load().keys if key.name == "other").revoked_at is None


def test_rotation_ends_the_old_secret_after_the_grace(store: KeyStore) -> None:
    put(store, "a")
    made = make(Space.KEY)
    store.rotate(Space.KEY, "a", made.row(200), grace_s=50)
    old, new = store.load().secrets
    assert (old.expires_at, new.expires_at) == (250.0, None)
    assert (new.id, new.digest) == (old.id, made.digest)


def test_second_rotation_does_not_prolong_the_first_secret(store: KeyStore) -> None:
    put(store, "a")
    store.rotate(Space.KEY, "a", make(Space.KEY).row(200), grace_s=50)
    store.rotate(Space.KEY, "a", make(Space.KEY).row(210), grace_s=1_000)
    assert [secret.expires_at for secret in store.load().secrets] == [250.0, 1_210.0, None]


def test_rotation_of_what_is_over_is_refused_or_renews_it(store: KeyStore) -> None:
    put(store, "old", expires_at=150.0)
    put(store, "gone")
    store.revoke(Space.KEY, "gone", 110)
    for name in ("old", "gone", "nobody"):
        with pytest.raises(NoSuchKey):
            store.rotate(Space.KEY, name, make(Space.KEY).row(200), grace_s=0)
    assert len(store.load().secrets) == 2
    store.rotate(Space.KEY, "old", make(Space.KEY).row(200), grace_s=0, expires_at=300.0)
    assert next(key.expires_at for key in store.load().keys if key.name == "old") == 300.0


def test_revoking_is_final_and_once(store: KeyStore) -> None:
    put(store, "a")
    assert store.revoke(Space.KEY, "a", 110) is True
    assert store.revoke(Space.KEY, "a", 999) is False
    assert store.load().keys[0].revoked_at == 110.0
    with pytest.raises(NoSuchKey):
        store.revoke(Space.ADMIN, "a", 110)


def test_use_is_noted_and_never_goes_back(store: KeyStore) -> None:
    put(store, "a")
    identity = store.load().keys[0].id
    store.touch({identity: 500.0, "nobody": 500.0})
    store.touch({identity: 400.0})
    store.touch({})
    assert store.load().keys[0].last_used_at == 500.0


def test_many_at_once_make_one_key_of_a_name(store: KeyStore) -> None:
    def try_it(_: int) -> bool:
        try:
            put(store, "a")
        except NameTaken:
            return False
        return True

    store.check()
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(try_it, range(16))) == 1
    assert len(store.load().keys) == len(store.load().secrets) == 1


def test_two_processes_may_use_and_note_at_once(database: Database) -> None:
    stores = [KeyStore(database) for _ in range(4)]
    for number in range(20):
        put(stores[0], f"k{number}")
    used = {key.id: 500.0 for key in stores[0].load().keys}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda store: store.touch(used), stores))
    assert {key.last_used_at for key in stores[0].load().keys} == {500.0}


def test_postgres_that_is_down_may_come_back_and_its_address_is_not_told() -> None:
    store = KeyStore(PostgresKeys("postgresql://canary-user:canary-secret@127.0.0.1:1/canary-name"))
    store.check()
    with pytest.raises(StoreUnavailable) as caught:
        store.load()
    assert "canary" not in str(caught.value)


def test_newer_version_in_postgres_is_refused(request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("postgres").create(f"keys_{uuid.uuid4().hex}")
    KeyStore(PostgresKeys(address)).check()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("UPDATE pointsman.schema_version SET version = 99 WHERE name = 'keys'")
    with pytest.raises(StoreError, match="version 99"):
        KeyStore(PostgresKeys(address)).check()
