"""Every page of the dashboard in a real browser: clean, readable, reachable by keyboard, and inert to hostile text."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import pytest

from gateway.dashboard import pages
from gateway.dashboard.navigation import Nav
from gateway.keyring import Role

from .browsing import Visitor, origin_of
from .site import HOSTILE, Site

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]

MENU: dict[str, Nav] = {
    nav.path: nav
    for found in pkgutil.iter_modules(pages.__path__)
    if (nav := getattr(import_module(f"{pages.__name__}.{found.name}"), "NAV", None)) is not None
}
LATEST = "requests/LATEST"
PAGES = [*MENU, "experts/math", LATEST]
FOR_VIEWERS = [path for path in PAGES if path not in MENU or MENU[path].role is Role.VIEWER]
NARROW = {"width": 320, "height": 800}
NAMES = [path or "overview" for path in PAGES]


@pytest.fixture(params=PAGES, ids=NAMES)
def path(request: pytest.FixtureRequest, site: Site) -> str:
    """Each page; `LATEST` is the latest request that an expert answered."""
    return resolved(request.param, site)


def resolved(path: str, site: Site) -> str:
    if path != LATEST:
        return path
    rows = site.api("records?limit=100&reason=confident&status=200")
    return f"requests/{rows['records'][0]['id']}"


def picture(visitor: Visitor, shots: Path | None, path: str, kind: str) -> None:
    if shots is not None:
        shots.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^a-z]+", "-", path.partition("requests/")[0] or ("request" if "/" in path else path)).strip(
            "-"
        )
        visitor.page.screenshot(path=shots / f"{name or 'overview'}-{kind}.png", full_page=True)


def test_page_runs_without_a_complaint(visit: Visit, path: str, site: Site) -> None:
    visitor = visit()
    assert visitor.open(path) == 200
    visitor.page.wait_for_timeout(300)  # charts are drawn when they come into view
    assert visitor.troubles == []
    assert visitor.violations() == []
    assert {origin_of(url) for url in visitor.asked} == {site.admin}
    assert not visitor.is_hacked()
    assert visitor.page.title().endswith("Pointsman")


def test_page_is_accessible_in_light_and_dark(visit: Visit, path: str, axe: str, shots: Path | None) -> None:
    visitor = visit()
    schemes: tuple[tuple[Literal["light", "dark"], tuple[str, ...]], ...]
    schemes = (("light", ()), ("dark", ("color-contrast", "link-in-text-block")))
    for scheme, rules in schemes:
        visitor.page.emulate_media(color_scheme=scheme)
        visitor.open(path)
        picture(visitor, shots, path, scheme)
        assert visitor.complaints(axe, *rules) == [], scheme
        visitor.open_everything()
        assert visitor.complaints(axe, *rules) == [], f"{scheme}, with everything opened"


def test_page_fits_a_narrow_window(visit: Visit, path: str, shots: Path | None) -> None:
    visitor = visit(viewport=NARROW)
    visitor.open(path)
    picture(visitor, shots, path, "narrow")
    assert visitor.sideways() <= 0
    visitor.open_everything()
    assert visitor.sideways() <= 0, "with everything opened"


def test_page_can_be_used_with_the_keyboard(visit: Visit, path: str) -> None:
    visitor = visit()
    visitor.open(path)
    can_focus = visitor.tabbable()
    walked = visitor.tab_through()
    assert "#content" in {one["href"] for one in walked}
    assert [one["what"] for one in walked if not one["seen"]] == []
    reached = {one["place"] for one in walked}
    # A group of radio buttons is one stop; a scrolling table may be one more.
    assert len(reached) >= can_focus - visitor.page.locator("input[type=radio]").count()
    menu = {link.get_attribute("href") for link in visitor.page.query_selector_all("nav.menu a")}
    assert menu <= {one["href"] for one in walked}


def test_skip_link_leads_past_the_menu(visit: Visit) -> None:
    visitor = visit()
    visitor.open()
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("Boolean(document.activeElement.closest('main'))")


@pytest.mark.parametrize("wanted", ["", "records?limit=100&status=404", "records?limit=100&reason=confident"])
def test_hostile_text_is_shown_and_stays_text(visit: Visit, site: Site, wanted: str) -> None:
    visitor = visit()
    if wanted:
        found = [row for row in site.api(wanted)["records"] if any(text in str(row) for text in HOSTILE)]
        paths = [f"requests/{row['id']}" for row in found[:8]]
    else:
        paths = ["experts", "experts/math", "review", "playground?prompt=" + quote(HOSTILE[1])]
    assert paths
    shown = 0
    for path in paths:
        assert visitor.open(path) == 200
        shown += "window.hacked=1" in visitor.page.inner_text("main")
        assert not visitor.is_hacked(), path
        assert visitor.violations() == [], path
    assert shown >= len(paths) / 2


def test_policy_stops_a_script_that_got_in(visit: Visit) -> None:
    visitor = visit()
    visitor.open()
    visitor.page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('script'), {text: 'window.hacked = 1'}))"
    )
    visitor.page.evaluate("() => document.body.setAttribute('style', 'color: red')")
    assert not visitor.is_hacked()
    assert {violation.split()[0] for violation in visitor.violations()} == {"script-src-elem", "style-src-attr"}


@pytest.mark.parametrize("page", FOR_VIEWERS, ids=[path or "overview" for path in FOR_VIEWERS])
def test_viewer_sees_no_control_of_an_administrator(visit: Visit, page: str, site: Site) -> None:
    visitor = visit("T_VIEWER")
    assert visitor.open(resolved(page, site)) == 200
    forms = visitor.page.query_selector_all("form[method=post]")
    assert [urlsplit(str(form.get_attribute("action"))).path for form in forms] == ["/admin/logout"]
    assert not visitor.page.query_selector_all("[hx-post], [hx-put], [hx-patch], [hx-delete], button.danger")
    shown = {link.get_attribute("href") for link in visitor.page.query_selector_all("nav.menu a")}
    assert shown == {f"/admin/{path}" for path, nav in MENU.items() if nav.role is Role.VIEWER}


@pytest.mark.parametrize("page", sorted({*MENU} - {*FOR_VIEWERS}))
def test_viewer_is_refused_what_only_administrators_see(visit: Visit, page: str) -> None:
    visitor = visit("T_VIEWER")
    assert visitor.open(page) == 403
    assert visitor.page.query_selector("a[href='/admin/']") is not None


def test_links_of_all_pages_lead_somewhere(visit: Visit, site: Site) -> None:
    visitor = visit()
    seen: dict[str, str] = {}
    for path in PAGES:
        visitor.open(resolved(path, site))
        for link in visitor.page.query_selector_all("a[href]"):
            target = urlsplit(str(link.get_attribute("href")))
            if target.path.startswith("/admin") and "logout" not in target.path:
                # One link of each shape: the same page with the same fields asked for.
                fields = "&".join(sorted(part.partition("=")[0] for part in target.query.split("&")))
                seen.setdefault(f"{re.sub(r'/requests/.+', '/requests/1', target.path)}?{fields}", target.geturl())
    assert len(seen) > len(MENU)
    answers = {url: visitor.page.request.get(site.admin + url).status for url in seen.values()}
    assert {url: status for url, status in answers.items() if status != 200} == {}


def test_scripts_and_the_first_page_stay_small(visit: Visit) -> None:
    sizes = visit().weigh("")
    scripts = {url: size for url, size in sizes.items() if urlsplit(url).path.endswith(".js")}
    assert len(scripts) >= 4
    assert 10_000 < sum(scripts.values()) < 80_000
    assert sum(sizes.values()) < 150_000
