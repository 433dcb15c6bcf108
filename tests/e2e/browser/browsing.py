"""A visitor of the dashboard: a browser's page that notes all that goes wrong, and what can be asked of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

# Chromium's advice on password forms, which the login is not.
_HARMLESS = ("Password forms should have",)
_BAD_IMPACTS = ("serious", "critical")
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""
_TABBABLE = """
() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter(
  (one) => one.tabIndex >= 0 && !one.disabled && one.type !== "hidden"
    && one.checkVisibility({visibilityProperty: true})
).length
"""
_HACKED = """
() => window.hacked !== undefined
  || Boolean(document.querySelector("img[src=x], [onerror], [onfocus], [onload], b[hx-get], a[href^='javascript:']"))
  || document.body.innerText.includes("9100013")
"""
_FOCUSED = """
() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const style = getComputedStyle(one), all = [...document.querySelectorAll("*")];
  const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  return {place: all.indexOf(one), seen, what: one.outerHTML.slice(0, 120), href: one.getAttribute("href")};
}
"""


@dataclass
class Visitor:
    """A page, and what was noticed since it was opened.

    Attributes:
        troubles: console errors and warnings, exceptions, answers above 399, requests that failed.
        asked: the addresses of all requests.
    """

    page: Page
    site: Site
    troubles: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @classmethod
    def arrive(cls, browser: Browser, site: Site, state: Any = None, **options: Any) -> Visitor:
        """Open a browser's context; `state` is what one has that has logged in (`storage_state`)."""
        window = {"width": 1280, "height": 900}
        context = browser.new_context(**{"viewport": window, "storage_state": state, **options})
        context.add_init_script(_WATCH)
        visitor = cls(context.new_page(), site)
        visitor._watch()
        return visitor

    def log_in(self, token: str) -> None:
        """Use the login form."""
        if "/admin/login" not in self.page.url:
            self.page.goto(self.site.page("login"))
        self.page.fill("input[name=token]", token)
        self.page.press("input[name=token]", "Enter")
        self.page.wait_for_load_state("load")

    def open(self, path: str = "") -> int:
        """Open a page of the dashboard and wait until it is still. Returns its status."""
        answer = self.page.goto(self.site.page(path))
        self.settle()
        assert answer is not None
        return answer.status

    def settle(self) -> None:
        """Wait until scripts and charts have done their first work."""
        self.page.wait_for_load_state("networkidle")

    def open_everything(self) -> None:
        """Open all that is folded."""
        self.page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")

    def weigh(self, path: str) -> dict[str, int]:
        """Open a page with an empty cache. Returns the bytes over the wire, by address."""
        session = self.page.context.new_cdp_session(self.page)
        names: dict[str, str] = {}
        sizes: dict[str, int] = {}
        session.on("Network.responseReceived", lambda one: names.update({one["requestId"]: one["response"]["url"]}))
        session.on(
            "Network.loadingFinished",
            lambda one: sizes.update({names.get(one["requestId"], ""): one["encodedDataLength"]}),
        )
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        self.open(path)
        return sizes

    def violations(self) -> list[str]:
        """Return what the content security policy has refused."""
        return cast("list[str]", self.page.evaluate("window.violations"))

    def is_hacked(self) -> bool:
        """Tell whether any hostile text has become code, markup or a filled-in template."""
        return cast("bool", self.page.evaluate(_HACKED))

    def sideways(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return cast("int", self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def complaints(self, axe: str, *only: str) -> list[str]:
        """Return axe's serious and critical findings; with `only`, of these rules."""
        # Not a script of the page, so the content security policy does not apply.
        self.page.evaluate(f"() => {{ if (!window.axe) {{ {axe}\n }} }}")
        options = {"runOnly": {"type": "rule", "values": list(only)}} if only else {}
        found = self.page.evaluate(f"() => axe.run(document, {json.dumps(options)})")
        return [
            f"{one['id']}: {node['html'][:140]} {node.get('failureSummary', '')[:200]}"
            for one in found["violations"]
            if one["impact"] in _BAD_IMPACTS
            for node in one["nodes"][:5]
        ]

    def tab_through(self, most: int = 600) -> list[dict[str, Any]]:
        """Press Tab until the focus has come round. Returns what had it, in order; a page may begin in its middle."""
        walked: list[dict[str, Any]] = []
        places: set[int] = set()
        for _ in range(most):
            self.page.keyboard.press("Tab")
            focused = self.page.evaluate(_FOCUSED)
            if focused is None:  # the window's own controls
                continue
            if focused["place"] in places and focused["place"] != walked[-1]["place"]:
                break
            walked.append(focused)
            places.add(focused["place"])
        return walked

    def tabbable(self) -> int:
        """Return how many elements can have the focus."""
        return cast("int", self.page.evaluate(_TABBABLE))

    def _watch(self) -> None:
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"exception: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", self._note_failure)
        self.page.on("response", self._note_answer)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_HARMLESS):
            self.troubles.append(f"console {message.type}: {message.text}")

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page still wanted when the next one was opened
            self.troubles.append(f"failed: {request.url} {request.failure}")

    def _note_answer(self, response: Response) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")


def origin_of(url: str) -> str:
    """Return an address's origin."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
