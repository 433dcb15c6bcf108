"""Keys of a store in front of a running gateway: made, limited, rotated and revoked while it serves."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.keyring import Keyring, KeyWatch, make
from gateway.keyring.admin import AdminTokens
from gateway.settings import KeyStoreSettings
from gateway.stores.keys import KeyRow, KeyStore, Space
from gateway.stores.keys.sqlite import SqliteKeys
from gateway.stores.sqlite import StoreError
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import body_of
from tests.gateway.reloading import configured
from tests.waiting import until

pytestmark = pytest.mark.slow

StartTown = Callable[..., Awaitable[Town]]
SOON_S = 5.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keys.db")


def store_at(path: str) -> KeyStore:
    return KeyStore(SqliteKeys(path))


def put(path: str, name: str, terms: str = "{}", space: Space = Space.KEY, **fields: float | None) -> str:
    """Add a key. Returns its secret."""
    made = make(space)
    key = replace(KeyRow(made.prefix, space, name, terms, 1.0), **fields)  # type: ignore[arg-type]  # times only
    store_at(path).add(key, made.row(1.0))
    return made.token


async def status(town: Town, key: str, model: str = "auto", **headers: str) -> int:
    bearer = {"authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": [{"role": "user", "content": "math"}]}
    answer = await town.gateway.http.post("/v1/chat/completions", json=body, headers={**bearer, **headers})
    return answer.status_code


async def until_status(town: Town, key: str, wanted: int) -> float:
    """Wait until a key is answered so. Returns after how many seconds it was."""
    started = time.perf_counter()
    async with asyncio.timeout(SOON_S):
        while await status(town, key) != wanted:  # noqa: ASYNC110 - nothing announces it to a client
            await asyncio.sleep(0.02)
    return time.perf_counter() - started


async def test_empty_store_lets_nobody_in_and_a_key_made_later_does(start_town: StartTown, path: str) -> None:
    town = await start_town(key_store={"database": path})
    assert await status(town, "") == await status(town, "guess") == 401
    assert (await town.gateway.http.get("/v1/models")).status_code == 401
    assert (await town.gateway.http.get("/health/live")).status_code == 200
    key = put(path, "team")
    await until_status(town, key, 200)
    assert town.gateway.recorder.records[-1].key == "team"
    assert await status(town, "", **{"x-api-key": key}) == 200


async def test_metrics_say_how_the_store_is(start_town: StartTown, path: str) -> None:
    async def shown(name: str) -> float:
        return (await town.gateway.metric(f"pointsman_{name}"))[f"pointsman_{name}"]

    key = put(path, "team")
    town = await start_town(key_store={"database": path})
    town.gateway.http.headers["authorization"] = f"Bearer {key}"
    assert (await shown("keys"), await shown("key_store_up"), await shown("key_store_errors_total")) == (1, 1, 0)
    assert await shown("key_store_loads_total") == 1
    put(path, "other")
    async with asyncio.timeout(SOON_S):
        while await shown("keys") != 2:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)
    assert await shown("key_store_loads_total") == 2
    assert 0 <= await shown("key_store_age_seconds") < SOON_S
    corrupt(path)
    async with asyncio.timeout(SOON_S):
        while await shown("key_store_up"):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)
    assert (await shown("keys"), await shown("key_store_errors_total") >= 1) == (2, True)


async def test_metrics_without_a_store_count_the_keys_of_the_settings(town: Town) -> None:
    assert (await town.gateway.metric("pointsman_keys")) == {"pointsman_keys": 0}
    assert not await town.gateway.metric("pointsman_key_store_up")


async def test_revoked_key_is_refused_within_seconds_without_a_restart(start_town: StartTown, path: str) -> None:
    key, other = put(path, "leaked"), put(path, "other")
    town = await start_town(key_store={"database": path})
    assert await status(town, key) == 200
    store_at(path).revoke(Space.KEY, "leaked", time.monotonic())
    assert await until_status(town, key, 401) < 3
    assert await status(town, other) == 200


async def test_rotated_key_and_its_successor(start_town: StartTown, path: str) -> None:
    key = put(path, "team")
    town = await start_town(key_store={"database": path})
    new = make(Space.KEY)
    # The new secret's time is 1970, and the grace ends then.
    store_at(path).rotate(Space.KEY, "team", new.row(5.0), grace_s=10)
    await until_status(town, new.token, 200)
    assert await status(town, key) == 401


async def test_key_may_use_only_what_its_terms_say(start_town: StartTown, path: str) -> None:
    math = put(path, "math-only", '{"experts":["math"]}')
    chat = put(path, "embeddings-only", '{"endpoints":["embeddings"]}')
    town = await start_town(key_store={"database": path})
    assert await status(town, math, "math") == 200
    assert await status(town, math, "coding") == 403
    bearer = {"authorization": f"Bearer {chat}"}
    refused = await town.gateway.http.post(
        "/v1/chat/completions", content=body_of(Endpoint.CHAT), headers={**bearer, "content-type": "application/json"}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "endpoint_forbidden")
    record = (await town.gateway.recorder.wait_for(3))[-1]
    assert record.error == "endpoint_forbidden"
    assert (await town.gateway.http.get("/v1/models", headers=bearer)).status_code == 200


@pytest.mark.parametrize("role", ["viewer", "admin"])
async def test_admin_token_opens_nothing_on_the_data_plane(start_town: StartTown, path: str, role: str) -> None:
    token = put(path, "boss", f'{{"role":"{role}"}}', Space.ADMIN)
    town = await start_town(key_store={"database": path})
    assert await status(town, token) == await status(town, "", **{"x-api-key": token}) == 401
    assert town.gateway.app.state.admin_tokens.find(token).name == "boss"


async def test_keys_of_file_and_store_both_count(
    start_town: StartTown, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILE_KEY", "a-key-of-the-file")
    stored, same_name = put(path, "stored"), put(path, "from-file")
    town = await start_town(key_store={"database": path}, keys={"from-file": {"key_env": "FILE_KEY"}})
    assert await status(town, "a-key-of-the-file") == await status(town, stored) == 200
    assert await status(town, same_name) == 401


async def test_reload_that_names_a_store_locks_at_once_and_one_that_names_none_opens(
    start_town: StartTown, path: str, tmp_path: Path
) -> None:
    town = await start_town()
    key = put(path, "team")
    async with configured(town, tmp_path / "experts.yaml") as config:
        assert await status(town, "") == 200
        await config.change(key_store={"database": path})
        assert await status(town, "") == 401
        await until_status(town, key, 200)
        await config.change(key_store={})
        assert await status(town, "") == 200


async def test_reload_with_a_store_that_cannot_be_used_changes_nothing(start_town: StartTown, tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"not a database, but long enough to look at" * 100)
    town = await start_town()
    async with configured(town, tmp_path / "experts.yaml") as config:
        config.write(key_store={"database": "no.db"})
        result = await config.reloader.reload("test")
        assert "no.db: file is not a database" in " ".join(result.problems)
        assert await status(town, "") == 200


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 100, None])
def test_gateway_with_a_corrupt_store_or_none_in_its_place_does_not_start(
    tmp_path: Path, content: bytes | None
) -> None:
    place = tmp_path / "keys.db"
    place.write_bytes(content) if content is not None else place.mkdir()
    with pytest.raises(StoreError, match=r"keys\.db"):
        store_at(str(place)).check()


@asynccontextmanager
async def watched(
    path: str, *, every_s: float = 0.02, note_every_s: float = 60
) -> AsyncIterator[tuple[Keyring, KeyWatch]]:
    """A keyring that follows a file every 20 ms."""
    keyring, settings = Keyring({}), KeyStoreSettings(database=path)
    async with KeyWatch(keyring, AdminTokens({}), settings, every_s=every_s, note_every_s=note_every_s) as watch:
        yield keyring, watch


def corrupt(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(b"\xff" * 4_096)


def delete(path: str) -> None:
    for end in ("", "-wal", "-shm"):
        Path(path + end).unlink(missing_ok=True)


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


def restore(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


@pytest.mark.parametrize("fault", [corrupt, delete])
async def test_e2_store_that_breaks_while_serving_keeps_the_keys_it_had(
    path: str, fault: Callable[[str], None]
) -> None:
    key = put(path, "team")
    saved = content_of(path)
    async with watched(path, note_every_s=0.05) as (keyring, watch):
        assert keyring.find(key) is not None
        fault(path)
        await until(lambda: watch.problem is not None)
        assert keyring.find(key) is not None
        await asyncio.sleep(0.15)
        assert os.access(path, os.F_OK) == (fault is corrupt), "nothing may be put in the place of a file that is gone"
        delete(path)
        restore(path, saved)
        store_at(path).revoke(Space.KEY, "team", 1.0)
        await until(lambda: keyring.find(key) is None)
        assert watch.problem is None


async def test_file_that_is_put_in_the_place_of_another_counts(path: str, tmp_path: Path) -> None:
    key = put(path, "team")
    other_path = str(tmp_path / "restored.db")
    other = put(other_path, "team")
    async with watched(path) as (keyring, _):
        delete(path)
        os.replace(other_path, path)
        await until(lambda: keyring.find(other) is not None)
        assert keyring.find(key) is None


async def test_locked_store_is_read_all_the_same_and_use_is_noted_later(path: str) -> None:
    key = put(path, "team")
    async with watched(path, note_every_s=0.02) as (keyring, watch):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert keyring.find(key) is not None
            await asyncio.sleep(0.1)
            assert watch.problem is None
            other.execute("ROLLBACK")
        await until(lambda: store_at(path).load().keys[0].last_used_at is not None)


async def test_use_is_noted_at_the_end_and_not_before_its_time(path: str) -> None:
    key = put(path, "team")
    async with watched(path) as (keyring, _):
        for _ in range(1_000):
            keyring.find(key)
        await asyncio.sleep(0.1)
        assert store_at(path).load().keys[0].last_used_at is None
    assert (store_at(path).load().keys[0].last_used_at or 0) > 1_700_000_000


async def test_store_that_takes_no_notes_is_enough_to_serve(path: str) -> None:
    key = put(path, "team")
    async with watched(path, note_every_s=0.02) as (keyring, watch):
        # Root may write everywhere, so that a file's mode would not stop it.
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TRIGGER no_writing BEFORE UPDATE ON access_key BEGIN SELECT RAISE(FAIL, 'no'); END")
            other.commit()
        for _ in range(5):
            assert keyring.find(key) is not None
            await asyncio.sleep(0.03)
        assert watch.problem is None
    assert store_at(path).load().keys[0].last_used_at is None


async def test_store_that_is_down_at_the_start_lets_nobody_in_until_it_is_up(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("KEYS_POSTGRES", "postgresql://nobody@127.0.0.1:1/none")
    keyring = Keyring({})
    settings = KeyStoreSettings(postgres_env="KEYS_POSTGRES")
    async with KeyWatch(keyring, AdminTokens({}), settings, every_s=0.02) as watch:
        assert keyring.required
        assert watch.problem is not None
        assert "nobody@" not in watch.problem
        key = put(path, "team")
        watch.follow(KeyStoreSettings(database=path))
        await until(lambda: keyring.find(key) is not None)


async def test_asked_watch_looks_at_once(path: str) -> None:
    async with watched(path, every_s=60) as (keyring, watch):
        key = put(path, "team")
        watch.ask()
        await until(lambda: keyring.find(key) is not None)
