"""The page of one request: the sentence on top, what was compared, and ids that are not unique."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.stores.records.queries import RecordFilter
from tests.dashboard.conftest import HTML, Site, StartSite, text_of
from tests.dashboard.test_requests import filled
from tests.stores.samples import START_S

pytestmark = pytest.mark.slow


async def newest(site: Site) -> dict[str, Any]:
    records = site.admin.gateway.records
    assert records is not None
    return records.queries.page(RecordFilter(), limit=1).rows[0]


async def page_of_newest(site: Site) -> tuple[dict[str, Any], str]:
    row = await newest(site)
    return row, await site.text(f"requests/{row['id']}", at_us=row["at_us"])


async def test_why_a_prompt_went_to_the_generalist_is_the_first_thing_said(start_site: StartSite) -> None:
    site = await start_site(router={"minimum_confidence": 1.0})
    await site.chat("math")
    row, text = await page_of_newest(site)
    assert row["reason"] == "low_confidence"
    first = text.partition(f"Request {row['id']}")[2].strip()
    assert first.startswith(
        "The generalist was chosen: the classifier was not sure enough. Its best domain, math, had a probability of "
    )
    assert re.search(r"Probability of math [\d.]+ at least 1 failed decided", text)
    assert "Out-of-domain score 0 at most 1 passed" in text


async def test_stored_figures_of_a_real_request_are_all_there(site: Site) -> None:
    await site.chat("math", stream=True)
    row, text = await page_of_newest(site)
    assert list(row["scores"])[0] == "math"
    assert len(row["scores"]) == 3
    assert (row["minimum_margin"], row["maximum_out_of_domain"]) == (0.0, 1.0)
    assert row["finish"] == "stop"
    for name in ("receive_s", "queue_s", "connect_s"):
        assert 0 <= row[name] < row["duration_s"]
    assert row["classifier"]
    assert row["classifier"] in text
    for stage in ("received", "classified", "decided", "math, try 1", "answer sent"):
        assert stage in text
    assert "passed" in text
    assert "failed" not in text


async def test_failed_try_is_told_with_server_and_error(site: Site) -> None:
    site.admin.town.servers["math"].fault("status;code=503", count=1)
    await site.chat("math")
    row, text = await page_of_newest(site)
    assert (row["decided"], row["chosen"]) == ("math", "generalist")
    assert "It failed: status 503, so the generalist answered." in text
    assert "math, try 1" in text
    assert "generalist, try 2" in text
    assert site.admin.town.servers["math"].url in text
    listed = await site.text("requests", expert_tried="math", failed_over="true")
    assert "generalist instead of math" in listed


async def test_refused_request_is_told_as_refused(site: Site) -> None:
    await site.chat("math", model="nobody")
    _, text = await page_of_newest(site)
    assert "Refused before anything was decided: model not found." in text
    assert "No server was asked." in text


async def test_requests_with_one_id_lead_to_each_other(site: Site) -> None:
    await filled(site, 3, request_id="same")
    for number in range(3):
        at_us = (START_S + number) * 1_000_000
        html = (await site.get("requests/same", at_us=at_us)).text
        assert "3 stored requests have this id" in text_of(html)
        others = {int(found) for found in re.findall(r"/requests/same\?at_us=(\d+)\">", html)}
        assert others == {(START_S + other) * 1_000_000 for other in range(3) if other != number}
    assert f'value="{(START_S + 2) * 1_000_000}"' in (await site.get("requests/same")).text, "the newest without a time"


@pytest.mark.parametrize("path", ["nobody", "nobody?at_us=1", "a%00b", "x" * 300, "%3Cscript%3E"])
async def test_what_is_not_stored_is_explained(site: Site, path: str) -> None:
    await site.chat("math")
    answer = await site.http.get(f"/admin/requests/{path}")
    assert answer.status_code == 404
    assert "<script>" not in answer.text.replace("<script ", "")


async def test_time_that_is_none_is_refused(site: Site) -> None:
    answer = await site.http.get("/admin/requests/x", params={"at_us": "yesterday"}, headers=HTML)
    assert answer.status_code == 400


async def test_conversation_shows_its_other_requests(site: Site) -> None:
    talk = [{"role": "user", "content": "math"}]
    for turn in range(3):
        await site.chat("math", messages=talk)
        talk += [{"role": "assistant", "content": f"answer {turn}"}, {"role": "user", "content": f"math {turn}"}]
    row = await newest(site)
    html = (await site.get(f"requests/{row['id']}", at_us=row["at_us"])).text
    assert row["conversation"]
    assert text_of(html).count("before") >= 2
    other = await site.text("requests", conversation=row["conversation"])
    assert other.count("chat") >= 3


async def test_rating_and_comment_are_shown_the_comment_to_administrators_only(
    start_site: StartSite, tmp_path: Any
) -> None:
    site = await start_site(feedback={"database": str(tmp_path / "feedback.db")})
    await site.chat("math")
    row = await newest(site)
    rating = {"id": row["id"], "score": 0.2, "domain": "coding", "comment": "my <secret> words"}
    answer = await site.admin.town.gateway.http.post("/v1/feedback", json=rating)
    assert answer.status_code == 201, answer.text
    path = f"/admin/requests/{row['id']}"
    mine, theirs = text_of((await site.http.get(path)).text), text_of((await site.viewer.get(path)).text)
    assert "my <secret> words" in mine
    assert "thumbs down score 0.20" in theirs
    assert "secret" not in theirs


async def test_what_a_viewer_may_not_do_is_not_offered(site: Site) -> None:
    await site.chat("math")
    row = await newest(site)
    path = f"/admin/requests/{row['id']}"
    mine, theirs = (await site.http.get(path)).text, (await site.viewer.get(path)).text
    for offered in ("review/label", "playground?id="):
        assert offered in mine
        assert offered not in theirs


async def test_label_that_somebody_gives_is_shown_and_the_page_comes_back(site: Site) -> None:
    await site.chat("math")
    row = await newest(site)
    form = re.search(r'name="next" value="([^"]+)"', (await site.get(f"requests/{row['id']}", at_us=row["at_us"])).text)
    assert form is not None
    sent = {"at_us": str(row["at_us"]), "id": row["id"], "label": "coding", "next": form[1]}
    answer = await site.post("review/label", **sent)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/admin/{form[1]}")
    assert "says that it is about coding , not about math" in text_of((await site.viewer.get(f"/admin/{form[1]}")).text)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.0, "would go to math ( confident ), as they did then"), (1.0, "generalist ( low confidence ), not to math")],
)
async def test_what_would_be_decided_now_follows_the_configuration_in_use(
    site: Site, confidence: float, expected: str
) -> None:
    await site.chat("math")
    row = await newest(site)
    await site.admin.config.change(router={"minimum_confidence": confidence})
    part = await site.viewer.get(f"/admin/requests/{row['id']}/again", params={"at_us": row["at_us"]})
    assert expected in text_of(part.text)
    missing = await site.viewer.get("/admin/requests/x/again", params={"at_us": 1})
    assert "not stored any more" in missing.text


async def test_store_that_is_off_is_said(start_site: StartSite) -> None:
    site = await start_site(records=False)
    assert "No records are kept." in await site.text("requests/x")
