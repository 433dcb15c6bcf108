"""The review queue over HTTP: ten prompts labelled, taken back, exported; inert text; roles; empty states."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gateway.dashboard.pages.review import KEYS, Place
from gateway.stores.prompts.contract import Why
from gateway.stores.records import RecordsUnavailable
from router.prompts import read_prompts
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.waiting import until

pytestmark = pytest.mark.slow

PROMPTS = [f"{word} about {n}" for n, word in enumerate(("math", "coding", "hello", "math", "health") * 2)]
XSS = "<img src=x onerror=alert(1)> math \"'><script>alert(2)</script> {{ 7*7 }}"


@pytest.fixture
async def keeper(start_site: StartSite) -> Site:
    """A site that keeps every prompt."""
    return await start_site(records={"prompts": {"enabled": True, "share": 1}})


async def chat(site: Site, *prompts: str) -> None:
    keeping = site.admin.gateway.prompts
    assert keeping is not None
    before = keeping.state().written
    await site.chat(*prompts)
    await until(lambda: keeping.state().written == before + len(prompts))


def hidden(page: str, form: str = "label") -> dict[str, str]:
    """The hidden fields of a form."""
    block = page[page.index(f'id="{form}"') :].partition("</form>")[0]
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', block)
    return {name: unescape(value) for name, value in fields}


def prompt_on(page: str) -> str:
    found = re.search(r'<pre class="prompt"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found is not None, text_of(page)
    return unescape(found[1])


async def labelled(site: Site, page: str, label: str) -> str:
    """Press a domain's button and return the page that comes then."""
    answer = await site.post("review/label", None, **hidden(page), label=label)
    assert answer.status_code == 303, text_of(answer.text)
    return (await site.http.get(answer.headers["location"])).text


async def test_ten_prompts_are_labelled_exported_and_read_by_training(keeper: Site, tmp_path: Path) -> None:
    await chat(keeper, *PROMPTS)
    page, seen = (await keeper.get("review")).text, []
    assert "Waiting for a label 10 of 10 kept prompts" in text_of(page)
    for number in range(10):
        seen.append(prompt_on(page))
        page = await labelled(
            keeper, page, "health" if number == 0 else seen[-1].split()[0].replace("hello", "general")
        )
    assert seen == PROMPTS[::-1], "the newest first"
    assert "All 10 kept prompts are labelled." in text_of(page)
    assert "Agreement, random control 100.0" in text_of(page)
    exported = await keeper.get("review/export")
    file = tmp_path / "labels.jsonl"
    file.write_bytes(exported.content)
    read = {prompt.text: prompt.label for prompt in read_prompts([file])}
    assert read[PROMPTS[9]] == "health"
    assert len(read) == 10


async def test_prediction_is_hidden_until_the_label_is_given_then_told(keeper: Site) -> None:
    await chat(keeper, "math sure=0.7 one", "coding two")
    page = (await keeper.get("review")).text
    assert "<details" in page.partition("What the classifier said")[0][-80:]
    page = await labelled(keeper, page, "math")
    assert "You said math . The classifier had said coding (97.0" in text_of(page)
    page = await labelled(keeper, page, "math")
    assert "You said math . The classifier had said the same" in text_of(page)


async def test_undo_brings_the_prompt_back_and_skipping_goes_on(keeper: Site) -> None:
    await chat(keeper, "math one", "coding two", "hello three")
    page = await labelled(keeper, (await keeper.get("review")).text, "health")
    answer = await keeper.post("review/undo", why="")
    page = (await keeper.http.get(answer.headers["location"])).text
    assert prompt_on(page) == "hello three"
    assert "Your last label was taken back." in text_of(page)
    answer = await keeper.post("review/undo", why="")
    page = (await keeper.http.get(answer.headers["location"])).text
    assert "You have no label to take back." in text_of(page)
    skip = re.search(r'id="skip" href="([^"]+)"', page)
    assert skip is not None
    page = (await keeper.http.get(unescape(skip[1]))).text
    assert prompt_on(page) == "coding two"
    page = await labelled(keeper, page, "coding")
    assert prompt_on(page) == "math one", "a skipped one does not come back by itself"
    page = await labelled(keeper, page, "math")
    assert "No prompt further down waits for a label." in text_of(page)
    assert prompt_on((await keeper.get("review")).text) == "hello three"


async def test_kinds_are_apart_and_a_labelled_request_can_be_labelled_anew(start_site: StartSite) -> None:
    site = await start_site(records={"prompts": {"enabled": True, "share": 0, "low_margin": 0.2}})
    await chat(site, "math sure=0.3 close")
    text = await site.text("review", why="low_margin")
    assert "kept because: close call" in text
    assert "No prompt of this kind waits for a label." in await site.text("review", why="thumbs_down")
    assert "math sure=0.3 close" in await site.text("review", domain="math")
    assert "No prompt of this kind" in await site.text("review", domain="law")
    page = (await site.get("review")).text
    fields = hidden(page)
    await labelled(site, page, "math")
    again = (await site.get("review", **fields)).text
    assert "labelled it math" in text_of(again)
    await labelled(site, again, "health")
    labels = (await site.admin.json("/labels"))["labels"]
    assert [(one["label"], one["random"]) for one in labels] == [("health", False)]


async def test_label_from_another_page_leads_back_there_and_nowhere_else(keeper: Site) -> None:
    await chat(keeper, "math one")
    (prompt,) = (await keeper.admin.json("/prompts"))["prompts"]
    fields = {"at_us": str(prompt["at_us"]), "id": prompt["id"], "label": "math"}
    for target, expected in (
        ("requests/r-1?at_us=5", "/admin/requests/r-1?at_us=5"),
        ("//evil.example/x", "/admin/x"),
        ("https://evil.example/x?y=1", "/admin/x?y=1"),
    ):
        answer = await keeper.post("review/label", **fields, next=target)
        assert (answer.status_code, answer.headers["location"]) == (303, expected)


async def test_wrong_forms_are_told_and_change_nothing(keeper: Site) -> None:
    await chat(keeper, "math one")
    (prompt,) = (await keeper.admin.json("/prompts"))["prompts"]
    good = {"at_us": str(prompt["at_us"]), "id": prompt["id"], "label": "math"}
    wrong: list[dict[str, str]] = [
        {"label": "astrology"},
        {"at_us": "x"},
        {"at_us": "9" * 40},
        {"id": "nobody"},
        {"label": ""},
    ]
    for change in wrong:
        answer = await keeper.post("review/label", **{**good, **change})
        assert answer.status_code in (400, 404), change
        assert 'role="alert"' in answer.text
    assert (await keeper.admin.json("/labels"))["labels"] == []
    for query in ({"why": "x"}, {"at_us": "-1", "id": "a"}, {"id": "a b", "at_us": "1"}, {"before_us": "x"}):
        answer = await keeper.http.get("/admin/review", params=query)
        assert answer.status_code == 400, query


async def test_viewer_is_shown_no_queue(keeper: Site) -> None:
    await chat(keeper, "math and a secret")
    assert "Review queue" not in text_of((await keeper.viewer.get("/admin/")).text)
    for path in ("review", "review/export", "playground"):
        answer = await keeper.viewer.get(f"/admin/{path}")
        assert answer.status_code == 403
        assert "secret" not in answer.text
    for path in ("review/label", "review/undo", "review/delete", "playground"):
        answer = await keeper.post(path, keeper.viewer, sure="yes", label="math", prompt="x")
        assert answer.status_code == 403, path
    assert len((await keeper.admin.json("/prompts"))["prompts"]) == 1


async def test_forms_of_other_sites_are_refused(keeper: Site) -> None:
    await chat(keeper, "math")
    for path in ("review/label", "review/undo", "review/delete", "playground"):
        answer = await keeper.http.post(
            f"/admin/{path}", data={"sure": "yes"}, headers={"origin": "https://evil.example"}
        )
        assert answer.status_code == 403, path
    assert len((await keeper.admin.json("/prompts"))["prompts"]) == 1


async def test_prompts_are_text_whatever_they_hold(keeper: Site) -> None:
    await chat(keeper, XSS)
    for path in ("review", "playground"):
        (prompt,) = (await keeper.admin.json("/prompts"))["prompts"]
        page = (await keeper.get(path, at_us=prompt["at_us"], id=prompt["id"])).text
        assert "<img src=x" not in page
        assert "<script>alert" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "{{ 7*7 }}" in page


async def test_deleting_all_wants_a_tick_and_leaves_labels(keeper: Site) -> None:
    await chat(keeper, "math one", "math two")
    await labelled(keeper, (await keeper.get("review")).text, "math")
    refused = await keeper.post("review/delete", sure="")
    assert refused.status_code == 400
    assert "Tick the box" in text_of(refused.text)
    assert (await keeper.post("review/delete", sure="yes")).status_code == 303
    text = await keeper.text("review", done="deleted")
    assert "All kept prompts are deleted." in text
    assert "No prompt has been kept yet." in text
    assert len((await keeper.admin.json("/labels"))["labels"]) == 1


async def test_page_says_why_there_is_nothing(start_site: StartSite, keeper: Site) -> None:
    assert "No prompt has been kept yet." in await keeper.text("review")
    assert "This prompt is not kept." in await keeper.text("review", at_us=5, id="nobody")
    assert "not kept, so it cannot be tried again" in await keeper.text("playground", at_us=5, id="nobody")
    assert "No records are kept." in await (await start_site(records=False)).text("review")


async def test_page_says_how_to_begin_where_prompts_are_off(site: Site) -> None:
    text = await site.text("review")
    assert "Keeping prompts is off" in text
    assert "records: prompts: {enabled: true" in " ".join(text.split())


async def test_store_that_is_down_is_part_of_the_page(keeper: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise RecordsUnavailable("SQLITE_BUSY")

    assert keeper.admin.gateway.prompts is not None
    monkeypatch.setattr(keeper.admin.gateway.prompts.samples, "counts", down)
    assert "The store of records cannot be asked just now." in await keeper.text("review")


async def test_looking_is_written_down(keeper: Site) -> None:
    await chat(keeper, "math and a secret")
    await keeper.get("review")
    assert keeper.admin.gateway.records is not None
    queries = keeper.admin.gateway.records.queries
    await until(lambda: any(event["detail"].get("action") == "prompt_seen" for event in queries.events()))
    assert "secret" not in str(queries.events())


def test_keys_leave_out_those_that_do_something_else() -> None:
    assert not set(KEYS) & set("us?")
    assert len(set(KEYS)) == len(KEYS) > 30
    assert Place(Why.RANDOM, before_us=5, before_id="a").query(why=None) == {"before_us": 5, "before_id": "a"}
