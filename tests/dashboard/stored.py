"""Requests written into a store before its gateway starts, and the links of a page followed back to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from gateway.stores.records import Batch
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.tables import row_of
from tests.dashboard.conftest import Site
from tests.stores.samples import record

_LINK = re.compile(r'<a href="([^"]*/admin/requests\?[^"]*)"[^>]*>\s*([\d\u202f]+)\s*</a>')
_BLOCK = '<script type="application/json" id="{}">(.*?)</script>'


def now_s() -> float:
    return datetime.now(UTC).timestamp()


def fill(folder: Path, moments: Sequence[float], name: str = "r", **changes: Any) -> None:
    """Store a request for each moment, as `start_site` will find them; a change may be a function of the place."""
    rows = []
    for place, moment in enumerate(moments):
        own = {key: value(place) if callable(value) else value for key, value in changes.items()}
        when = datetime.fromtimestamp(moment, UTC)
        rows.append(row_of(record(0, **{"request_id": f"{name}-{place}", "timestamp": when, **own})))
    with closing(SqliteRecords(str(folder / "records.db"))) as store:
        for start in range(0, len(rows), 500):
            store.write(Batch(rows[start : start + 500]))


def block(html: str, name: str) -> Any:
    """Return a page's block of JSON."""
    found = re.search(_BLOCK.format(re.escape(name)), html, re.DOTALL)
    assert found is not None, f"no block {name}"
    return orjson.loads(found[1])


async def follow_counts(site: Site, html: str, but: Sequence[str] = ()) -> int:
    """Ask for the requests behind every number that links to them; returns how many were compared.

    Args:
        site: whose page it is.
        html: the page.
        but: ids of charts whose numbers are no counts.
    """
    for chart in but:
        html = re.sub(rf'<figure class="chart" id="{chart}">.*?</figure>', "", html, flags=re.DOTALL)
    found = {(unescape(link), int(text.replace("\u202f", ""))) for link, text in _LINK.findall(html)}
    for link, count in sorted(found):
        query = dict(parse_qsl(urlsplit(link).query))
        rows: list[Any] = []
        while True:
            page = await site.admin.json("/records", limit=200, **query)
            rows += page["records"]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert len(rows) == count, (link, count, len(rows))
    return len(found)
