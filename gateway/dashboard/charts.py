"""Charts as data: what `charts.js` draws and what the table beside it says. Draws nothing.

A chart is drawn in the browser from a block of JSON and written once more as a table on the server, so it can be read
without scripts and by screen readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["time", "numeric"]
Unit = Literal["count", "rate", "share", "seconds", "money", "tokens", "plain"]
Shape = Literal["line", "area", "bars"]
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One line, area or row of bars.

    Attributes:
        name: what the legend says.
        values: one for each x; None where there is nothing.
        links: where each value leads; empty, or one for each x.
        shape: how it is drawn.
    """

    name: str
    values: Values
    links: Sequence[str | None] = ()
    shape: Shape = "line"


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line with a label: a threshold, a change of the configuration."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its table.

    Attributes:
        id: unique on the page; letters, digits, hyphens.
        title: what it shows, a short sentence.
        x: seconds since the epoch for `time`, any rising numbers for `numeric`.
        series: at most eight; all as long as `x`.
        kind: what x is.
        unit: of the values.
        x_title: what x is, for the table's head and the axis of `numeric`.
        x_unit: of x, for `numeric`.
        stacked: series are areas on top of each other.
        marks: vertical lines.
        currency: for the unit `money`.
        summary: one sentence with the main numbers, for those who do not see the drawing.
        x_labels: how the table writes each x; left out: x itself.
        top: the highest value of the y axis; None: as the values need.
        empty: what is said instead when there is nothing to draw.
    """

    id: str
    title: str
    x: Sequence[float]
    series: Sequence[Series]
    kind: Kind = "time"
    unit: Unit = "count"
    x_title: str = "Time (UTC)"
    x_unit: Unit = "plain"
    stacked: bool = False
    marks: Sequence[Mark] = ()
    currency: str = ""
    summary: str = ""
    x_labels: Sequence[str] = field(default=())
    top: float | None = None
    empty: str = "No request in this span of time."

    def __post_init__(self) -> None:
        for series in self.series:
            if len(series.values) != len(self.x) or len(series.links) not in (0, len(self.x)):
                raise ValueError(f"series {series.name!r} of chart {self.id!r} is not as long as its x")

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to draw."""
        return not any(value is not None for series in self.series for value in series.values)

    def data(self) -> dict[str, Any]:
        """Return what `charts.js` reads."""
        return {
            "kind": self.kind,
            "unit": self.unit,
            "xUnit": self.x_unit,
            "xTitle": "" if self.kind == "time" else self.x_title,
            "stacked": self.stacked,
            "currency": self.currency,
            "top": self.top,
            "x": list(self.x),
            "series": [
                {"name": one.name, "values": list(one.values), "links": list(one.links), "shape": one.shape}
                for one in self.series
            ],
            "marks": [{"x": mark.x, "label": mark.label} for mark in self.marks],
        }


def gaps_filled(
    since_s: int, until_s: int, span_s: int, found: dict[int, float], *, missing: float | None = 0.0
) -> tuple[list[float], list[float | None]]:
    """Return x and values for a whole span of time, from values by the start of their span.

    Args:
        since_s: the first span's start.
        until_s: the end of the last.
        span_s: length of a span, seconds.
        found: values by start.
        missing: what spans without a value get; None: a gap.
    """
    starts = range(since_s // span_s * span_s, until_s, span_s)
    return [float(start) for start in starts], [found.get(start, missing) for start in starts]
