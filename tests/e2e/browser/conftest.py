"""Chromium, once; a gateway with some hundred requests, once; and contexts of a browser that have logged in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .browsing import Visitor
from .site import TOKENS, Site, fill, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[3]
AXE = ROOT / ".cache" / "browser" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
TEST_TIMEOUT_S = 90


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--shots FOLDER` keeps pictures of all pages: light, dark and narrow."""
    parser.addoption("--shots", default=None, help="folder for pictures of the dashboard's pages")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with a reason where there is no browser; let the time limit count tests, not the start of everything."""
    for item in items:
        if item.get_closest_marker("browser") is None:
            continue
        item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))
        if _chromium() is None:
            item.add_marker(pytest.mark.skip(reason="no Chromium: apt-get install chromium, or set CHROMIUM"))


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    # As root it refuses its sandbox; containers often give it too little shared memory.
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway whose pages have something to show."""
    with running(tmp_path_factory.mktemp("site")) as site:
        fill(site)
        yield site


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's source."""
    if not AXE.exists():
        pytest.fail("axe is missing: python hatch_build.py --tests, or `make test-browser`")
    return AXE.read_text()


@pytest.fixture
def shots(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures go; None: nowhere."""
    folder = request.config.getoption("--shots", None)
    return None if folder is None else Path(folder)


@pytest.fixture(scope="session")
def sessions(browser: Browser) -> Callable[[Site, str], Any]:
    """Return what a context has in which the owner of a token has logged in; once for each site."""

    @cache
    def opened(site: Site, role: str) -> Any:
        visitor = Visitor.arrive(browser, site)
        visitor.log_in(TOKENS[role])
        state = visitor.page.context.storage_state()
        visitor.page.context.close()
        return state

    return opened


@pytest.fixture
def visit(browser: Browser, site: Site, sessions: Callable[[Site, str], Any]) -> Iterator[Callable[..., Visitor]]:
    """Come as somebody: `visit("T_VIEWER")`; as an administrator unless told otherwise, as nobody with None."""
    visitors: list[Visitor] = []

    def start(role: str | None = "T_ADMIN", at: Site = site, **options: Any) -> Visitor:
        visitor = Visitor.arrive(browser, at, None if role is None else sessions(at, role), **options)
        visitors.append(visitor)
        return visitor

    yield start
    for visitor in visitors:
        visitor.page.context.close()
