"""Money over a restart, in a SQLite file: saved off the path, shared between processes, never counted twice."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.callers import Grant
from gateway.errors import BudgetExhausted
from gateway.limits.accounts import Accounts
from gateway.limits.calendar import Calendar
from gateway.limits.contract import Spent
from gateway.limits.keeping import Keeping
from gateway.limits.limits import Limits
from gateway.settings.quotas import QuotaSettings
from gateway.stores.spending import SpendingFile
from gateway.stores.sqlite import StoreError
from tests.limits.clocks import Clock, limits_of

GRANT = Grant("k", daily_budget=10, monthly_budget=20)


def stored(path: Path, clock: Clock) -> Limits:
    accounts = Accounts(Calendar(lambda: clock.wall), lambda: clock.mono)
    return Limits(QuotaSettings(), accounts=accounts, store=SpendingFile(str(path)))


async def spend(limits: Limits, cost: float, grant: Grant = GRANT) -> None:
    (await limits.reserve(grant, "math", 1, cost)).settle(1, cost)


async def test_money_of_day_and_month_survives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with stored(tmp_path / "spent.db", clock) as limits:
        await spend(limits, 6)
        await spend(limits, 1, Grant("other"))
    clock.pass_s(86_400)
    async with stored(tmp_path / "spent.db", clock) as limits:
        assert limits.left(GRANT) == 10
        await spend(limits, 7.5)
        running = await limits.reserve(GRANT, "math", 1, 2)
    running.settle(1, 0.5)  # after the end: too late to be saved
    async with stored(tmp_path / "spent.db", clock) as limits:
        assert limits.left(GRANT) == 0.5
        assert limits.left(Grant("other", monthly_budget=3)) == 2
        with pytest.raises(BudgetExhausted):
            await limits.reserve(GRANT, "math", 1, 0.6)
    clock.pass_s(20 * 86_400)
    async with stored(tmp_path / "spent.db", clock) as limits:
        assert limits.left(GRANT) == 10


async def test_two_processes_with_one_file_learn_of_each_other(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "spent.db"
    async with stored(path, clock) as one, stored(path, clock) as other:
        for _ in range(3):
            await spend(one, 1)
            await spend(other, 0.5)
        for limits in (one, other, one):
            assert limits._keeping is not None
            await limits._keeping.exchange()
        assert (one.left(GRANT), other.left(GRANT)) == (5.5, 5.5)
        await spend(other, 2)
        assert other.left(GRANT) == 3.5
    async with stored(path, clock) as limits:
        assert limits.left(GRANT) == 3.5


class Failing:
    """A store that fails as it is told, after or before it has added."""

    def __init__(self) -> None:
        self.fails = False
        self.slow_s = 0.0
        self.total: dict[tuple[str, int], int] = {}

    async def open(self, day: int) -> Sequence[Spent]:
        return ()

    async def exchange(self, spent: Mapping[tuple[str, int], int], day: int) -> Sequence[Spent]:
        await asyncio.sleep(self.slow_s)
        if self.fails:
            raise OSError("disk full")
        for key, nanos in spent.items():
            self.total[key] = self.total.get(key, 0) + nanos
        return [Spent(scope, nanos, nanos) for (scope, of), nanos in self.total.items() if of == day]

    async def close(self) -> None:
        pass


async def test_store_that_fails_loses_and_doubles_nothing() -> None:
    clock, store = Clock(), Failing()
    limits = limits_of(clock)
    keeping = Keeping(limits.accounts, store, every_s=60)
    await keeping.open()
    await spend(limits, 1)
    store.fails = True
    for _ in range(3):
        await keeping.exchange()
        await spend(limits, 1)
    assert (keeping.failing, limits.left(GRANT)) == ("disk full", 6)
    store.fails, store.slow_s = False, 0.05
    saving = asyncio.create_task(keeping.exchange())
    await asyncio.sleep(0.01)
    await spend(limits, 2)  # while the exchange is under way
    await saving
    assert (keeping.failing, limits.left(GRANT)) == (None, 4)
    await keeping.close()
    assert (sum(store.total.values()), limits.left(GRANT)) == (6 * 10**9, 4)


async def test_stop_in_the_middle_of_saving_saves_all_and_nothing_twice() -> None:
    store = Failing()
    store.slow_s = 0.1
    limits = limits_of(Clock())
    keeping = Keeping(limits.accounts, store, every_s=0.05)
    await keeping.open()
    await spend(limits, 1)
    await asyncio.sleep(0.1)  # the exchange is under way
    await spend(limits, 2)
    await keeping.close()
    assert sum(store.total.values()) == 3 * 10**9


async def test_file_that_cannot_be_used_is_an_error_at_the_start_only(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(StoreError, match="No such file"):
        async with stored(tmp_path / "nowhere" / "spent.db", clock):
            pass
    (tmp_path / "other.db").write_text("not a database, but long enough to be looked at as one " * 50)
    with pytest.raises(StoreError, match="not a database"):
        async with stored(tmp_path / "other.db", clock):
            pass


async def test_locked_file_holds_nobody_up(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "spent.db"
    async with stored(path, clock) as limits:
        await spend(limits, 1)
        locked = sqlite3.connect(path, isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        assert limits._keeping is not None
        saving = asyncio.create_task(limits._keeping.exchange())
        slowest = 0.0
        for _ in range(50):
            started = time.perf_counter()
            await spend(limits, 0.01)
            slowest = max(slowest, time.perf_counter() - started)
            await asyncio.sleep(0.002)
        locked.execute("ROLLBACK")
        locked.close()
        await saving
        assert slowest < 0.05
    async with stored(path, clock) as limits:
        assert limits.left(GRANT) == pytest.approx(8.5)


async def test_old_days_go_and_many_keys_are_read_at_once(tmp_path: Path) -> None:
    store = SpendingFile(str(tmp_path / "spent.db"))
    await store.open(1_000)
    await store.exchange({(f"key:{n}", 1_000): n for n in range(5_000)}, 1_000)
    assert await store.exchange({}, 1_000) == []
    assert await store.exchange({("key:7", 1_000): -2}, 1_000) == [Spent("key:7", 5, 5)]
    for _ in range(6):
        await store.exchange({("key:1", 1_500): 1}, 1_500)
    await store.close()
    rows = sqlite3.connect(tmp_path / "spent.db").execute("SELECT * FROM spending").fetchall()
    assert [(scope, day, nanos) for scope, day, nanos, _ in rows] == [("key:1", 1_500, 6)]


SPENDER = """
import asyncio, sys
from gateway.callers import Grant
from gateway.limits.limits import Limits
from gateway.settings.quotas import QuotaSettings
from gateway.stores.spending import SpendingFile

async def main():
    async with Limits(QuotaSettings(), store=SpendingFile(sys.argv[1])) as limits:
        while True:
            (await limits.reserve(Grant("k", daily_budget=1e6), "math", 1, 0.01)).settle(1, 0.01)
            print(limits.left(Grant("k", daily_budget=1e6)), flush=True)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_process_loses_a_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "spent.db"
    process = subprocess.Popen([sys.executable, "-c", SPENDER, str(path)], stdout=subprocess.PIPE, text=True)
    lines: list[tuple[float, float]] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append((time.monotonic(), float(line)))
        if lines[-1][0] - lines[0][0] > 3:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    connection: Any = sqlite3.connect(path)
    saved = connection.execute("SELECT sum(nanos) FROM spending").fetchone()[0] / 1e9
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # A busy machine may hold the exchange up for a while; what is told a second and a half before counts in any case.
    told = [1e6 - left for at, left in lines if at < lines[-1][0] - 1.5]
    assert told
    assert saved >= told[-1] - 0.005
