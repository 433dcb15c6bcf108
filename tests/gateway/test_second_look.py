"""Failures that one caller provokes: the server is asked itself whether it is well, and taken back at once if so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import Breaker, BreakerState, Failure
from gateway.causes import MOST, Cause, Causes, cause_of
from gateway.settings.reliability import BreakerSettings
from tests.conftest import Town
from tests.waiting import until

QUIET = {"interval_s": 60}
KEYS = {"keys": {"one": {"key_env": "KEY_ONE"}, "two": {"key_env": "KEY_TWO"}}}


def breaker_of(town: Town) -> Breaker:
    breaker: Breaker = town.gateway.app.state.gateway.current.fleet.states[town.servers["math"].url].breaker
    return breaker


async def ask(town: Town, text: str, key: str | None = None) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    return await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)


async def test_prompt_that_a_server_cannot_take_costs_the_others_nothing(start_town: Any) -> None:
    town = await start_town(health=QUIET)
    math, breaker = town.servers["math"], breaker_of(town)
    for _ in range(4):
        math.fault("status;code=500", count=5)
        for _ in range(5):
            await ask(town, "math of death")
        await until(lambda: breaker.state is BreakerState.CLOSED)
        assert (await ask(town, "math")).headers["x-pointsman-expert"] == "math"
        assert (breaker.ejections, breaker.share) == (0, 1)
    assert len(math.prompts) == 4 * (5 + 1 + 1)


@pytest.mark.parametrize("fault", ["status;code=500", "truncated_json", "html", "status;code=400", "hang"])
async def test_server_that_fails_its_only_caller_stays_ejected(start_town: Any, fault: str) -> None:
    town = await start_town(health=QUIET, timeouts={"first_token_s": 0.3})
    math, breaker = town.servers["math"], breaker_of(town)
    math.fault("status;code=500", count=5)
    math.fault(fault, count=None)
    for _ in range(5):
        await ask(town, "math")
    assert breaker.state is BreakerState.OPEN
    await math.until(lambda server: len(server.prompts) == 6)
    await asyncio.sleep(0.4)
    assert (breaker.state, breaker.ejections, len(math.prompts)) == (BreakerState.OPEN, 1, 6)
    assert (await ask(town, "math")).headers["x-pointsman-expert"] == "generalist"


async def test_different_requests_without_keys_eject_without_a_second_look(start_town: Any) -> None:
    town = await start_town(health=QUIET)
    math, breaker = town.servers["math"], breaker_of(town)
    math.fault("status;code=500", count=5)
    for number in range(5):
        await ask(town, f"math {number}")
    await asyncio.sleep(0.1)
    assert (breaker.state, len(math.prompts)) == (BreakerState.OPEN, 5)


@pytest.mark.parametrize("both", [False, True], ids=["one key", "two keys"])
async def test_different_requests_of_one_key_are_one_callers_doing(
    start_town: Any, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    monkeypatch.setenv("KEY_ONE", "first-key-of-tests")
    monkeypatch.setenv("KEY_TWO", "second-key-of-tests")
    town = await start_town(health=QUIET, **KEYS)
    math, breaker = town.servers["math"], breaker_of(town)
    math.fault("status;code=500", count=5)
    for number in range(5):
        await ask(town, f"math {number}", "second-key-of-tests" if both and number == 3 else "first-key-of-tests")
    await asyncio.sleep(0.1)
    assert breaker.state is (BreakerState.OPEN if both else BreakerState.CLOSED)
    assert len(math.prompts) == (5 if both else 6)


async def test_second_look_is_ended_with_the_gateway(start_town: Any) -> None:
    """The warning about a task that nobody awaited would be an error."""
    town = await start_town(health=QUIET)
    math = town.servers["math"]
    math.fault("status;code=500", count=5)
    math.fault("hang", count=None)
    for _ in range(5):
        await ask(town, "math")
    await math.until(lambda server: server.running == 1)
    assert breaker_of(town).state is BreakerState.OPEN


def test_answer_that_comes_late_ends_no_later_ejection() -> None:
    clock, doubts = [1000.0], list[int]()
    breaker = Breaker(BreakerSettings(), clock=lambda: clock[0])
    breaker.configure(BreakerSettings(), lambda: False, doubted=doubts.append)
    for _ in range(5):
        breaker.begin().failed(Failure.SERVER, Cause("one", 1))
    assert doubts == [1]
    clock[0] += 31
    breaker.begin().failed(Failure.SERVER, Cause("one", 1))
    assert breaker.state is BreakerState.OPEN
    breaker.cleared(doubts[0])
    assert (breaker.state, breaker.ejections) == (BreakerState.OPEN, 2)


@pytest.mark.parametrize("failure", [Failure.LOCAL])
def test_failures_that_we_saw_ourselves_are_no_callers_doing(failure: Failure) -> None:
    doubts = list[int]()
    breaker = Breaker(BreakerSettings())
    breaker.configure(BreakerSettings(), lambda: False, doubted=doubts.append)
    for _ in range(5):
        breaker.begin().failed(failure, Cause("one", 1))
    assert (breaker.state, doubts) == (BreakerState.OPEN, [])


causes = st.builds(Cause, st.sampled_from(["", "a", "b"]), st.integers(0, 3))


@given(st.lists(st.tuples(st.floats(0, 3), causes), max_size=MOST * 2), st.integers(1, 5))
def test_independent_means_two_keys_or_enough_requests(steps: list[tuple[float, Cause]], enough: int) -> None:
    known, now, all_of_them = Causes(10), 0.0, list[tuple[float, Cause]]()
    for later_s, cause in steps:
        now += later_s
        known.note(cause, now)
        all_of_them.append((now, cause))
    recent = {cause for at, cause in all_of_them[-MOST:] if now - at < 10}
    keys = {cause.key for cause in recent}
    assert known.independent(enough, now) == (len(keys) > 1 or (keys == {""} and len(recent) >= enough))


@given(st.binary(max_size=5_000), st.binary(max_size=5_000))
def test_same_request_has_the_same_cause(one: bytes, other: bytes) -> None:
    assert cause_of("k", one) == cause_of("k", bytes(bytearray(one)))
    if (len(one), one[-2048:]) != (len(other), other[-2048:]):
        assert cause_of("k", one) != cause_of("k", other)
    assert cause_of("k", one) != cause_of("l", one)
