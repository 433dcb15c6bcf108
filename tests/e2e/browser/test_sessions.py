"""Logging in and out in a real browser, and the dashboard below a proxy's path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from .browsing import Visitor
from .site import TOKENS, Site, fill, running
from .test_pages import MENU

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]
BASE = "/router"

SAY_HIDDEN = """hidden => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway that is told to be below a path."""
    with running(tmp_path_factory.mktemp("below"), base=BASE) as site:
        fill(site)
        yield site


def test_login_leads_to_the_page_that_was_asked_for(visit: Visit) -> None:
    visitor = visit(None)
    visitor.page.goto(visitor.site.page("cost?days=7"))
    assert "/admin/login" in visitor.page.url
    visitor.log_in(TOKENS["T_ADMIN"])
    assert visitor.page.url == visitor.site.page("cost?days=7")


def test_wrong_token_is_refused_and_not_shown(visit: Visit, axe: str) -> None:
    visitor = visit(None)
    visitor.page.goto(visitor.site.page("login"))
    assert visitor.complaints(axe) == []
    visitor.log_in("not-a-token-of-anybody")
    assert "/admin/login" in visitor.page.url
    assert "no admin token" in visitor.page.inner_text("main")
    assert "not-a-token-of-anybody" not in visitor.page.content()
    assert visitor.violations() == []


def test_session_cookie_is_out_of_reach_of_scripts_and_other_sites(visit: Visit) -> None:
    visitor = visit()
    visitor.open()
    (cookie,) = visitor.page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == "/admin"
    assert visitor.page.evaluate("document.cookie") == ""
    assert TOKENS["T_ADMIN"] not in str(cookie["value"])


def test_logout_ends_the_session_and_going_back_shows_nothing(visit: Visit) -> None:
    visitor = visit(None)
    visitor.log_in(TOKENS["T_ADMIN"])
    visitor.open("requests")
    (before,) = visitor.page.context.cookies()
    visitor.page.get_by_role("button", name="Log out").click()
    visitor.page.wait_for_url("**/admin/login**")
    visitor.page.go_back()
    visitor.settle()
    assert "/admin/login" in visitor.page.url
    visitor.page.context.add_cookies([cast("Any", before)])  # a copy of the cookie does not help either
    visitor.page.goto(visitor.site.page("requests"))
    assert "/admin/login" in visitor.page.url


def test_colours_can_be_chosen_and_stay_chosen(visit: Visit) -> None:
    visitor = visit(color_scheme="light")
    visitor.open()
    before = visitor.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    for _ in range(3):
        visitor.page.click("#theme")
        if visitor.page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    chosen = visitor.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert chosen != before
    visitor.open("cost")
    assert visitor.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == chosen


def test_live_page_asks_once_in_a_while_and_not_while_hidden(visit: Visit) -> None:
    visitor = visit()
    polls: list[str] = []
    visitor.page.on("request", lambda request: polls.append(request.url) if ".json" in request.url else None)
    visitor.open()
    visitor.page.wait_for_timeout(11_000)
    assert 1 <= len(polls) <= 3
    assert len(set(polls)) == 1
    # A headless tab is never hidden, so it is told that it is, as the browser would tell it.
    visitor.page.evaluate(SAY_HIDDEN, True)
    seen = len(polls)
    visitor.page.wait_for_timeout(11_000)
    assert len(polls) == seen
    visitor.page.evaluate(SAY_HIDDEN, False)
    visitor.page.wait_for_timeout(1_000)
    assert len(polls) == seen + 1
    assert visitor.troubles == []


@pytest.mark.parametrize("path", MENU, ids=[path or "overview" for path in MENU])
def test_page_below_a_path_stays_below_it(visit: Visit, below: Site, path: str) -> None:
    visitor = visit(at=below)
    assert visitor.open(path) == 200
    assert visitor.troubles == []
    assert visitor.violations() == []
    asked = [urlsplit(url).path for url in visitor.asked]
    assert [url for url in asked if not url.startswith(f"{BASE}/admin")] == []
    for attribute in ("href", "action", "src", "hx-get", "hx-post", "data-live"):
        for one in visitor.page.query_selector_all(f"[{attribute}]"):
            target = str(one.get_attribute(attribute))
            assert not target.startswith("/") or target.startswith(f"{BASE}/admin"), target
