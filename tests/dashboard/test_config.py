"""Changing the configuration by hand in the browser: tried before it counts, never over another's change (D5, D9)."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx2
import pytest
import yaml

from tests.dashboard.conftest import Site, StartSite, text_of
from tests.waiting import until

pytestmark = pytest.mark.slow


def changed(text: str, **sections: Any) -> str:
    return yaml.safe_dump({**yaml.safe_load(text), **sections})


async def opened(site: Site) -> tuple[str, str]:
    """Return the file's text and version as the editor holds them."""
    page = (await site.get("config")).text
    text = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    version = re.search(r'name="base_version" value="([^"]+)"', page)
    assert text is not None
    assert version is not None
    return unescape(text[1]), version[1]


async def check(site: Site, text: str, base: str = "x") -> httpx2.Response:
    return await site.post("config/check", yaml=text, base_version=base, last="500")


def file_of(site: Site) -> str:
    return site.admin.config.path.read_text()


async def test_editor_holds_the_file_as_it_is(site: Site) -> None:
    text, version = await opened(site)
    assert text == file_of(site)
    assert version == (await site.admin.json("/config/file"))["file_version"]


async def test_checked_draft_shows_what_differs_and_what_it_would_have_decided_and_applies_nothing(site: Site) -> None:
    await site.chat("math sure=0.9", "math sure=0.7", "hello")
    text, base = await opened(site)
    page = await check(site, changed(text, router={"minimum_confidence": 0.8}), base)
    assert page.status_code == 200, text_of(page.text)
    said = text_of(page.text)
    assert "The draft can be used" in said
    assert "It changes: router." in said
    assert "Would go elsewhere 1 33.3 % of 3 decided anew" in said
    assert "math generalist low confidence 1" in said
    assert re.search(r'class="added">.*?minimum_confidence: 0.8', page.text, re.DOTALL)
    assert re.search(r'href="/admin/requests/[^"]+at_us=\d+"', page.text)
    assert "Write it to the file and use it" in said
    assert file_of(site) == text


@pytest.mark.row("D9")
async def test_draft_is_applied_and_rolled_back_by_hand(site: Site) -> None:
    text, base = await opened(site)
    draft = "# by hand\n" + changed(text, router={"thresholds": {"math": 0.99}})
    # What a browser sends: lines that end with CR LF.
    sent = draft.replace("\n", "\r\n")
    answer = await site.post("config/apply", yaml=sent, base_version=base)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/config?done=applied")
    assert file_of(site) == draft
    assert (await site.admin.town.gateway.chat("math")).headers["x-pointsman-reason"] == "low_confidence"
    said = await site.text("config", done="applied")
    assert "The configuration was written and is in use." in said
    assert "found in the file" in said

    page = await site.get("config/history/1")
    assert "What rolling back would change in the file" in text_of(page.text)
    unsure = await site.post("config/history/1", sure="")
    assert (unsure.status_code, "Tick the box" in text_of(unsure.text)) == (400, True)
    assert file_of(site) == draft
    answer = await site.post("config/history/1", sure="yes")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/config?done=rolled_back")
    assert file_of(site) == text
    assert (await site.admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    assert (await site.http.get("/admin/config/history/99")).status_code == 404

    def audited() -> set[str]:
        events = site.admin.plane.queries.events()
        return {event["detail"]["action"] for event in events if event["kind"] == "admin"}

    await until(lambda: {"config_apply", "config_rollback"} <= audited())


async def test_wrong_draft_is_shown_with_its_lines_and_kept_in_the_editor(site: Site) -> None:
    text, base = await opened(site)
    draft = text + "\npolcy: {}\n"
    for path in ("config/check", "config/apply"):
        page = await site.post(path, yaml=draft, base_version=base)
        assert page.status_code == 422
        said = text_of(page.text)
        assert "The draft cannot be used" in said
        assert "did you mean 'policy'?" in said
        line = draft.splitlines().index("polcy: {}") + 1
        assert f'data-line="{line}"' in page.text
        assert unescape(page.text).count("polcy: {}") == 1
    assert file_of(site) == text


async def test_draft_over_another_change_shows_both_and_does_not_overwrite_it(site: Site) -> None:
    text, base = await opened(site)
    others = "# another's change\n" + text
    site.admin.config.path.write_text(others)
    mine = text + "\n# my change\n"
    page = await site.post("config/apply", yaml=mine, base_version=base)
    assert page.status_code == 409
    said = text_of(page.text)
    assert "The file now, and your draft" in said
    assert "another's change" in said
    assert "my change" in said
    assert file_of(site) == others
    version = re.search(r'name="base_version" value="([^"]+)"', page.text)
    assert version is not None
    again = await site.post("config/apply", yaml=others + "\n# my change\n", base_version=version[1])
    assert again.status_code == 303
    assert file_of(site) == others + "\n# my change\n"


@pytest.mark.row("D5")
async def test_file_that_cannot_be_used_is_on_top_of_every_page_until_it_can(site: Site) -> None:
    text = file_of(site)
    site.admin.config.path.write_text("generalist: [")
    await site.admin.post("/reload")
    assert "cannot be used; the last good one is still in use" in await site.text("cost")
    said = await site.text("config")
    assert "The file cannot be used" in said
    assert "Last read invalid" in said
    site.admin.config.path.write_text(text)
    await site.admin.post("/reload")
    assert "cannot be used" not in await site.text("cost")


async def test_read_only_gateway_lets_try_and_not_apply(start_site: StartSite) -> None:
    site = await start_site(admin={"read_only": True})
    text, base = await opened(site)
    assert "not possible admin.read_only is set" in await site.text("config")
    page = await check(site, text + "# more\n", base)
    assert "Nothing can be applied here" in text_of(page.text)
    assert "Write it to the file" not in page.text
    answer = await site.post("config/apply", yaml=text + "# more\n", base_version=base)
    assert answer.status_code == 403
    assert "read-only" in text_of(answer.text)
    assert file_of(site) == text


async def test_viewer_sees_what_is_in_use_and_neither_file_nor_controls(site: Site) -> None:
    site.admin.config.path.write_text("# a comment that is nobody's business\n" + file_of(site))
    page = await site.viewer.get("/admin/config")
    assert page.status_code == 200
    assert "minimum_confidence" in page.text
    assert "nobody's business" not in unescape(page.text)
    assert "<textarea" not in page.text
    assert "<form" not in page.text.split("<main", 1)[1]
    assert (await site.viewer.get("/admin/config/history/1")).status_code == 403
    for path in ("config/check", "config/apply", "config/history/1"):
        assert (await site.post(path, site.viewer, yaml="", sure="yes")).status_code == 403


HOSTILE = "</textarea><script>alert(1)</script><input value='\" onfocus=alert(1)'>"


async def test_text_of_a_draft_is_never_markup(site: Site) -> None:
    text, base = await opened(site)
    for draft in (f"# {HOSTILE}\n{text}", f"{HOSTILE}: 1", f"generalist: {{{HOSTILE}}}"):
        for path in ("config/check", "config/apply"):
            page = await site.post(path, yaml=draft, base_version=base)
            assert "<script>alert" not in page.text
            assert "</textarea><script" not in page.text
    pages = [await site.get("config"), await site.get("config/history/1"), await site.get("config/history/2")]
    assert "<script>alert" not in "".join(page.text for page in pages)


async def test_form_beyond_its_size_is_refused(site: Site) -> None:
    answer = await check(site, "x" * 3_100_000)
    assert answer.status_code == 413


async def test_gateway_without_records_compares_a_draft_all_the_same(start_site: StartSite) -> None:
    site = await start_site(records=False)
    text, base = await opened(site)
    said = text_of((await check(site, text + "# more\n", base)).text)
    assert "The draft can be used" in said
    assert "No records are kept." in said
    assert "No history of the configuration is kept" in said
