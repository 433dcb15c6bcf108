"""Some columns of the newest requests of a span, for percentiles and shares that rollups do not have. Sums up nothing.

One bounded walk along the index of times; no filter is applied in SQL, so how many rows were looked at is how many
came back, and pages can say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.stores.records.breathing import breathing
from gateway.stores.records.contract import Run
from gateway.stores.records.tables import COLUMNS

MOST_ROWS = 20_000
_MOMENTS = 48
_PART_ROWS = 500

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of n requests, newest first.

    Attributes:
        values: by name, n values each; None where there is none. `at_us` is always among them.
        whole: whether these are all requests of the span; False: older ones were left out.
    """

    values: dict[str, Sequence[Any]]
    whole: bool

    def __len__(self) -> int:
        return len(self.values["at_us"])

    @property
    def oldest_us(self) -> int | None:
        """When the oldest one came, microseconds since the epoch; None when there is none."""
        times = self.values["at_us"]
        return int(times[-1]) if times else None

    def floats(self, name: str) -> Floats:
        """Return a column as float64 (n,), NaN where there is no value; all NaN when it was not read."""
        if name not in self.values:
            return np.full(len(self), np.nan)
        return np.array(self.values[name], dtype=np.float64)

    def texts(self, name: str) -> Sequence[str]:
        """Return a column as n texts, "" where there is none."""
        return [value or "" for value in self.values[name]]


def newest(run: Run, names: Sequence[str], since_us: int, until_us: int, limit: int = MOST_ROWS) -> Columns:
    """Read columns of the newest requests of a span.

    Args:
        run: the store's (`Queries.run`).
        names: of `tables.COLUMNS`; others are left out, so a page may ask for what a later version keeps.
        since_us: from when on, microseconds since the epoch.
        until_us: before when.
        limit: most rows; bounded by `MOST_ROWS`.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    limit = min(max(limit, 1), MOST_ROWS)
    wanted = list(dict.fromkeys(("at_us", *(name for name in names if name in COLUMNS))))
    rows = run(
        f"SELECT {', '.join(wanted)} FROM record WHERE at_us >= ? AND at_us < ? ORDER BY at_us DESC, id DESC LIMIT ?",
        [since_us, until_us, limit + 1],
    )
    return Columns(dict(zip(wanted, _turned(rows[:limit], len(wanted)), strict=True)), len(rows) <= limit)


def price_changes(run: Run, since_us: int, until_us: int) -> list[tuple[int, str]]:
    """Return when requests began to be priced otherwise in a span: microseconds since the epoch, and `price_version`.

    Only the first request of each of 48 equal parts is looked at: times are good to one part, and what was changed
    and changed back within one is not seen.
    """
    step = max(1, (until_us - since_us) // _MOMENTS)
    starts = range(since_us, until_us, step)[: _MOMENTS + 1]
    one = "(SELECT {} FROM record WHERE at_us >= ? AND at_us < ? ORDER BY at_us, id LIMIT 1)"
    found = []
    for name in ("at_us", "price_version"):
        bounds = [bound for start in starts for bound in (start, min(start + step, until_us))]
        (row,) = run(f"SELECT {', '.join([one.format(name)] * len(starts))}", bounds)
        found.append(row)
    seen = [(int(at), str(version)) for at, version in zip(*found, strict=True) if at is not None and version]
    return [later for earlier, later in zip(seen, seen[1:], strict=False) if earlier[1] != later[1]]


def _turned(rows: Sequence[Sequence[Any]], count: int) -> list[list[Any]]:
    """Return rows as columns. In parts: all at once is one step of the interpreter that nobody can interrupt."""
    columns: list[list[Any]] = [[] for _ in range(count)]
    for start in breathing(range(0, len(rows), _PART_ROWS), every=1):
        for column, values in zip(columns, zip(*rows[start : start + _PART_ROWS], strict=True), strict=True):
            column.extend(values)
    return columns


def oldest_us(run: Run) -> int | None:
    """Return when the oldest request that is kept came, microseconds since the epoch; None when none is kept."""
    rows = run("SELECT at_us FROM record ORDER BY at_us, id LIMIT 1", [])
    return int(rows[0][0]) if rows else None
