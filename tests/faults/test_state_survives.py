"""What is known of servers outlives a change of the configuration, and nothing depends on the time of day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import context, leases
from gateway.breaker import BreakerState
from gateway.reload import Outcome
from tests.conftest import Town
from tests.gateway.reloading import Configured, configured, replace
from tests.waiting import until

HOUR_S = 3600


def state_of(town: Town, name: str) -> Any:
    return town.gateway.app.state.gateway.current.fleet.states[town.servers[name].url]


async def troubled(town: Town) -> asyncio.Task[Any]:
    """Open the breaker of math, let coding rest, and keep a request open at the generalist."""
    town.servers["math"].fault("status;code=500", count=5)
    for number in range(5):
        await town.gateway.chat(f"math {number}")
    town.servers["coding"].fault("status;code=429;retry_after=40", count=1)
    await town.gateway.chat("coding")
    town.servers["generalist"].fault("delay;seconds=1", count=1)
    open_request = asyncio.create_task(town.gateway.chat("hello"))
    await town.servers["generalist"].until(lambda server: server.running == 1)
    return open_request


def check(town: Town) -> None:
    math, coding, generalist = (state_of(town, name) for name in ("math", "coding", "generalist"))
    assert (math.breaker.state, math.breaker.ejections) == (BreakerState.OPEN, 1)
    assert (coding.breaker.state, coding.breaker.busy_s > 30) == (BreakerState.CLOSED, True)
    assert (generalist.limiter.running, generalist.inflight) == (1, 1)


@pytest.mark.row("D5", "D8")
async def test_d5_breaker_rest_and_open_requests_survive_reloads_good_and_bad(start_town: Any, tmp_path: Path) -> None:
    town = await start_town()
    async with configured(town, tmp_path / "experts.yaml") as config:
        open_request = await troubled(town)
        check(town)
        await config.change(server={**config.content()["server"], "decision_headers": "expert"})
        check(town)
        good = config.path.read_text()
        replace(config.path, "generalist: [")
        assert (await config.reloader.reload("test")).outcome is Outcome.INVALID
        check(town)
        replace(config.path, good)
        # A removed expert's server takes nothing of the others' along.
        await config.change(experts=config.without("math"))
        assert state_of(town, "coding").breaker.busy_s > 30
        assert (await open_request).status_code == 200
        generalist = state_of(town, "generalist")
        assert (generalist.limiter.running, generalist.inflight) == (0, 0)


@pytest.mark.row("D6", "D7")
async def test_d7_storm_of_reloads_forgets_no_ejection_and_asks_no_ejected_server(
    start_town: Any, tmp_path: Path
) -> None:
    town = await start_town()
    async with configured(town, tmp_path / "experts.yaml") as config:
        open_request = await troubled(town)
        asked = len(town.servers["math"].prompts), len(town.servers["coding"].prompts)
        statuses: set[int] = set()

        async def traffic(storm: asyncio.Task[None]) -> None:
            while not storm.done():
                statuses.update([(await town.gateway.chat(text)).status_code for text in ("math", "coding")])

        await traffic(asyncio.create_task(_storm(config)))
        assert statuses == {200}
        assert (len(town.servers["math"].prompts), len(town.servers["coding"].prompts)) == asked
        check(town) if not open_request.done() else None
        assert state_of(town, "math").breaker.ejections == 1
        await open_request


async def _storm(config: Configured) -> None:
    for number in range(10):
        await config.change(timeouts={**config.content().get("timeouts", {}), "idle_s": 20 + number})


@pytest.mark.row("D8")
async def test_d8_limiter_takes_the_new_limit_and_counts_what_is_open(start_town: Any, tmp_path: Path) -> None:
    town = await start_town(concurrency={"requests": 1, "queue": 9, "queue_s": 20})
    async with configured(town, tmp_path / "experts.yaml") as config:
        math = town.servers["math"]
        math.fault("delay;seconds=0.6", count=2)
        asking = [asyncio.create_task(town.gateway.chat("math", model="math")) for _ in range(2)]
        limiter = state_of(town, "math").limiter
        await until(lambda: (limiter.running, limiter.waiting) == (1, 1))
        await config.change(concurrency={"requests": 2, "queue": 9, "queue_s": 20})
        assert state_of(town, "math").limiter is limiter
        await math.until(lambda server: server.running == 2)
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200, 200]
        assert (limiter.running, limiter.waiting) == (0, 0)


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the time of day forward by seconds, wherever the gateway reads it."""
    ahead = [0.0]

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz or UTC) + timedelta(seconds=ahead[0])

    for module in (context, leases):
        monkeypatch.setattr(module, "datetime", Jumped)
    monkeypatch.setattr(time, "time", lambda: datetime.now(UTC).timestamp() + ahead[0])

    def set_ahead(seconds: float) -> None:
        ahead[0] = seconds

    return set_ahead


@pytest.mark.row("D10")
@pytest.mark.parametrize("hours", [1, -1])
async def test_d10_clock_that_jumps_moves_no_limit(start_town: Any, jump: Callable[[float], None], hours: int) -> None:
    town = await start_town(timeouts={"idle_s": 0.5, "total_s": 5}, breaker={"ejection_s": 0.5})
    math = town.servers["math"]
    math.fault("hang_mid;events=4", count=1)
    started = time.monotonic()
    asking = asyncio.create_task(town.gateway.chat("math", stream=True))
    await math.until(lambda server: server.running == 1)
    jump(hours * HOUR_S)
    answer = await asking
    assert '"upstream_idle"' in answer.text
    assert 0.5 <= time.monotonic() - started < 1.5
    (record,) = await town.gateway.recorder.wait_for(1)
    assert 0.5 <= record.duration_s < 1.5
    # An ejection ends when it would have, and a date that the server's right clock gives is no more than the cap.
    math.fault("status;code=500", count=5)
    for number in range(5):
        await town.gateway.chat(f"math {number}")
    breaker = state_of(town, "math").breaker
    assert breaker.state is BreakerState.OPEN
    await until(lambda: breaker.state is BreakerState.HALF_OPEN, timeout_s=1)
    town.servers["coding"].fault("status;code=503;retry_after_date=30", count=1)
    assert (await town.gateway.chat("coding")).status_code == 200
    assert state_of(town, "coding").breaker.busy_s <= 60


@pytest.mark.row("D10")
async def test_d10_records_keep_their_order_and_durations_across_a_jump_back(
    start_town: Any, jump: Callable[[float], None]
) -> None:
    town = await start_town()
    for ahead_s in (0, HOUR_S, -HOUR_S):
        jump(ahead_s)
        assert (await town.gateway.chat("math")).status_code == 200
    records = await town.gateway.recorder.wait_for(3)
    assert len({record.request_id for record in records}) == 3
    assert all(0 < record.duration_s < 2 and record.overhead_s < 1 for record in records)
    assert records[2].timestamp < records[0].timestamp < records[1].timestamp  # the gap shows, nothing hides it
