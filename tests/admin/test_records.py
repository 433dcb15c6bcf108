"""Stored requests through the admin API: filters, pages, sums, bad input, a store that is down (OPERATIONS H5)."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.stores.records import QueryTooSlow, RecordsUnavailable
from gateway.stores.records.sqlite_reader import sqlite_queries
from tests.admin.conftest import ADMIN, API, Admin, StartAdmin, bearer, code_of
from tests.waiting import until


async def filled(admin: Admin, count: int) -> None:
    """Send some requests and wait until they are stored."""
    records = admin.gateway.records
    assert records is not None
    for number in range(count):
        await admin.town.gateway.chat(("math", "coding", "hello")[number % 3])
    await until(lambda: records.state().written >= count)


async def test_pages_follow_one_another_and_give_every_request_once(admin: Admin) -> None:
    await filled(admin, 9)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {} if cursor is None else {"cursor": cursor}
        page = await admin.json("/records", limit=4, **query)
        seen += [row["id"] for row in page["records"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 9
    one = await admin.json(f"/records/{seen[0]}")
    assert one["tries"][0]["outcome"] == "ok"
    assert one["endpoint"] == "chat"


async def test_filters_and_facets_and_sums_agree(admin: Admin) -> None:
    await filled(admin, 9)
    math = await admin.json("/records", chosen="math", status_class=2, confidence_from=0.5)
    assert {row["domain"] for row in math["records"]} == {"math"}
    assert len(math["records"]) == 3
    assert (await admin.json("/records", confidence_below=0.1))["records"] == []
    assert set((await admin.json("/facets"))["chosen"]) == {"math", "coding", "generalist"}
    totals = await admin.json("/rollups/totals", by="chosen", histograms=True)
    assert {point["name"]: point["requests"] for point in totals["totals"]} == {"coding": 3, "generalist": 3, "math": 3}
    assert sum(totals["totals"][0]["histograms"]["duration"]) == 3
    series = await admin.json("/rollups/series", domain="math")
    assert sum(point["requests"] for point in series["points"]) == 3
    assert series["span_s"] in (60, 3600)
    overview = await admin.json("/overview")
    assert overview["totals"]["hour"]["requests"] == 9
    assert overview["records"]["written"] == 9
    assert overview["records_error"] is None


BAD: list[tuple[str, dict[str, Any]]] = [
    ("/records", {"nonsense": 1}),
    ("/records", {"limit": 0}),
    ("/records", {"limit": 201}),
    ("/records", {"limit": "1 OR 1=1"}),
    ("/records", {"cursor": "garbage"}),
    ("/records", {"cursor": "9" * 30 + ".x"}),
    ("/records", {"cursor": "1.\x00"}),
    ("/records", {"cursor": "'; DROP TABLE record; --"}),
    ("/records", {"since_us": -1}),
    ("/records", {"since_us": 2**63}),
    ("/records", {"until_us": 10**400}),
    ("/records", {"domain": "a\x00b"}),
    ("/records", {"key": "k" * 501}),
    ("/records", {"status_class": 6}),
    ("/records", {"confidence_from": "nan"}),
    ("/records", {"confidence_from": "inf"}),
    ("/records", {"sort": "at_us; DROP TABLE record"}),
    ("/rollups/series", {"by": "key"}),
    ("/rollups/series", {"by": "1; DROP TABLE rollup"}),
    ("/rollups/series", {"points": 10**9}),
    ("/rollups/series", {"since_s": 10, "until_s": 5}),
    ("/rollups/totals", {"since_s": 2**62}),
    ("/rollups/totals", {"status_class": "9xx"}),
    ("/events", {"limit": 1_000_000}),
    ("/events", {"limit": [1, 2]}),
    ("/records/a%00b", {}),
    ("/records/" + "x" * 129, {}),
    ("/records/a%2Fb", {}),
    ("/config/history/0", {}),
    ("/config/history/" + "9" * 30, {}),
]


async def test_bad_questions_are_400_in_our_shape(admin: Admin) -> None:
    await filled(admin, 1)
    for path, query in BAD:
        answer = await admin.get(path, **query)
        assert answer.status_code == 400, (path, query, answer.text)
        code_of(answer)
    assert len((await admin.json("/records"))["records"]) == 1


async def test_sql_in_a_filter_is_only_text(admin: Admin) -> None:
    await filled(admin, 1)
    for text in ("' OR '1'='1", '"; DROP TABLE record; --', "%", "a\\", "\u202e", "\U0001f600", "?"):
        for name in ("domain", "chosen", "reason", "key", "policy"):
            assert (await admin.json("/records", **{name: text}))["records"] == []
        for name in ("domain", "chosen", "reason"):
            assert (await admin.json("/rollups/totals", **{name: text}))["totals"] == []
    assert len((await admin.json("/records"))["records"]) == 1


async def test_any_query_is_answered_or_refused_and_never_a_defect(admin: Admin) -> None:
    await filled(admin, 1)
    chance = random.Random(11)  # the loop draws from `random` too, which Hypothesis takes for a strategy's doing
    names = ("cursor", "limit", "since_us", "domain", "status_class", "by", "points", "x")
    letters = "0123456789.-+eE'\"; %\\\0\n\u00e9\u202e\U0001f600abc"
    seen = set()
    for _ in range(150):
        texts = ("".join(chance.choices(letters, k=chance.randint(0, 12))) for _ in names)
        query = dict(chance.sample(list(zip(names, texts, strict=True)), k=chance.randint(0, 3)))
        answer = await admin.get(chance.choice(["/records", "/rollups/series"]), **query)
        assert answer.status_code in (200, 400), (query, answer.text)
        seen.add(answer.status_code)
    assert seen == {200, 400}


async def test_unknown_record_is_404(admin: Admin) -> None:
    answer = await admin.get("/records/nobody")
    assert (answer.status_code, code_of(answer)) == (404, "record_not_found")


async def test_store_that_is_broken_takes_the_record_routes_with_it_and_no_other(
    start_admin: StartAdmin, tmp_path: Path
) -> None:
    admin = await start_admin()
    await filled(admin, 1)
    queries = admin.plane.queries

    def down(statement: str, parameters: Any) -> Any:
        raise RecordsUnavailable("SQLITE_CORRUPT")

    queries._run = down
    for path in ("/records", "/records/r-1", "/rollups/series", "/rollups/totals", "/facets", "/events"):
        answer = await admin.get(path)
        assert (answer.status_code, code_of(answer)) == (503, "records_unavailable")
        assert str(tmp_path) not in answer.text
    assert (await admin.json("/overview"))["records_error"] == "records_unavailable"
    for path in ("/upstreams", "/experts", "/config", "/system"):
        assert (await admin.get(path)).status_code == 200


async def test_file_that_is_no_database_is_503(admin: Admin, tmp_path: Path) -> None:
    await filled(admin, 1)
    other = tmp_path / "other.db"
    other.write_bytes(b"no database at all" * 1000)
    admin.gateway.records.queries = sqlite_queries(str(other))  # type: ignore[union-attr]  # fault injection
    assert code_of(await admin.get("/records")) == "records_unavailable"


async def test_query_that_takes_too_long_is_503_and_holds_up_nobody(admin: Admin) -> None:
    await filled(admin, 1)

    def slow(statement: str, parameters: Any) -> Any:
        raise QueryTooSlow("took longer than 3 s; take a shorter time")

    admin.plane.queries._run = slow
    answer = await admin.get("/rollups/totals")
    assert (answer.status_code, code_of(answer)) == (503, "query_too_slow")


async def test_slow_reader_of_the_store_does_not_stop_the_data_plane(admin: Admin) -> None:
    await filled(admin, 1)
    admin.plane.queries._run = lambda statement, parameters: time.sleep(0.5) or []  # type: ignore[func-returns-value]
    waiting = [asyncio.create_task(admin.get("/facets")) for _ in range(6)]
    answers = await asyncio.gather(*(admin.town.gateway.chat("math") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert not waiting[-1].done()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_without_records_their_routes_say_so(start_admin: StartAdmin) -> None:
    admin = await start_admin(records=False)
    answer = await admin.get("/records")
    assert (answer.status_code, code_of(answer)) == (404, "records_disabled")
    assert (await admin.json("/overview"))["records"] is None
    assert code_of(await admin.get("/config/history")) == "history_disabled"


async def test_what_if_moves_requests_and_prices_them(admin: Admin) -> None:
    await filled(admin, 6)
    now = (await admin.post("/whatif")).json()
    assert (now["requests"], now["moved_to_generalist"], now["moved_to_specialist"]) == (6, 0, 0)
    stricter = (await admin.post("/whatif", {"thresholds": {"math": 0.99}})).json()
    assert stricter["moved_to_generalist"] == 2
    assert stricter["after"]["requests"] == {"generalist": 4, "coding": 2}
    assert stricter["after"]["share"]["generalist"] == pytest.approx(4 / 6, abs=1e-5)
    unknown = {"thresholds": {"nothing": 0.5}}
    bodies: tuple[Any, ...] = (unknown, {"minimum_confidence": 2}, {"last": 10**9}, {"x": 1}, [], "x")
    for wrong in bodies:
        assert (await admin.post("/whatif", wrong)).status_code == 400


async def test_records_show_no_key_and_no_prompt(start_admin: StartAdmin, tmp_path: Path) -> None:
    admin = await start_admin(keys={"caller": {"key_env": "T_CALLER"}})
    http = admin.town.gateway.http
    body = {"model": "auto", "messages": [{"role": "user", "content": "math CANARYPROMPT"}]}
    await http.post("/v1/chat/completions", json=body, headers=bearer("a-data-plane-key"))
    records = admin.gateway.records
    assert records is not None
    await until(lambda: records.state().written >= 1)
    page = (await admin.get("/records")).text
    assert '"key":"caller"' in page
    assert "CANARYPROMPT" not in page
    assert "a-data-plane-key" not in page
    assert ADMIN not in page
    assert sqlite3.connect(tmp_path / "records.db").execute("SELECT count(*) FROM record").fetchone() == (1,)
    assert (await admin.http.get(f"{API}/records")).status_code == 401
