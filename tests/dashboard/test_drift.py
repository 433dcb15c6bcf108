"""The page on drift: what changed comes first and leads to its requests; what cannot be compared says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.dashboard.conftest import Site, StartSite, text_of
from tests.dashboard.stored import block, fill, follow_counts, now_s

pytestmark = pytest.mark.slow

DAY_S = 86_400
NO_COUNTS = ("drift-days", "length-days")


def spread(days_from: float, days_to: float, count: int) -> list[float]:
    """Moments from so many days ago to so many days ago."""
    now = now_s()
    return [now - days_from * DAY_S + (days_from - days_to) * DAY_S * n / count for n in range(count)]


def shifted(folder: Path) -> None:
    def sure(place: int) -> float:
        return round(0.5 + place % 50 / 100, 4)  # as records are

    before = {"confidence": sure, "margin": sure, "domain": lambda n: "math" if n % 2 else "coding"}
    fill(folder, spread(9, 1.1, 1_600), "before", **before)
    fill(folder, spread(0.9, 0, 400), "now", **{**before, "domain": lambda n: "math" if n % 10 else "coding"})


async def test_what_changed_comes_first_and_every_number_leads_to_its_requests(
    start_site: StartSite, tmp_path: Path
) -> None:
    shifted(tmp_path)
    site = await start_site()
    html = (await site.get("drift")).text
    text = text_of(html)
    first = text.index("What moved most")
    assert text.index("Mix of domains", first) < text.index("Confidence", first)
    assert "Mix of domains large shift" in text
    assert "Shifted 1 of 7 domains" in text
    assert "None" not in text
    assert await follow_counts(site, html, but=NO_COUNTS) > 20
    days = block(html, "drift-days-data")
    assert len(days["x"]) == 28
    assert max(value for value in days["series"][0]["values"] if value is not None) > 0.25


async def test_hour_and_week_and_a_chosen_week_are_compared_too(start_site: StartSite, tmp_path: Path) -> None:
    shifted(tmp_path)
    site = await start_site()
    hour = await site.text("drift", window="hour")
    assert "the same hour of seven days" in hour
    assert "too few requests" in hour
    html = (await site.get("drift", window="week")).text
    assert await follow_counts(site, html, but=NO_COUNTS) > 10
    today = datetime.now(UTC).date()
    overlapping = await site.text("drift", reference=(today - timedelta(days=3)).isoformat())
    assert "overlaps" in overlapping
    chosen = await site.text("drift", reference=(today - timedelta(days=9)).isoformat())
    assert "overlaps" not in chosen
    assert "Mix of domains large shift" in chosen


async def test_nothing_to_compare_says_which_side_is_missing(start_site: StartSite, tmp_path: Path) -> None:
    fill(tmp_path, spread(4, 3.5, 50), "before")
    site = await start_site()
    assert "No request in the time that is looked at" in await site.text("drift")
    await site.chat("math")
    reference = (datetime.now(UTC).date() - timedelta(days=40)).isoformat()
    assert "No request in the reference week" in await site.text("drift", reference=reference)
    assert "too few requests" in await site.text("drift")


async def test_empty_store_and_odd_addresses(site: Site) -> None:
    assert "No request in this span of time" in await site.text("drift")
    for query in ("window=year", "reference=yesterday", "reference=2026-13-01", "window=%00", "reference=9999-12-31"):
        assert (await site.http.get(f"/admin/drift?{query}")).status_code == 400, query
    for reference in ("", "1969-01-01", "0001-01-01", "2000-01-01"):
        assert (await site.get("drift", reference=reference)).status_code == 200


async def test_viewer_may_look(site: Site) -> None:
    await site.chat("math", "coding")
    assert (await site.viewer.get("/admin/drift")).status_code == 200


async def test_api_says_what_the_page_says(start_site: StartSite, tmp_path: Path) -> None:
    shifted(tmp_path)
    site = await start_site()
    found = await site.admin.json("/reports/drift")
    assert next(iter(found["shifts"])) == "domains"
    domains = found["shifts"]["domains"]
    assert (domains["verdict"], found["overlap"]) == ("large", False)
    assert f"{domains['index']:.3f}" in await site.text("drift")
    assert sum(part["now"] for part in domains["parts"]) == domains["now"] == found["requests_now"]
    for name, value in (("window", "year"), ("reference_s", "-1"), ("reference_s", "x"), ("x", "1")):
        assert (await site.admin.get("/reports/drift", **{name: value})).status_code == 400, name
    assert (await site.admin.get("/reports/drift", window="hour", reference_s="99999999999")).status_code == 200
