"""The page of the system: stores, losses, classifier, quality; and the file read again by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.stores.records.tables import SQLITE_STEPS
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.waiting import until

pytestmark = pytest.mark.slow


async def test_system_page_says_what_runs_and_how_the_store_does(site: Site) -> None:
    await site.chat("math", "hello")
    said = await site.text("system")
    assert "Kind SQLite" in said
    assert f"records version {len(SQLITE_STEPS)}" in said
    assert "Writes yes" in said
    assert "Written 2 since the start" in said
    assert "requests 14 days" in said
    assert "keywords" in said, "the classifier's version"
    assert "No quality table is configured" in said
    assert "This classifier comes without a card." in said
    assert "pydantic" in said or "Run from a checkout" in said


async def test_live_figures_of_the_system_have_an_etag_and_change_with_the_store(site: Site) -> None:
    first = await site.get("system/live.json")
    await site.chat("math")
    second = await site.get("system/live.json")
    assert (first.json()["written"], second.json()["written"]) == ("0", "1")
    assert second.json()["lost"] == {"text": "0", "state": "good"}
    page = (await site.get("system")).text
    assert all(f'data-key="{key}"' in page for key in second.json())


async def test_lost_records_are_told(site: Site) -> None:
    site.admin.gateway.event("gap", rows=7, since_us=1_767_225_600_000_000, until_us=1_767_225_601_000_000)
    await until(lambda: any(event["kind"] == "gap" for event in site.admin.plane.queries.events()))
    said = await site.text("system")
    assert "Losses of records" in said
    assert "rows: 7" in said
    assert "2026-01-01 00:00:00" in said


async def test_quality_table_is_shown_with_its_intervals(start_site: StartSite, tmp_path: Path) -> None:
    table = tmp_path / "quality.csv"
    lines = ["domain,expert,score,count"]
    for domain in ("math", "coding", "health", "general"):
        lines += [f"{domain},generalist,0.6,100", f"{domain},math,{0.9 if domain == 'math' else 0.3},100"]
    table.write_text("\n".join(lines) + "\n")
    site = await start_site(policy={"name": "quality", "quality_table": str(table)})
    page = await site.get("system")
    said = text_of(page.text)
    assert "100 prompts" in said
    assert "not measured" in said, "coding"
    assert "surely better than the generalist" in said
    assert '<span class="state" data-state="good">' in page.text.split("Quality table</h2>", 1)[1]
    table.write_text("nonsense")
    assert "the first line must name the columns" in await site.text("system")


async def test_file_is_read_again_by_hand_and_by_administrators_only(site: Site) -> None:
    assert "Read the configuration's file again" in await site.text("system")
    answer = await site.post("system/reload")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/system?done=unchanged")
    site.admin.config.path.write_text("generalist: [")
    answer = await site.post("system/reload")
    assert answer.headers["location"] == "/admin/system?done=invalid"
    assert "cannot be used" in await site.text("system", done="invalid")
    viewed = await site.viewer.get("/admin/system")
    assert "Read the configuration's file again" not in viewed.text
    assert (await site.post("system/reload", site.viewer)).status_code == 403


async def test_system_page_without_records_says_so(start_site: StartSite) -> None:
    assert "No records are kept." in await (await start_site(records=False)).text("system")


async def test_system_page_with_a_broken_store_shows_the_rest(site: Site, tmp_path: Path) -> None:
    _break(tmp_path / "records.db")
    said = await site.text("system")
    assert "cannot be read" in said
    assert "Classifier" in said


def _break(database: Path) -> None:
    for suffix in ("-wal", "-shm"):
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
    database.write_bytes(b"no database, but long enough to be looked at as one" * 30)
