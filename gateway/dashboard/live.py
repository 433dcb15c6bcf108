"""Figures that change while a page is open: one small JSON per page, asked for again and again, mostly unchanged.

Answers carry an ETag (RFC 9110, section 8.8.3), so that an unchanged one costs its head only.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import orjson
from starlette.requests import Request
from starlette.responses import Response

Figure = str | dict[str, str]
"""What an element with this `data-key` says: its text, or that and `state`, which becomes `data-state`."""


def live_answer(request: Request, figures: Mapping[str, Figure]) -> Response:
    """Return the figures by key, or 304 when the browser has them."""
    body = orjson.dumps(figures, option=orjson.OPT_SORT_KEYS)
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
