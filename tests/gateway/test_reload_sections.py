"""What a reload changes, section by section, and what it leaves as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gateway.reload import Outcome
from tests.gateway.reloading import Configured, StartTown, configured, replace
from tests.waiting import until


@pytest.fixture
async def config(start_town: StartTown, tmp_path: Path) -> AsyncIterator[Configured]:
    """A reloadable town whose file nobody has touched."""
    async with configured(await start_town(), tmp_path / "experts.yaml") as configuration:
        yield configuration


@pytest.mark.row("D5")
async def test_reload_unchanged_servers_and_classifier_keep_what_is_known(config: Configured) -> None:
    gateway, server = config.town.gateway, config.town.servers["math"]
    server.fault("hang")
    asking = asyncio.create_task(gateway.chat("math"))
    await server.until(lambda server: server.running == 1)
    before = config.gateway.current
    (down,) = (state for url, state in before.fleet.states.items() if url == config.town.servers["coding"].url)
    await config.town.servers["coding"].stop()
    await until(lambda: not down.up)
    jobs = config.gateway.current.scorer._jobs
    await config.change(currency="EUR", router={"deadline_s": 7, "batch_size": 3})
    now = config.gateway.current
    assert now is not before
    assert now.scorer is before.scorer
    assert (now.scorer._jobs, now.scorer._deadline_s, now.scorer._batch_size) == (jobs, 7, 3)
    assert now.fleet.states == before.fleet.states
    assert not now.fleet.states[down.url].up
    assert (await gateway.metric("pointsman_upstream_inflight"))[
        f'pointsman_upstream_inflight{{upstream="{server.url}"}}'
    ] == 1
    asking.cancel()
    await server.until(lambda server: server.running == 0)
    await until(lambda: now.fleet.states[server.url].inflight == 0)


async def test_reload_new_expert_on_a_known_server_is_looked_for_at_once(config: Configured) -> None:
    url = config.town.servers["math"].url
    experts = config.content()["experts"]
    here = {**experts["math"], "domains": ["health"]}
    await config.change(experts={**experts, "doctor": {**here, "model": "sim/lost"}})
    assert not config.gateway.current.fleet.usable(config.gateway.catalog.experts["doctor"])
    assert (await config.town.gateway.chat("health")).headers["x-pointsman-expert"] == "generalist"
    await config.change(experts={**experts, "doctor": {**here, "model": "sim/math"}})
    assert (await config.town.gateway.chat("health")).headers["x-pointsman-expert"] == "doctor"
    assert config.gateway.current.fleet.states[url].expected == {"sim/math"}


async def test_reload_keys_change_with_the_configuration(config: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A", "B"):
        monkeypatch.setenv(f"POINTSMAN_TEST_{name}", f"key-of-{name}")

    async def status(key: str | None) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        body = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
        return (await config.town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)).status_code

    assert await status(None) == 200
    await config.change(keys={"a": {"key_env": "POINTSMAN_TEST_A"}})
    assert [await status(key) for key in (None, "key-of-A", "key-of-B")] == [401, 200, 401]
    await config.change(keys={"b": {"key_env": "POINTSMAN_TEST_B", "experts": ["generalist"]}})
    assert [await status(key) for key in (None, "key-of-A", "key-of-B")] == [401, 401, 200]
    assert config.town.gateway.recorder.records[-1].chosen == "generalist"
    # A wrong one changes nothing here either.
    config.write(keys={"a": {"key_env": "POINTSMAN_TEST_NOT_SET"}})
    assert (await config.reloader.reload("test")).outcome is Outcome.INVALID
    assert await status("key-of-B") == 200


@pytest.mark.row("D12")
async def test_reload_that_would_open_a_public_address_is_refused(
    start_town: StartTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_TEST_A", "key-of-A")
    town = await start_town(keys={"a": {"key_env": "POINTSMAN_TEST_A"}}, server={"host": "0.0.0.0"})
    async with configured(town, tmp_path / "experts.yaml") as config:
        # The address is the running one, whatever the file says now.
        config.write(keys={}, server={**config.content()["server"], "host": "127.0.0.1"})
        result = await config.reloader.reload("test")
        assert result.outcome is Outcome.INVALID
        assert "refusing to listen on 0.0.0.0 without keys" in result.problems[0]
        assert (await town.gateway.chat("math")).status_code == 401


async def test_reload_limits_sessions_and_log_change(config: Configured) -> None:
    content = config.content()
    limits, sessions = {**content["limits"], "body_bytes": 1024}, {**content["sessions"], "capacity": 1}
    for turn in range(3):
        await config.town.gateway.chat(f"math {turn}")
    assert len(config.gateway.sessions) == 3
    await config.change(limits=limits, sessions=sessions)
    assert (await config.town.gateway.chat("x" * 2000)).status_code == 413
    assert len(config.gateway.sessions) == 1


async def test_reload_settings_that_need_a_restart_are_named_and_stay(config: Configured) -> None:
    server = {**config.content()["server"], "port": 1, "host": "0.0.0.0", "log_level": "debug", "drain_s": 7}
    result = await config.change(server=server)
    assert result.need_restart == ("server.host", "server.port", "server.log_level")
    assert (config.gateway.settings.server.host, config.gateway.settings.server.drain_s) == ("127.0.0.1", 7)
    again = await config.reloader.reload("test")
    assert (again.outcome, again.need_restart) == (Outcome.UNCHANGED, result.need_restart)


async def test_reload_quality_table_that_changed_is_read_again(config: Configured, tmp_path: Path) -> None:
    def table(score: float) -> str:
        rows = [f"{d},generalist,0.5,500\n{d},math,{score},500" for d in ("math", "coding", "health", "general")]
        return "domain,expert,score,count\n" + "\n".join(rows) + "\n"

    (tmp_path / "quality.csv").write_text(table(0.9))
    policy = {"name": "quality", "quality_table": "quality.csv"}
    await config.change(policy=policy)
    assert (await config.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    before = config.gateway.current
    replace(tmp_path / "quality.csv", table(0.1))
    await until(lambda: config.gateway.current is not before)
    assert (await config.town.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    before = config.gateway.current
    replace(tmp_path / "quality.csv", "nonsense")
    wrong = config.gateway.metrics.reloads.labels("invalid")
    await until(lambda: wrong._value.get() == 1)
    assert config.gateway.current is before


async def test_reload_feedback_file_changes(config: Configured, tmp_path: Path) -> None:
    http = config.town.gateway.http

    async def rate(answer: httpx2.Response) -> int:
        body = {"id": answer.headers["x-request-id"], "rating": "up"}
        return (await http.post("/v1/feedback", json=body)).status_code

    assert await rate(await config.town.gateway.chat("math")) == 404
    for name in ("one.db", "two.db"):
        await config.change(feedback={"database": name})
        answer = await config.town.gateway.chat("math")
        assert await rate(answer) == 201
        assert (tmp_path / name).exists()
    await config.change(currency="EUR")
    assert await rate(answer) == 201  # an unchanged section remembers
    await config.change(feedback={})
    assert await rate(answer) == 404
