"""The page on confidence: figures lead to their requests, the slider says what the API says, empty states say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.stores.prompts.contract import Label
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.dashboard.stored import block, fill, follow_counts, now_s

pytestmark = pytest.mark.slow


def confidence_of(place: int) -> float:
    return round(0.005 + place % 100 / 100, 4)  # as records are


def domain_of(place: int) -> str:
    return ("math", "coding", "general")[place % 3]


async def test_every_number_leads_to_as_many_requests(start_site: StartSite, tmp_path: Path) -> None:
    start = now_s() - 3_000
    fill(tmp_path, [start + n for n in range(300)], domain=domain_of, confidence=confidence_of, margin=confidence_of)
    fill(tmp_path, [start], "pinned", reason="pinned", domain=None, confidence=None, margin=None)
    site = await start_site()
    html = (await site.get("confidence", span="hour")).text
    assert await follow_counts(site, html) > 100
    text = text_of(html)
    assert "Scored 300" in text
    assert "None" not in text
    filtered = (await site.get("confidence", span="hour", domain="math")).text
    assert "probability of the best domain" in filtered
    assert [one["name"] for one in block(filtered, "confidence-histogram-data")["series"]] == ["math"]
    assert await follow_counts(site, filtered) > 30


async def test_threshold_in_the_address_says_what_the_api_says(start_site: StartSite, tmp_path: Path) -> None:
    start = now_s() - 3_000
    names = {"decided": "generalist", "chosen": "generalist", "reason": "low_confidence"}
    fill(tmp_path, [start + n for n in range(200)], domain=domain_of, confidence=confidence_of, margin=1.0, **names)
    site = await start_site()
    for threshold in (0.0, 0.4, 0.7, 1.0):
        api = (await site.admin.post("/whatif", {"minimum_confidence": threshold, "last": 200})).json()
        html = (await site.get("confidence", span="hour", threshold=threshold)).text
        share = 100 * api["after"]["requests"]["generalist"] / 200
        assert f"To the generalist {share:.1f}\u202f%".replace("\u202f", " ") in text_of(html).replace("\u202f", " ")
        data = block(html, "what-if-data")
        step = round(threshold * 100)
        acted = {name: counts[step] for name, counts in data["pieces"][""]["acted"].items()}
        assert sum(acted.values()) == 200 - api["after"]["requests"]["generalist"]
        cost = data["costNow"] - data["pieces"][""]["costNow"] + data["pieces"][""]["cost"][step]
        assert cost == pytest.approx(api["after"]["cost"], abs=1e-7)
        assert data["pieces"]["math"]["acted"]["math"][step] == acted["math"]
    one = text_of((await site.get("confidence", span="hour", threshold=0, only="math")).text)
    assert "From this" not in one
    assert "None" not in one


async def test_other_limits_that_are_tried_count_in_the_curve(start_site: StartSite, tmp_path: Path) -> None:
    fill(tmp_path, [now_s() - 60 - n for n in range(50)], margin=0.2, out_of_domain=0.4, confidence=0.9)
    site = await start_site()

    async def acted(**query: Any) -> int:
        html = (await site.get("confidence", span="hour", threshold=0.5, **query)).text
        return int(block(html, "what-if-data")["pieces"][""]["acted"].get("math", [0] * 101)[50])

    assert await acted() == 50
    assert await acted(margin=0.3) == 0
    assert await acted(margin=0.2, out_of_domain="") == 50
    assert await acted(out_of_domain=0.39) == 0
    assert await acted(margin="", out_of_domain="", disagreement="") == 50


async def test_empty_states_say_why(site: Site, start_site: StartSite) -> None:
    assert "No request in this span of time." in await site.text("confidence")
    await site.chat("math", model="math")
    named = await site.text("confidence")
    assert "None of the 1 newest requests hung on a threshold" in named
    assert "No request of this span was scored." in named
    await site.chat("math")
    text = await site.text("confidence")
    assert "Nobody has labelled a scored request yet" in text
    assert "As it was" in text


async def test_gateway_without_records_says_so(start_site: StartSite) -> None:
    site = await start_site(records=False)
    assert "Set records.database" in await site.text("confidence")
    assert "Set records.database" in await site.text("drift")


async def test_odd_addresses_are_refused_or_harmless(site: Site) -> None:
    await site.chat("math")
    for query in ("threshold=2", "threshold=nan", "only=nothing", "domain=%00", "labels=some", "span=year", "margin=x"):
        answer = await site.http.get(f"/admin/confidence?{query}")
        assert answer.status_code == 400, query
        assert "<script>" not in answer.text
    assert (await site.get("confidence", threshold="", only="", domain="")).status_code == 200


async def test_names_that_look_like_code_are_text(start_site: StartSite, tmp_path: Path) -> None:
    odd = "</script><script>alert(1)</script>"
    for name, age in (("now", 60), ("before", 2 * 86_400)):
        fill(tmp_path, [now_s() - age - n for n in range(5)], name, domain=odd, decided=odd, chosen=odd)
    site = await start_site()
    for path in ("confidence", "drift"):
        html = (await site.http.get(f"/admin/{path}")).text
        assert "<script>alert" not in html
        assert "alert(1)" in html
    assert odd in block((await site.get("confidence")).text, "what-if-data")["pieces"]


async def test_labels_make_the_reliability_diagram_and_chance_ones_come_first(site: Site) -> None:
    await site.chat("math")
    prompts = site.admin.gateway.prompts
    assert prompts is not None
    now_us = int(now_s() * 1e6)  # older ones would be tidied away
    for number in range(40):
        label = "math" if number % 4 else "coding"
        prompts.labels.put(Label(now_us + number, f"x-{number}", "math", 0.95, label, number < 20, "ada", now_us))
    prompts.labels.put(Label(now_us, "unscored", None, None, "math", True, "ada", now_us))
    html = (await site.get("confidence")).text
    text = text_of(html)
    assert "Picked by chance (20)" in text
    assert "15 of 20 labelled" in text
    assert "Only 20 labels" in text
    every = await site.text("confidence", labels="all")
    assert "30 of 40 labelled" in every
    assert "too low" in every
    data = block(html, "reliability-data")
    assert [one["values"] for one in data["series"][:2]] == [[0.75], [pytest.approx(0.95)]]
    assert "Nobody has labelled a scored request of coding" in await site.text("confidence", domain="coding")


async def test_labels_are_shown_without_traffic_too(site: Site) -> None:
    prompts = site.admin.gateway.prompts
    assert prompts is not None
    now_us = int(now_s() * 1e6)
    prompts.labels.put(Label(now_us, "x", "math", 0.95, "math", True, "ada", now_us))
    text = await site.text("confidence")
    assert "No request in this span of time." in text
    assert "Picked by chance (1)" in text


async def test_viewer_sees_the_page_and_no_way_to_label(site: Site) -> None:
    await site.chat("math")
    seen = (await site.viewer.get("/admin/confidence")).text
    assert "given by administrators" in text_of(seen)
    assert "/admin/review" not in seen
    assert "/admin/review" in (await site.get("confidence")).text
