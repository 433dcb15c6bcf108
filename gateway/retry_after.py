"""Reads a server's `retry-after`. Waits for nothing and caps nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A fraction is not in the standard, but some send it.
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return how many seconds to stay away; None when the header is missing or says nothing.

    Args:
        value: seconds or an HTTP date, as the server sent it.
        now: aware; a date in the past is 0 seconds away.

    Source: RFC 9110, 10.2.3.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        due = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    due = due if due.tzinfo is not None else due.replace(tzinfo=UTC)
    try:
        return max(0.0, (due - now).total_seconds())
    except OverflowError:
        return None
