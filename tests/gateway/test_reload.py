"""A changed configuration is taken over without losing a request, and a wrong one not at all (OPERATIONS D5 to D8)."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.reload import ConfigSource, Outcome, Reloader
from gateway.settings_file import dump
from gateway.state import Gateway
from tests.connections import listening
from tests.gateway.reloading import LOOK_S, Configured, StartTown, configured, replace
from tests.waiting import until


@pytest.fixture
async def config(start_town: StartTown, tmp_path: Path) -> AsyncIterator[Configured]:
    """A reloadable town whose file nobody has touched."""
    async with configured(await start_town(), tmp_path / "experts.yaml") as configuration:
        yield configuration


async def test_reload_changed_file_counts_from_the_next_request(config: Configured) -> None:
    before = config.gateway.catalog.version
    assert (await config.town.gateway.chat("math")).headers["x-pointsman-domain"] == "math"
    result = await config.change(server={**config.content()["server"], "decision_headers": "expert"})
    answer = await config.town.gateway.chat("math")
    assert answer.headers["x-pointsman-expert"] == "math"
    assert "x-pointsman-domain" not in answer.headers
    assert result.version == config.gateway.catalog.version != before
    assert config.town.gateway.recorder.records[-1].catalog_version == result.version
    versions = await config.town.gateway.metric("pointsman_config_hash_info")
    assert versions == {f'pointsman_config_hash_info{{version="{result.version}"}}': 1.0}
    counted = await config.town.gateway.metric("pointsman_config_reloads_total")
    assert counted['pointsman_config_reloads_total{outcome="applied"}'] == 1


async def test_reload_same_meaning_is_unchanged(config: Configured) -> None:
    generation = config.gateway.current
    content = config.content()
    replace(config.path, "# a comment\n" + yaml.safe_dump(dict(reversed(content.items()))))
    assert (await config.reloader.reload("test")).outcome is Outcome.UNCHANGED
    assert config.gateway.current is generation
    counted = await config.town.gateway.metric("pointsman_config_reloads_total")
    assert counted['pointsman_config_reloads_total{outcome="unchanged"}'] == 1


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "bad YAML": (lambda content: "generalist: [", "experts.yaml:1: "),
    "not a mapping": (lambda content: "- 1", "experts.yaml"),
    "empty": (lambda content: "", "generalist: is required"),
    "binary": (lambda content: "\x00\x01", "is not"),
    "unknown key": (lambda content: {**content, "polcy": {}}, "polcy: unknown key"),
    "threshold above 1": (lambda content: {**content, "router": {"minimum_confidence": 1.5}}, "less than or equal"),
    "missing secret": (lambda c: {**c, "keys": {"a": {"key_env": "POINTSMAN_TEST_NOT_SET"}}}, "POINTSMAN_TEST_NOT_SET"),
    "unknown domain": (lambda c: {**c, "router": {"thresholds": {"maths": 0.5}}}, "did you mean 'math'"),
    "strategy for an unknown domain": (
        lambda c: {**c, "strategies": {"domains": {"maths": {"name": "vote"}}}},
        "strategies.domains.maths",
    ),
    "no quality table": (lambda c: {**c, "policy": {"quality_table": "none.csv"}}, "none.csv"),
    "no artifact": (lambda c: {**c, "canary": {"share": 0.5, "artifact": "/none"}}, "/none"),
    "feedback in a folder that is not there": (lambda c: {**c, "feedback": {"database": "no/f.db"}}, "no/f.db"),
    "open door": (lambda c: {**c, "server": {**c["server"], "host": "127.0.0.1", "port": 70_000}}, "server.port"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.row("D5")
async def test_d5_wrong_configuration_the_one_in_use_stays(config: Configured, wrong: str) -> None:
    generation = config.gateway.current
    make, said = WRONG[wrong]
    content = make(config.content())
    replace(config.path, content if isinstance(content, str) else yaml.safe_dump(content))
    result = await config.reloader.reload("test")
    assert result.outcome is Outcome.INVALID
    assert result.problems
    assert all(str(config.path) in problem for problem in result.problems)
    assert said in "\n".join(result.problems)
    assert config.gateway.current is generation
    assert result.version == generation.catalog.version
    assert (await config.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    counted = await config.town.gateway.metric("pointsman_config_reloads_total")
    assert counted['pointsman_config_reloads_total{outcome="invalid"}'] == 1
    assert counted['pointsman_config_reloads_total{outcome="applied"}'] == 0


@pytest.mark.row("D5")
async def test_d5_missing_file_the_one_in_use_stays_until_it_is_back(config: Configured) -> None:
    good = config.path.read_text()
    config.path.unlink()
    result = await config.reloader.reload("test")
    assert (result.outcome, len(result.problems)) == (Outcome.INVALID, 1)
    replace(config.path, good)
    assert (await config.reloader.reload("test")).outcome is Outcome.UNCHANGED


@pytest.mark.row("D5")
async def test_d5_wrong_file_is_told_once_by_the_watch_and_the_next_good_one_is_used(config: Configured) -> None:
    wrong = config.town.gateway.app.state.gateway.metrics.reloads.labels("invalid")
    replace(config.path, "generalist: [")
    await until(lambda: wrong._value.get() == 1)
    for _ in range(3):
        await config.reloader._has_changed()
    assert wrong._value.get() == 1
    before = config.gateway.current
    replace(config.path, dump(config.gateway.settings.model_copy(update={"currency": "EUR"})))
    await until(lambda: config.gateway.current is not before)
    assert config.gateway.settings.currency == "EUR"


@pytest.mark.row("D6")
async def test_d6_half_written_file_is_never_used(config: Configured) -> None:
    """Every prefix that ends with a line is tried by the writer; the shorter ones lack experts and are valid YAML."""
    seen: list[frozenset[str]] = []
    config.gateway.on_change.append(lambda generation: seen.append(frozenset(generation.catalog.experts)))
    text = yaml.safe_dump({**config.content(), "currency": "EUR"}, sort_keys=True)
    with config.path.open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
            await asyncio.sleep(LOOK_S / 6)
    await until(lambda: config.gateway.settings.currency == "EUR")
    assert seen == [frozenset({"generalist", "math", "coding"})]


@pytest.mark.row("D6")
async def test_d6_file_that_changes_while_it_is_read_is_not_used(config: Configured) -> None:
    """The reading sees a change under its hands each time: it must give up, not take any of them."""
    generation = config.gateway.current
    changes = 0

    def load_and_change(settings: Any) -> Any:
        nonlocal changes
        changes += 1
        os.utime(config.path, ns=(changes, changes))
        return settings.model_copy(update={"currency": "EUR"})

    restless = Reloader(config.gateway, ConfigSource(config.path, load_and_change))
    result = await restless.reload("test")
    assert result.outcome is Outcome.INVALID
    assert "changes while it is read" in result.problems[0]
    assert changes > 1
    assert config.gateway.current is generation


@pytest.mark.row("D6")
async def test_d6_configmap_link_swap_is_seen(start_town: StartTown, tmp_path: Path) -> None:
    """As the kubelet does it: new folder, new link `..data_tmp`, renamed over `..data`; the file's own link stays."""
    town = await start_town()
    settings = town.gateway.app.state.gateway.settings
    for number, currency in enumerate(("USD", "EUR")):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "experts.yaml").write_text(dump(settings.model_copy(update={"currency": currency})))
    (tmp_path / "..data").symlink_to("..0")
    path = tmp_path / "experts.yaml"
    path.symlink_to("..data/experts.yaml")
    gateway: Gateway = town.gateway.app.state.gateway
    async with Reloader(gateway, ConfigSource(path), every_s=LOOK_S):
        (tmp_path / "..data_tmp").symlink_to("..1")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        await until(lambda: gateway.settings.currency == "EUR")
        (tmp_path / "..0" / "experts.yaml").unlink()
        (tmp_path / "..0").rmdir()
        assert (await town.gateway.chat("math")).status_code == 200


@pytest.mark.slow
@pytest.mark.row("D7")
async def test_d7_fifty_reloads_with_traffic_lose_no_request_and_the_last_valid_wins(config: Configured) -> None:
    gateway, over = config.town.gateway, asyncio.Event()
    statuses: list[int] = []

    async def ask(stream: bool) -> None:
        while not over.is_set():
            answer = await gateway.chat("math please", stream=stream)
            statuses.append(answer.status_code)
            assert not stream or answer.text.endswith("data: [DONE]\n\n")

    clients = [asyncio.create_task(ask(stream)) for stream in (False, True) * 4]
    reloads = []
    for number in range(50):
        if number % 5 == 4:
            replace(config.path, "generalist: [")
        else:
            experts = config.content()["experts"] if number % 5 else {}
            config.write(currency=f"AA{chr(ord('A') + number % 26)}", experts=experts or config.without("coding"))
            good = config.path.read_text()
        reloads.append(asyncio.create_task(config.reloader.reload("test")))
        await asyncio.sleep(0.01)
        if number % 5 == 4:
            replace(config.path, good)
    await asyncio.gather(*reloads)
    config.write(currency="ZZZ")
    assert (await config.reloader.reload("test")).outcome is Outcome.APPLIED
    over.set()
    await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert len(statuses) > 50
    assert config.gateway.settings.currency == "ZZZ"
    await until(lambda: not config.gateway._retired)
    inflight = await gateway.metric("pointsman_upstream_inflight")
    assert set(inflight.values()) == {0.0}


@pytest.mark.row("D8")
async def test_d8_removed_experts_stream_ends_on_the_old_configuration(config: Configured) -> None:
    gateway, server = config.town.gateway, config.town.servers["math"]
    server.fault("drip;seconds=0.01;bytes=60")
    old = config.gateway.current
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "math"}]}
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.aiter_lines()
        first = await anext(lines)
        await config.change(experts=config.without("math"))
        assert len(old.running) == 1
        fresh = await gateway.chat("math")
        assert fresh.headers["x-pointsman-expert"] == "generalist"
        assert (await gateway.chat("math", model="math")).status_code == 404
        assert "auto/math" not in [card["id"] for card in (await gateway.http.get("/v1/models")).json()["data"]]
        for name in ("pointsman_expert_up", "pointsman_upstream_up", "pointsman_upstream_inflight"):
            assert not [series for series in await gateway.metric(name) if "math" in series or server.url in series]
        rest = [line async for line in lines]
    assert first.startswith("data: ")
    assert [line for line in rest if line][-1] == "data: [DONE]"
    await until(lambda: not config.gateway._retired)
    assert not old.running
    records = {record.request_id: record for record in gateway.recorder.records}
    assert records[answer.headers["x-request-id"]].chosen == "math"
    # What it did stays counted.
    counted = await gateway.metric("pointsman_requests_total")
    assert [series for series in counted if 'chosen="math"' in series]


async def test_reload_leaves_nothing_of_the_old_configuration_behind(config: Configured) -> None:
    await config.town.gateway.chat("math")
    old = weakref.ref(config.gateway.current.pipeline)
    tasks = len(asyncio.all_tasks())
    for currency in ("EUR", "CHF", "SEK"):
        await config.change(currency=currency)
        assert (await config.town.gateway.chat("math")).status_code == 200
    await until(lambda: not config.gateway._retired)
    gc.collect()
    assert old() is None
    assert len(asyncio.all_tasks()) <= tasks


async def test_reload_given_up_in_the_middle_leaves_all_as_it_was(config: Configured) -> None:
    """The new expert's server takes connections and says nothing, so the switch waits for its first probe."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        gone.set()

    gone = asyncio.Event()
    before, threads = config.gateway.current, config.gateway._scorers._used.copy()
    async with listening(say_nothing) as url:
        late = {"model": "m", "domains": ["health"], "upstreams": [url]}
        config.write(experts={**config.content()["experts"], "late": late})
        reloading = asyncio.create_task(config.reloader.reload("test"))
        await until(lambda: config.gateway._changing.locked())
        await asyncio.sleep(0.05)
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)
        assert reloading.cancelled()
        await asyncio.wait_for(gone.wait(), 5)
    assert config.gateway.current is before
    assert config.gateway._scorers._used == threads
    assert [used.users for used in threads.values()] == [1]
    assert (await config.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
