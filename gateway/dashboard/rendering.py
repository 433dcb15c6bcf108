"""Fills templates with what every page needs: menu, banners, addresses. Gathers no page's content."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from gateway import __version__
from gateway.admin.plane import Plane
from gateway.dashboard.assets import Assets
from gateway.dashboard.banners import banners
from gateway.dashboard.formats import FILTERS
from gateway.dashboard.links import Links
from gateway.dashboard.navigation import Nav, grouped
from gateway.dashboard.spans import LABELS
from gateway.dashboard.texts import EMPTY, REASONS
from gateway.keyring import Principal

# Scripts, styles and data come from here only, and nothing written into a page is run: OPERATIONS 4.2.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


class Renderer:
    """Makes answers of templates.

    Args:
        plane: whose state banners and menu show.
        pages: the menu.
        assets: scripts and styles.
    """

    def __init__(self, plane: Plane, pages: Sequence[Nav], assets: Assets) -> None:
        settings = plane.gateway.settings.admin
        self.links = Links(settings.base_path)
        self.assets = assets
        self._plane = plane
        self._pages = list(pages)
        self._templates = Environment(
            loader=PackageLoader("gateway.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(FILTERS)
        self._templates.globals.update(
            links=self.links,
            asset=self._asset,
            notice=settings.notice,
            version=__version__,
            span_labels=LABELS,
            empty_texts=EMPTY,
            reason_texts=REASONS,
            enumerate=enumerate,
            partial=partial,
        )

    def fill(self, template: str, **context: Any) -> str:
        """Return a template's text; for parts of pages."""
        return self._templates.get_template(template).render(context)

    def answer(
        self, template: str, principal: Principal | None, active: str, *, status: int = 200, **context: Any
    ) -> Response:
        """Return a whole page.

        Args:
            template: its file.
            principal: who looks; None: nobody has logged in.
            active: the path of the menu's entry that it is.
            status: the HTTP status.
            context: what the template uses.
        """
        common = {
            "principal": principal,
            "menu": [] if principal is None else grouped(self._pages, principal),
            "active": active,
            "banners": [] if principal is None else banners(self._plane, self.links),
            "currency": self._plane.gateway.settings.currency,
            "config_version": self._plane.gateway.catalog.version,
        }
        return html(self.fill(template, **common, **context), status)

    def _asset(self, name: str) -> str:
        return f"{self.links.base}/admin/static/{self.assets.digest}/{name}"


def html(content: str, status: int = 200) -> Response:
    """Return HTML, whole or in part, under the pages' policy."""
    headers = {
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        # With `no-referrer` browsers withhold `Origin` from our own forms too; other sites are told as little by this.
        "referrer-policy": "same-origin",
    }
    return Response(content, status, headers, media_type="text/html")
