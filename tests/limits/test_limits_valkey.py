"""Limits counted in a Valkey or Redis server, a real one: several gateways, one count."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.callers import Grant
from gateway.errors import BudgetExhausted, PointsmanError, RateLimited
from gateway.limits import scripts
from gateway.limits.calendar import first_day, month_of
from gateway.limits.contract import DAY_S
from gateway.limits.limits import Limits
from gateway.settings.quotas import QuotaSettings
from tests.limits.servers import Valkey
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts servers


def limits_on(server: Valkey, *, cluster: bool = False, **settings: Any) -> Limits:
    return Limits(QuotaSettings.model_validate(settings), valkey=server.limits(cluster=cluster))


async def settled(*several: Limits) -> None:
    def idle(limits: Limits) -> bool:
        assert limits.valkey is not None
        wire = limits.valkey.wire
        return not wire.waiting and (wire._pump is None or wire._pump.done())

    await until(lambda: all(map(idle, several)))


@pytest.mark.parametrize(
    ("grant", "cost", "tokens"),
    [
        (Grant("k", daily_budget=1.0), 0.01, 0),
        (Grant("k", monthly_budget=10.0), 0.1, 0),
        (Grant("k", daily_budget=0.3, rpm=1_000_000, tpm=10**9, concurrent=1_000_000), 0.003, 10),
    ],
)
async def test_two_gateways_race_one_budget_and_never_overspend(
    valkey: Valkey, grant: Grant, cost: float, tokens: int
) -> None:
    async def one(limits: Limits) -> bool:
        await asyncio.sleep(random.random() / 50)
        try:
            with await limits.reserve(grant, "math", tokens, cost) as reservation:
                await asyncio.sleep(random.random() / 100)
                reservation.settle(tokens, cost)
        except BudgetExhausted:
            return False
        return True

    async with limits_on(valkey) as first, limits_on(valkey) as second:
        done = await asyncio.gather(*(one(limits) for limits in (first, second) for _ in range(500)))
        await settled(first, second)
        assert (sum(done), first.counts.local, second.counts.local) == (100, 0, 0)
    assert not list(valkey.client().scan_iter("*:concurrent"))


async def test_requests_tokens_and_places_are_counted_together(valkey: Valkey) -> None:
    async with limits_on(valkey) as first, limits_on(valkey) as second:
        places = Grant("places", concurrent=3)
        held = [await limits.reserve(places, "math", 1, None) for limits in (first, second, first)]
        with pytest.raises(RateLimited, match="at once"):
            await second.reserve(places, "math", 1, None)
        held[0].settle(1, None)
        await settled(first)
        await second.reserve(places, "math", 1, None)
        busy = Grant("busy", rpm=2, tpm=100)
        told = dict((await first.reserve(busy, "math", 60, None)).headers)
        assert (told["x-ratelimit-remaining-requests"], told["x-ratelimit-remaining-tokens"]) == ("1", "40")
        with pytest.raises(RateLimited, match="tokens per minute") as refused:
            await second.reserve(busy, "math", 60, None)
        assert 1 <= int(dict(refused.value.headers)["retry-after"]) <= 12
        last = await second.reserve(busy, "math", 40, None)
        last.settle(0, None)
        await settled(second)
        with pytest.raises(RateLimited, match="requests per minute"):
            await first.reserve(busy, "math", 1, None)


async def test_settlement_corrects_and_counts_once(valkey: Valkey) -> None:
    grant = Grant("k", daily_budget=10, tpm=10**6)
    async with limits_on(valkey) as first, limits_on(valkey) as second:
        reservation = await first.reserve(grant, "math", 1_000, 4)
        reservation.settle(10, 1.5)
        reservation.settle(0, 0)
        assert first.valkey is not None
        command = first.valkey.command("settle", "never-taken", [], ["never-taken", 1_000, 0])
        first.valkey.wire.post(command)
        await settled(first)
        with pytest.raises(BudgetExhausted):
            await second.reserve(grant, "math", 1, 8.6)
        await second.reserve(grant, "math", 1, 8.5)
        assert second.left(grant) == 0


async def test_settlement_sent_twice_counts_once_and_a_late_request_is_not_taken(valkey: Valkey) -> None:
    grant = Grant("k", daily_budget=10)
    async with limits_on(valkey) as limits:
        assert limits.valkey is not None
        store, terms = limits.valkey, (limits.terms_of(grant),)
        taken = await store.take(terms, 5, 4 * 10**9, 60)
        for _ in range(3):
            taken.settle(5, 10**9)  # type: ignore[union-attr]  # the budget is whole
        await settled(limits)
        assert valkey.client().get("{pointsman}:key:k:day").endswith(b":1000000000")
        request = next(key for key in valkey.client().scan_iter("*request*"))
        ident = request.decode().rpartition(":")[2]
        again = store.command("reserve", ident, [], [ident, 60_000])
        assert await store.wire.ask(again) == [b"-1"]


async def test_expert_and_key_are_all_or_nothing(valkey: Valkey) -> None:
    quotas: dict[str, Any] = {"experts": {"math": {"requests_per_minute": 1}}}
    grant = Grant("k", rpm=10, daily_budget=1)
    async with limits_on(valkey, **quotas) as first, limits_on(valkey, **quotas) as second:
        await first.reserve(grant, "math", 1, 0.1)
        for _ in range(5):
            with pytest.raises(RateLimited, match="expert `math`"):
                await second.reserve(grant, "math", 1, 0.1)
        told = await second.reserve(grant, "coding", 1, 0.1)
        assert dict(told.headers)["x-ratelimit-remaining-requests"] == "8"
        assert second.left(grant) == pytest.approx(0.8)


async def test_client_that_leaves_while_its_request_is_counted_leaves_nothing_behind(valkey: Valkey) -> None:
    grant = Grant("k", daily_budget=100, concurrent=50, rpm=50, tpm=50)
    async with limits_on(valkey) as limits:
        for passes in range(30):
            task = asyncio.create_task(limits.reserve(grant, "math", 1, 1))
            for _ in range(passes % 10):
                await asyncio.sleep(0)
            task.cancel()
            for reservation in await asyncio.gather(task, return_exceptions=True):
                if not isinstance(reservation, BaseException):
                    reservation.settle(0, 0)
        await settled(limits)
        client = valkey.client()
        assert client.zcard("{pointsman}:key:k:concurrent") == 0
        assert (client.get("{pointsman}:key:k:day") or b":0").endswith(b":0")


async def test_everything_in_the_server_expires(valkey: Valkey) -> None:
    grant = Grant("k", daily_budget=100, monthly_budget=100, concurrent=50, rpm=50, tpm=5_000)
    async with limits_on(valkey, experts={"math": {"tokens_per_minute": 500}}) as limits:
        limits.accounts.hold_s = 1.0
        await limits.reserve(grant, "math", 100, 1)
        client = valkey.client()
        keys = list(client.scan_iter("*"))
        assert len(keys) == 7
        assert all(client.pttl(key) > 0 for key in keys)
        # Killed, a gateway settles nothing: its places come back by themselves.
        await until(lambda: client.exists("{pointsman}:key:k:concurrent") == 0, timeout_s=5)


async def test_server_that_lost_its_scripts_is_given_them_again(valkey: Valkey) -> None:
    grant = Grant("k", rpm=100)
    async with limits_on(valkey) as limits:
        await limits.reserve(grant, "math", 1, None)
        valkey.client().script_flush()
        told = await limits.reserve(grant, "math", 1, None)
        assert dict(told.headers)["x-ratelimit-remaining-requests"] == "98"
        assert limits.counts.local == 0


async def test_key_of_another_kind_in_the_server_costs_nobody_an_answer(valkey: Valkey) -> None:
    valkey.client().lpush("{pointsman}:key:k:requests", "somebody else's")
    async with limits_on(valkey) as limits:
        for _ in range(3):
            (await limits.reserve(Grant("k", rpm=100), "math", 1, None)).settle(1, None)
        assert limits.counts.local >= 1
        assert limits.valkey is not None
        wire = limits.valkey.wire
        await until(lambda: wire.up and not wire.waiting, timeout_s=10)


def test_script_knows_the_calendar(valkey: Valkey) -> None:
    script = scripts._COMMON.replace("redis.call('TIME')", "{tonumber(ARGV[1]), 0}") + "return {day, month}"
    days = [*range(0, 80_000, 97), *(first_day(month) + off for month in range(24_000, 24_600) for off in (-1, 0))]
    for day in days:
        assert valkey.client().eval(script, 0, day * DAY_S + 86_399) == [day, month_of(day)]


async def test_cluster_counts_too(valkey_program: str, tmp_path: Path) -> None:
    with closing(Valkey(valkey_program, tmp_path, cluster=True)) as server:
        grant = Grant("k", daily_budget=1, rpm=1_000)
        quotas: dict[str, Any] = {"experts": {"math": {"concurrent_requests": 1_000}}}
        async with AsyncExitStack() as stack:
            both = [await stack.enter_async_context(limits_on(server, cluster=True, **quotas)) for _ in range(2)]
            done = await asyncio.gather(
                *(limits.reserve(grant, "math", 1, 0.05) for limits in both for _ in range(30)), return_exceptions=True
            )
            assert sum(isinstance(each, PointsmanError) for each in done) == 40
            assert [limits.counts.local for limits in both] == [0, 0]


RACER = """
import asyncio, sys
from gateway.callers import Grant
from gateway.errors import BudgetExhausted
from gateway.limits.limits import Limits
from gateway.limits.valkey import ValkeyLimits
from gateway.limits.wire import Wire
from gateway.settings.quotas import QuotaSettings, ValkeySettings

async def main():
    settings = ValkeySettings(url_env="V", timeout_s=2)
    async with Limits(QuotaSettings(), valkey=ValkeyLimits(Wire(settings, sys.argv[1]), "pointsman")) as limits:
        async def one():
            try:
                (await limits.reserve(Grant("k", daily_budget=1), "math", 1, 0.01)).settle(1, 0.01)
            except BudgetExhausted:
                return 0
            return 1
        done = sum(await asyncio.gather(*(one() for _ in range(500))))
        print(done, limits.counts.local)

asyncio.run(main())
"""


def test_two_processes_race_one_budget(valkey: Valkey) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, valkey.url], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert sum(int(done) for done, _ in told) == 100
    assert [local for _, local in told] == ["0", "0"]
