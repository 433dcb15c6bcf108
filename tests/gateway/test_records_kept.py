"""Records of a running gateway: every request is one row, whatever became of it, and nobody waits for the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.reload import Outcome
from gateway.stores.records.queries import RecordFilter
from tests.conftest import quick_expert, settings_for
from tests.gateway.reloading import configured
from tests.harness import run_gateway
from tests.waiting import until


def rows_of(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM record ORDER BY at_us")]


async def test_every_request_is_one_row_whatever_became_of_it(start_town: Any, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    town = await start_town(records={"database": str(path)})
    town.servers["math"].fault("status;code=500", count=1)
    for text in ("math", "coding", "hello", "math"):
        await town.gateway.chat(text, stream=text == "coding")
    await town.gateway.chat("math", model="nobody")
    await town.gateway.http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    gateway = town.gateway.app.state.gateway
    await until(lambda: len(rows_of(path)) == 6)
    rows = rows_of(path)
    assert Counter(row["status"] for row in rows) == {200: 3, 500: 1, 404: 1, 400: 1}
    assert Counter(row["chosen"] for row in rows) == {"math": 2, "coding": 1, "generalist": 1, None: 2}
    page = await asyncio.to_thread(gateway.records.queries.page, RecordFilter(chosen="math"))
    assert [row["domain"] for row in page.rows] == ["math", "math"]
    shown = (await town.gateway.http.get("/metrics")).text
    assert "pointsman_log_rows_written_total 6.0" in shown
    assert 'pointsman_log_rows_dropped_total{reason="queue_full"} 0.0' in shown


async def test_clean_stop_loses_nothing(sim_server: Any, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    server = await sim_server(quick_expert("base"))
    experts = {"generalist": {"model": "base", "upstreams": [server.url]}}
    async with run_gateway(settings_for(experts, records={"database": str(path)})) as gateway:
        await asyncio.gather(*(gateway.chat(f"hello {number}") for number in range(120)))
    assert len(rows_of(path)) == 120


async def test_what_happens_to_servers_and_configuration_is_kept_as_events(start_town: Any, tmp_path: Path) -> None:
    town = await start_town(records={"database": str(tmp_path / "records.db")})
    async with configured(town, tmp_path / "experts.yaml") as config:
        url = town.servers["math"].url
        config.gateway.current.fleet.switch(url, on=False)
        config.gateway.current.fleet.switch(url, on=True)
        await config.change(router={"thresholds": {"math": 0.5}})
        records = config.gateway.records
        assert records is not None
        await until(lambda: len(records.queries.events()) == 3)
        kinds = [event["kind"] for event in records.queries.events()]
        assert sorted(kinds) == ["config", "upstream_off", "upstream_on"]


async def test_change_of_the_store_needs_a_restart_and_the_rest_counts_at_once(start_town: Any, tmp_path: Path) -> None:
    town = await start_town(records={"database": str(tmp_path / "records.db")})
    async with configured(town, tmp_path / "experts.yaml") as config:
        config.write(records={"database": str(tmp_path / "other.db")}, router={"thresholds": {"math": 0.5}})
        result = await config.reloader.reload("test")
    assert (result.outcome, result.need_restart) == (Outcome.APPLIED, ("records",))
    assert not (tmp_path / "other.db").exists()


@pytest.mark.row("E4")
async def test_store_that_stalls_costs_requests_nothing(start_town: Any, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    town = await start_town(records={"database": str(path)})
    await town.gateway.chat("hello")
    await until(lambda: len(rows_of(path)) == 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as hog:
        hog.execute("BEGIN IMMEDIATE")  # the writer waits for this lock
        answers = await asyncio.gather(*(town.gateway.chat(f"hello {number}") for number in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        hog.execute("ROLLBACK")
    await until(lambda: len(rows_of(path)) == 51)
