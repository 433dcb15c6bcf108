"""The file of money, corrupt: moved aside with an event, once, and what is known of it is not forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.limits.contract import Spent
from gateway.stores.spending import SpendingFile
from gateway.stores.sqlite import StoreError

DAY = 20_100  # the 12th of a month
FIRST = 20_089


class Kept(SpendingFile):
    """Remembers what it told."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        super().__init__(str(path), self.told.append)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spent.db"


def damage(path: Path, *, whole: bool = True) -> bytes:
    """Overwrite the file in place, as a failing disk does."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    garbage = b"\xff" * (path.stat().st_size if whole else 100)
    with open(path, "r+b") as file:
        file.write(garbage)
    return garbage


def fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def holds(path: Path) -> bytes:
    return path.read_bytes()


def sums(spent: Sequence[Spent]) -> dict[str, tuple[int, int]]:
    return {scope: (day, month) for scope, day, month in spent}


@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "head"])
async def test_corrupt_file_at_the_start_is_moved_aside(path: Path, whole: bool) -> None:
    before = Kept(path)
    await before.open(DAY)
    await before.exchange({("key:a", DAY): 5}, DAY)
    await before.close()
    garbage = damage(path, whole=whole)
    after = Kept(path)
    assert await after.open(DAY) == []
    assert sums(await after.exchange({("key:a", DAY): 2}, DAY)) == {"key:a": (2, 2)}
    await after.close()
    (aside,) = [found for found in path.parent.glob("*.corrupt-*") if found.name == after.told[0]]
    assert aside.read_bytes().startswith(garbage)
    assert before.told == []
    assert len(after.told) == 1


async def test_file_that_rots_while_in_use_loses_nothing_of_the_month(path: Path) -> None:
    store = Kept(path)
    await store.open(DAY)
    await store.exchange({("key:a", DAY): 5, ("key:a", FIRST): 70, ("key:b", FIRST): 3, ("key:b", FIRST - 1): 9}, DAY)
    damage(path)
    await store.exchange({("key:a", DAY): 1}, DAY)
    assert len(store.told) == 1
    await store.close()
    fresh = Kept(path)
    assert sums(await fresh.open(DAY)) == {"key:a": (6, 76), "key:b": (0, 3)}
    await fresh.close()


async def test_several_processes_move_it_once_and_count_no_money_twice(path: Path) -> None:
    stores = [Kept(path) for _ in range(4)]
    for store in stores:
        await store.open(DAY)
    for number, store in enumerate(stores):
        await store.exchange({(f"key:{number}", DAY): 10}, DAY)
    for store in stores:
        await store.exchange({}, DAY)
    damage(path)
    done = await asyncio.gather(
        *(store.exchange({(f"key:{number}", DAY): 1}, DAY) for number, store in enumerate(stores)),
        return_exceptions=True,
    )
    # Who meets the move itself tries again a second later, with the same money.
    for number, (store, result) in enumerate(zip(stores, done, strict=True)):
        if isinstance(result, BaseException):
            assert isinstance(result, OSError | StoreError)
            await store.exchange({(f"key:{number}", DAY): 1}, DAY)
    assert len([name for store in stores for name in store.told]) == 1
    for store in stores:
        await store.close()
    fresh = Kept(path)
    assert sums(await fresh.open(DAY)) == {f"key:{number}": (11, 11) for number in range(4)}
    await fresh.close()


@pytest.mark.parametrize("content", [b"generalist: {model: m}\n" * 50, b"\xff" * 8192])
async def test_file_that_never_was_ours_is_an_error_and_stays(path: Path, content: bytes) -> None:
    fill(path, content)
    store = Kept(path)
    with pytest.raises(StoreError):
        await store.open(DAY)
    await store.close()
    assert holds(path) == content
    assert store.told == []


async def test_gateway_keeps_the_event_beside_its_records(start_town: Any, tmp_path: Path, path: Path) -> None:
    store = Kept(path)
    await store.open(DAY)
    await store.close()
    damage(path)
    town = await start_town(quotas={"database": str(path)}, records={"database": str(tmp_path / "records.db")})
    assert (await town.gateway.chat("math")).status_code == 200
    async with asyncio.timeout(5):
        while True:
            with closing(sqlite3.connect(tmp_path / "records.db")) as records:
                tables = records.execute("SELECT name FROM sqlite_master WHERE name = 'event'").fetchall()
                kinds = records.execute("SELECT kind FROM event").fetchall() if tables else []
            if kinds:
                break
            await asyncio.sleep(0.05)
    assert ("spending_moved_aside",) in kinds
