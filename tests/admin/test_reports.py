"""Reports of money, times and keys, and drafts tried on stored requests: they say what the records say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.admin.differences import MOST_LINES, differences
from gateway.admin.stored_scores import COLUMNS, scores_of
from tests.admin.test_records import filled
from tests.fixtures_admin import VIEWER, Admin, StartAdmin, code_of
from tests.waiting import until

pytestmark = pytest.mark.slow


async def test_report_routes_answer_for_real_requests(admin: Admin) -> None:
    await filled(admin, 9)
    cost = await admin.json("/reports/cost")
    assert (cost["total"]["requests"], cost["currency"]) == (9, "USD")
    assert {one["name"] for one in cost["experts"]} == {"math", "coding", "generalist"}
    latency = await admin.json("/reports/latency")
    assert latency["looked_at"] == 9
    assert {one["name"] for one in latency["stages"]} >= {"classify", "overhead", "end_to_end"}
    wrong: tuple[dict[str, Any], ...] = ({"since_s": 5, "until_s": 4}, {"since_s": 0}, {"since_s": -1}, {"other": 1})
    for query in wrong:
        answer = await admin.get("/reports/cost", **query)
        assert answer.status_code == 400, query


async def test_reports_without_records_say_so(start_admin: StartAdmin) -> None:
    admin = await start_admin(records=False)
    for path in ("cost", "latency"):
        answer = await admin.get(f"/reports/{path}")
        assert (answer.status_code, code_of(answer)) == (404, "records_disabled")
    keys = await admin.json("/reports/keys")
    assert (keys["records_problem"], keys["stored"], keys["configured"]) == ("records_disabled", None, [])


@pytest.fixture
async def keyed(start_admin: StartAdmin, tmp_path: Path) -> Admin:
    """With keys of all three kinds, limits and a file of what was spent."""
    return await start_admin(
        keys={"team": {"key_env": "T_CALLER", "requests_per_minute": 60, "daily_budget": 1.0, "experts": ["math"]}},
        key_store={"database": str(tmp_path / "keys.db")},
        quotas={"database": str(tmp_path / "spending.db"), "default": {"concurrent_requests": 5}},
    )


async def test_key_report_shows_limits_use_and_what_is_left(keyed: Admin) -> None:
    await keyed.post("/keys", {"name": "made", "terms": {"tokens_per_minute": 1000, "tags": ["blue"]}})
    await keyed.post("/keys", {"name": "gone"})
    await keyed.post("/keys/revoke", {"name": "gone"})
    headers = {"authorization": "Bearer a-data-plane-key"}
    body = {"model": "math", "messages": [{"role": "user", "content": "math"}]}
    for _ in range(3):
        answer = await keyed.town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
    records = keyed.gateway.records
    assert records is not None
    await until(lambda: records.state().written >= 3)

    found = await keyed.json("/reports/keys")
    (team,) = found["configured"]
    assert (team["name"], team["source"], team["lately"]["requests"]) == ("team", "configuration", 3)
    assert ["experts", "math"] in team["terms"]
    limits = {limit["kind"]: limit for limit in team["limits"]}
    assert set(limits) == {"requests", "concurrent", "day"}
    assert 2 < limits["requests"]["used"] <= 3
    assert limits["day"]["limit"] == 1.0
    assert limits["day"]["used"] == pytest.approx(team["lately"]["cost"], abs=1e-9)
    assert limits["day"]["used"] > 0
    stored = {key["name"]: key for key in found["stored"]}
    assert (stored["gone"]["state"], stored["gone"]["limits"]) == ("revoked", [])
    assert {limit["kind"] for limit in stored["made"]["limits"]} == {"tokens", "concurrent"}
    assert found["counted_by"] == "file"
    assert "a-data-plane-key" not in str(found)

    async def saved() -> list[Any]:
        spend: list[Any] = (await keyed.json("/reports/keys"))["spend"]
        return spend

    async with asyncio.timeout(10):
        while not (spend := await saved()):  # noqa: ASYNC110 - the file is written once a second
            await asyncio.sleep(0.1)
    assert [one["key"] for one in spend] == ["team"]
    assert sum(one["cost"] for one in spend) == pytest.approx(limits["day"]["used"])


async def test_key_report_says_when_the_store_of_keys_cannot_be_read(keyed: Admin, tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"this is no database at all, and long enough to be looked at" * 20)
    found = await keyed.json("/reports/keys")
    assert (found["store_problem"], found["stored"]) == ("key_store_unavailable", [])
    assert found["configured"]


async def text_of(admin: Admin) -> str:
    return str((await admin.json("/config/file"))["yaml"])


def changed(text: str, **sections: Any) -> str:
    return yaml.safe_dump({**yaml.safe_load(text), **sections})


async def test_dry_run_of_a_draft_says_how_many_would_move_and_what_it_costs(admin: Admin) -> None:
    for words in ("math sure=0.9", "math sure=0.7", "coding sure=0.9", "hello sure=0.9"):
        await admin.town.gateway.chat(words)
    await admin.town.gateway.chat("hello", model="coding")
    records = admin.gateway.records
    assert records is not None
    await until(lambda: records.state().written >= 5)
    file, used = await text_of(admin), admin.gateway.current
    draft = changed(file, router={"minimum_confidence": 0.8})
    answer = await admin.post("/config/dry-run", {"yaml": draft})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    report = found["report"]
    assert (report["looked_at"], report["kept"], report["undecidable"], report["agreeing"]) == (5, 1, 0, 1.0)
    assert (report["moved"], report["to_generalist"]) == (1, 1)
    (move,) = report["moves"]
    assert (move["before"], move["after"], move["reason"]) == ("math", "generalist", "low_confidence")
    ((request_id, at_us),) = move["examples"]
    assert (await admin.json(f"/records/{request_id}"))["at_us"] == at_us
    assert report["cost_after"] == pytest.approx(report["cost_before"])  # all have the same price
    assert found["settings_changed"] == ["router"]
    assert any(line["kind"] == "added" and "0.8" in line["text"] for line in found["lines"])
    assert admin.gateway.current is used, "a dry run applies nothing"
    assert await text_of(admin) == file


async def test_dry_run_prices_with_the_drafts_prices_and_counts_experts_that_are_gone(admin: Admin) -> None:
    await filled(admin, 3)
    await admin.town.gateway.chat("hello", model="coding")
    records = admin.gateway.records
    assert records is not None
    await until(lambda: records.state().written >= 4)
    text = await text_of(admin)
    dearer = yaml.safe_load(text)
    for expert in (dearer["generalist"], *dearer["experts"].values()):
        expert["price"] = {"input": 10.0, "output": 20.0}
    report = (await admin.post("/config/dry-run", {"yaml": yaml.safe_dump(dearer)})).json()["report"]
    assert report["moved"] == 0
    assert report["cost_after"] == pytest.approx(10 * report["cost_before"])
    fewer = yaml.safe_load(text)
    del fewer["experts"]["coding"]
    report = (await admin.post("/config/dry-run", {"yaml": yaml.safe_dump(fewer)})).json()["report"]
    assert (report["lost"], report["moved"], report["moves"][0]["reason"]) == (1, 1, "uncovered_domain")
    fixed = changed(text, policy={"name": "fixed", "expert": "math"})
    report = (await admin.post("/config/dry-run", {"yaml": fixed, "last": 2})).json()["report"]
    assert (report["looked_at"], report["experts_after"]) == (2, {"coding": 1, "math": 1})


async def test_dry_run_decides_by_measured_quality_as_the_gateway_did(start_admin: StartAdmin, tmp_path: Path) -> None:
    table = tmp_path / "quality.csv"
    lines = ["domain,expert,score,count"]
    for domain in ("math", "coding", "health", "general"):
        lines += [f"{domain},{expert},{0.9 if expert == domain else 0.6},500" for expert in ("generalist", "math")]
        lines.append(f"{domain},coding,{0.9 if domain == 'coding' else 0.3},500")
    table.write_text("\n".join(lines) + "\n")
    admin = await start_admin(policy={"name": "quality", "quality_table": str(table)})
    for prompt in ("math", "coding", "hello", "math sure=0.4", "coding sure=0.4", "health sure=0.6"):
        await admin.town.gateway.chat(prompt)
    records = admin.gateway.records
    assert records is not None
    await until(lambda: records.state().written >= 6)
    text = await text_of(admin)
    found = (await admin.post("/config/dry-run", {"yaml": text + "\n# the same\n"})).json()["report"]
    assert (found["decided_anew"], found["undecidable"], found["agreeing"], found["moved"]) == (6, 0, 1.0, 0)
    modem = changed(text, policy={"name": "modem"}, router={"minimum_confidence": 0.99})
    found = (await admin.post("/config/dry-run", {"yaml": modem})).json()["report"]
    assert found["experts_after"] == {"generalist": 6}
    assert found["moved"] == found["to_generalist"] > 0


async def test_dry_run_of_what_cannot_be_used_is_422_and_for_administrators_only(admin: Admin) -> None:
    answer = await admin.post("/config/dry-run", {"yaml": "generalist: ["})
    assert (answer.status_code, code_of(answer)) == (422, "config_invalid")
    assert answer.json()["error"]["problems"][0]["line"] == 1
    assert (await admin.post("/config/dry-run", {"yaml": ""}, token=VIEWER)).status_code == 403


async def test_dry_run_without_records_compares_all_the_same(start_admin: StartAdmin) -> None:
    admin = await start_admin(records=False)
    found = (await admin.post("/config/dry-run", {"yaml": "# one more\n" + await text_of(admin)})).json()
    assert (found["report"], found["records_problem"], found["settings_changed"]) == (None, "records_disabled", [])
    assert [line["text"] for line in found["lines"] if line["kind"] == "added"] == ["# one more"]


def test_differences_number_both_sides_and_leave_equal_lines_out() -> None:
    old = "\n".join(f"line {n}" for n in range(100))
    found = differences(old, old.replace("line 50\n", "line fifty\n"))
    assert found is not None
    assert [(line.kind, line.old, line.new) for line in found if line.kind in ("added", "removed")] == [
        ("removed", 51, None),
        ("added", None, 51),
    ]
    assert [line.kind for line in found].count("same") == 6
    assert found[0].kind == "gap"
    assert differences(old, old) == ()
    long = "x\n" * (MOST_LINES + 1)
    assert differences(long, long) == ()
    assert differences(long, long + "y\n") is None


def test_rows_with_odd_scores_are_decided_by_their_confidence() -> None:
    labels = ("math", "coding", "law")
    plain = {name: None for name in COLUMNS} | {"domain": "math", "confidence": 0.6, "margin": 0.4, "id": "r"}
    for scores in (None, "", "nonsense", "[1, 2]", '{"math": "NaN"}', '[["other", 0.9]]', '{"math": null}'):
        found = scores_of({**plain, "scores": scores}, labels)
        assert found is not None, scores
        domain, confidence = found.top()
        assert domain == "math"
        assert confidence == pytest.approx(0.6)
        assert found.margin() == pytest.approx(0.4)
    for stored in ('{"math":0.6,"law":0.3}', '[["math",0.6],["law",0.3]]'):
        found = scores_of({**plain, "scores": stored}, labels)
        assert found is not None
        assert found.as_dict() == pytest.approx({"math": 0.6, "coding": 0.1, "law": 0.3})
    assert scores_of({**plain, "domain": "poetry"}, labels) is None
