"""The span of time that a page shows, chosen in its address. Asks no store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query

from gateway.errors import InvalidRequest
from gateway.stores.records.queries import RollupFilter
from gateway.stores.records.rollups import DAY_S, HOUR_S

LENGTHS = {"hour": HOUR_S, "day": DAY_S, "week": 7 * DAY_S, "month": 30 * DAY_S}
LABELS = {"hour": "Last hour", "day": "Last 24 hours", "week": "Last 7 days", "month": "Last 30 days"}


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time that ends now.

    Attributes:
        name: one of `LENGTHS`.
        since_s, until_s: seconds since the epoch; the end is not part of it.
    """

    name: str
    since_s: int
    until_s: int

    @property
    def label(self) -> str:
        """Return what people call it."""
        return LABELS[self.name]

    @property
    def length_s(self) -> int:
        """Return how long it is, in seconds."""
        return self.until_s - self.since_s

    @property
    def since_us(self) -> int:
        """Return its start as links to requests give it."""
        return self.since_s * 1_000_000

    @property
    def until_us(self) -> int:
        """Return its end as links to requests give it."""
        return self.until_s * 1_000_000

    def rollups(self, **equal: str | None) -> RollupFilter:
        """Return the filter of rollups in this span; `equal` as in `RollupFilter`."""
        return RollupFilter(self.since_s, self.until_s, **equal)


def span_ending_now(name: str = "day") -> Span:
    """Return a span that ends with this second.

    Raises:
        KeyError: there is none of this name.
    """
    until_s = int(datetime.now(UTC).timestamp()) + 1
    return Span(name, until_s - LENGTHS[name], until_s)


def _chosen(span: Annotated[str, Query(max_length=20)] = "day") -> Span:
    if span not in LENGTHS:
        raise InvalidRequest(f"There is no such span; take one of {', '.join(LENGTHS)}.", param="span")
    return span_ending_now(span)


ChosenSpan = Annotated[Span, Depends(_chosen)]
"""The span that `?span=` names; a day without it."""
