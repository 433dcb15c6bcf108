"""Addresses of pages, below the path that a proxy may have put before them. Knows no page's content."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from gateway.dashboard.spans import Span


@dataclass(frozen=True, slots=True)
class Links:
    """Makes addresses.

    Attributes:
        base: path before `/admin`, without a slash at its end; usually "".
    """

    base: str = ""

    def page(self, path: str = "", **query: object) -> str:
        """Return the address of a page; fields that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        tail = f"?{urlencode(given)}" if given else ""
        return f"{self.base}/admin/{quote(path)}{tail}"

    def api(self, path: str) -> str:
        """Return the address of a route of the admin API."""
        return f"{self.base}/admin/api/{quote(path)}"

    def requests(self, span: Span | None = None, **filters: object) -> str:
        """Return the address of the requests behind a number.

        Args:
            span: the span of time that the number is of; None: all.
            filters: as the page of requests takes them.
        """
        bounds: dict[str, object] = {} if span is None else {"since_us": span.since_us, "until_us": span.until_us}
        return self.page("requests", **{**bounds, **filters})

    def request(self, request_id: str, at_us: int | None = None) -> str:
        """Return the address of one request; ids are the clients' and not unique, with the time they are."""
        return self.page(f"requests/{request_id}", at_us=at_us)
