"""E5: the server that counts limits hangs, dies, comes back empty or was never there. Requests hardly notice."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.callers import Grant
from gateway.errors import BudgetExhausted, Overloaded, RateLimited
from gateway.limits import wire as wires
from gateway.limits.limits import Limits
from gateway.limits.wire import Wire
from gateway.settings.quotas import QuotaSettings
from tests.limits.servers import Valkey, binary
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts servers

GRANT = Grant("k", rpm=1_000_000, daily_budget=1_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    program = binary()
    if program is None:
        pytest.skip("neither Valkey nor Redis is installed; deploy/ci/servers.sh installs one")
    with closing(Valkey(program, tmp_path)) as started:
        yield started


@asynccontextmanager
async def opened(server: Valkey, *, timeout_s: float = 0.2, **valkey: Any) -> AsyncIterator[tuple[Limits, Wire]]:
    settings = QuotaSettings.model_validate({"valkey": {"url_env": "VALKEY_URL", **valkey}})
    store = server.limits(timeout_s=timeout_s)
    async with Limits(settings, valkey=store) as limits:
        yield limits, store.wire


async def took_s(limits: Limits, cost: float = 0.01, grant: Grant = GRANT) -> float:
    started = time.perf_counter()
    reservation = await limits.reserve(grant, "math", 1, cost)
    passed = time.perf_counter() - started
    reservation.settle(1, cost)
    return passed


def spent(server: Valkey, name: str = "k") -> float:
    held: Any = server.client().get(f"{{pointsman}}:key:{name}:day")
    return 0.0 if held is None else int(held.partition(b":")[2]) / 1e9


@pytest.mark.row("E5")
@pytest.mark.parametrize("fault", [Valkey.hang, Valkey.kill])
async def test_e5_server_that_is_gone_costs_one_wait_and_then_nothing(
    server: Valkey, fault: Callable[[Valkey], None]
) -> None:
    async with opened(server, timeout_s=0.02) as (limits, wire):
        await until(lambda: wire.up)
        await took_s(limits)
        fault(server)
        first = await took_s(limits)
        after = [await took_s(limits) for _ in range(300)]
        crowd = await asyncio.gather(*(took_s(limits) for _ in range(300)))
        # The limit, and what a busy machine adds; without the breaker each would take as long.
        assert first < 0.02 + 0.1
        assert statistics.median(after) < 0.005
        assert statistics.median(crowd) < 0.02
        assert wire.failures >= 1
        assert limits.counts.local >= 600
        server.go_on() if fault is Valkey.hang else None


@pytest.mark.row("E5")
async def test_e5_crowd_that_waits_when_the_server_hangs_goes_on_together(server: Valkey) -> None:
    async with opened(server) as (limits, wire):
        await took_s(limits)
        server.hang()
        started = time.perf_counter()
        await asyncio.gather(*(took_s(limits) for _ in range(500)))
        assert time.perf_counter() - started < 0.2 * 2.5  # not once for every pipeline
        assert (limits.counts.local, wire.failures) == (500, 1)
        server.go_on()


@pytest.mark.row("E5")
async def test_e5_what_is_spent_while_the_server_hangs_is_told_it_once_afterwards(server: Valkey) -> None:
    async with opened(server) as (limits, wire):
        await took_s(limits, 1)
        running = [await limits.reserve(GRANT, "math", 1, 5) for _ in range(3)]
        server.hang()
        await asyncio.gather(*(took_s(limits, 2) for _ in range(50)))
        assert limits.left(GRANT) == 1_000 - 1 - 15 - 100
        for reservation in running:
            reservation.settle(1, 3)
        server.go_on()
        await until(lambda: wire.up and not wire.waiting, timeout_s=20)
        await took_s(limits, 0.5)
        await until(lambda: spent(server) == 1 + 100 + 9 + 0.5)
        assert limits.left(GRANT) == 1_000 - 110.5


@pytest.mark.row("E5")
async def test_e5_limits_go_on_from_what_the_server_said_last(server: Valkey) -> None:
    grant = Grant("k", daily_budget=10)
    async with opened(server) as (limits, wire), opened(server) as (other, _):
        for _ in range(4):
            await took_s(other, 2, grant)
        await took_s(limits, 1, grant)
        server.kill()
        await took_s(limits, 1, grant)
        with pytest.raises(BudgetExhausted):
            await limits.reserve(grant, "math", 1, 0.5)
        assert not wire.up


@pytest.mark.row("E5")
async def test_e5_fail_closed_refuses_those_with_limits_only(server: Valkey) -> None:
    async with opened(server, when_down="refuse") as (limits, wire):
        await took_s(limits)
        server.kill()
        for _ in range(3):
            with pytest.raises(Overloaded) as refused:
                await limits.reserve(GRANT, "math", 1, 0.01)
            assert (refused.value.status, refused.value.code) == (503, "limits_unavailable")
            assert dict(refused.value.headers)["retry-after"] == "1"
        await limits.reserve(Grant("free"), "math", 1, 0.01)
        assert (limits.counts.unavailable, limits.counts.local) == (3, 0)
        server.start()
        await until(lambda: wire.up, timeout_s=20)
        await took_s(limits)


@pytest.mark.row("E5")
async def test_e5_request_refused_while_the_server_hung_is_taken_back(server: Valkey) -> None:
    async with opened(server, when_down="refuse") as (limits, wire):
        await took_s(limits)
        server.hang()
        with pytest.raises(Overloaded):
            await limits.reserve(GRANT, "math", 1, 100)
        server.go_on()
        await until(lambda: wire.up and not wire.waiting, timeout_s=20)
        await took_s(limits)
        await until(lambda: spent(server) == 0.02)


@pytest.mark.row("E5")
async def test_e5_start_without_a_server_and_its_arrival(server: Valkey) -> None:
    server.kill()
    grant = Grant("k", rpm=3)
    async with opened(server) as (limits, wire):
        await took_s(limits, 0, grant)
        assert not wire.up
        server.start()
        await until(lambda: wire.up and not wire.waiting, timeout_s=20)
        await took_s(limits, 0, grant)
        await took_s(limits, 0, grant)
        with pytest.raises(RateLimited):
            await limits.reserve(grant, "math", 1, 0)
        assert limits.counts.local == 1


@pytest.mark.row("E5")
async def test_e5_settlements_that_wait_are_bounded(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "QUEUE", 50)
    async with opened(server) as (limits, wire):
        await took_s(limits)
        server.kill()
        for _ in range(300):
            await took_s(limits)
        assert wire.waiting <= 51
        assert wire.dropped >= 249


@pytest.mark.row("E5")
async def test_e5_closing_while_the_server_hangs_ends(server: Valkey) -> None:
    async with opened(server) as (limits, _):
        await took_s(limits)
        server.hang()
        await took_s(limits)
        started = time.perf_counter()
    assert time.perf_counter() - started < 5
    server.go_on()
