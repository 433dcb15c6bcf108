"""Quotas in `experts.yaml`, what is put together from them, what a record settles, what metrics show."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.callers import Grant
from gateway.context import Attempt, RequestContext
from gateway.errors import RateLimited
from gateway.finishing import record_of
from gateway.limit_metrics import LimitMetrics
from gateway.limiting import in_same_place, make_limits, used_by
from gateway.settings import MissingSecret, QuotaSettings, Settings
from gateway.settings_file import ConfigError, parse
from gateway.types import Catalog, Endpoint, Expert, Price, Timeouts
from tests.limits.clocks import Clock, limits_of

FILE = "generalist: {model: m, upstreams: [http://127.0.0.1:9]}\nquotas:\n"


def settings_of(**quotas: Any) -> Settings:
    generalist = {"model": "m", "upstreams": ["http://127.0.0.1:9"]}
    return Settings.model_validate({"generalist": generalist, "quotas": quotas})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  experts: {nobody: {requests_per_minute: 5}}\n", "unknown expert 'nobody'"),
        ("  {database: a.db, valkey: {url_env: V}}\n", "not both"),
        ("  default: {requests_per_minute: 0}\n", "greater than or equal to 1"),
        ("  default: {daily_budget: .nan}\n", "finite"),
        ("  valkey: {url_env: redis://x}\n", "pattern"),
        ("  valkey: {url_env: V, when_down: hope}\n", "local"),
        ("  downgrade_at: 1.5\n", "less than or equal to 1"),
    ],
)
def test_wrong_quotas_are_errors(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(FILE + text)


def test_quotas_of_the_generalist_and_a_relative_database() -> None:
    settings = parse(FILE + "  {experts: {generalist: {tokens_per_minute: 5}}, database: spent.db}\n")
    assert settings.anchored(Path("/etc/pointsman")).quotas.database == "/etc/pointsman/spent.db"


async def test_limits_are_made_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_limits(settings_of(default={"concurrent_requests": 1}))
    assert plain.valkey is None
    kept = str(tmp_path / "spent.db")
    async with make_limits(settings_of(database=kept)) as limits:
        (await limits.reserve(Grant("k"), "math", 1, 0.5)).settle(1, 0.5)
    async with make_limits(settings_of(database=kept)) as limits:
        assert limits.left(Grant("k", daily_budget=1)) == 0.5
    monkeypatch.delenv("VALKEY_URL", raising=False)
    with pytest.raises(MissingSecret):
        make_limits(settings_of(valkey={"url_env": "VALKEY_URL"}))
    monkeypatch.setenv("VALKEY_URL", "redis://:a-password@127.0.0.1:1/0")
    async with make_limits(settings_of(valkey={"url_env": "VALKEY_URL"})) as limits:
        (await limits.reserve(Grant("k", rpm=5), "math", 1, None)).settle(1, None)
        assert limits.counts.local == 1
        assert "a-password" not in repr(limits.valkey.__dict__)


def test_client_library_is_not_loaded_unless_wanted() -> None:
    import subprocess

    check = "import gateway.limiting, gateway.budgets, sys; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_reload_counts_on_where_it_did() -> None:
    running = QuotaSettings(database="a.db")
    quotas, changed = in_same_place(QuotaSettings(database="b.db", downgrade_at=0.5), running)
    assert (quotas.database, quotas.downgrade_at, changed) == ("a.db", 0.5, ("quotas.database",))
    assert in_same_place(QuotaSettings(database="a.db"), running)[1] == ()


EXPERT = Expert(
    "generalist", "m", (), (), frozenset(), frozenset(), Timeouts(1, 1, 1, 1), price=Price(input=1.0, output=2.0)
)
CATALOG = Catalog({"generalist": EXPERT}, EXPERT, {}, "v")


@pytest.mark.parametrize(
    ("changes", "attempts", "expected"),
    [
        ({}, [], (0, 0.0)),
        ({}, [Attempt("generalist", "u", "upstream_unreachable")], (0, 0.0)),
        ({}, [Attempt("generalist", "u", "passed", 400)], (0, 0.0)),
        ({"chosen": "generalist"}, [Attempt("generalist", "u", "ok", 200)], (None, None)),
        ({}, [Attempt("generalist", "u")], (None, None)),
        ({"cache": "hit"}, [], (0, 0.0)),
    ],
)
def test_what_is_settled_follows_from_what_is_known(
    changes: dict[str, Any], attempts: list[Attempt], expected: tuple[int | None, float | None]
) -> None:
    context = replace(RequestContext("id", Endpoint.CHAT, CATALOG, attempts=attempts), **changes)
    assert used_by(context, record_of(context)) == expected


def test_known_usage_is_settled_with_what_a_strategy_spent() -> None:
    context = RequestContext("id", Endpoint.CHAT, CATALOG, chosen="generalist")
    context.usage.input_tokens, context.usage.output_tokens = 1_000_000, 500_000
    record = replace(record_of(context), extra_input_tokens=7, extra_output_tokens=3)
    assert used_by(context, record) == (1_500_010, 2.0)


async def test_metrics_count_refusals_and_show_no_key() -> None:
    limits = limits_of(Clock())
    registry = CollectorRegistry()
    LimitMetrics(registry, limits)
    grant = Grant("very-secret-name", rpm=1)
    await limits.reserve(grant, "math", 1, None)
    with pytest.raises(RateLimited):
        await limits.reserve(grant, "math", 1, None)
    page = generate_latest(registry).decode()
    assert 'pointsman_limit_refusals_total{limit="requests",owner="key"} 1.0' in page
    assert "pointsman_valkey_up" not in page
    assert "very-secret-name" not in page
