"""What answers cost and what the generalist alone would have cost for them, by time, domain and expert. Prices nothing.

Money comes from rollups, so it is of all requests of the span. Only requests with a baseline are compared: `compared`
counts them, `spent` is what they cost, `baseline` what the generalist would have cost for the same tokens. Why others
have none, and what strategies spent, rollups do not know: that is counted in the newest rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gateway.costs import BASELINE_ASSUMPTIONS
from gateway.stores.records.columns import Columns, newest, price_changes
from gateway.stores.records.queries import Queries
from gateway.stores.records.sums import Sum, steps_of, sums
from gateway.types import Reason

PINNED = "pinned"
NOT_COMPARED = "not_compared"
_COLUMNS = ("reason", "status", "strategy", "extra_cost", "cost", "baseline_cost", "unpriced", "currency")


@dataclass(frozen=True, slots=True)
class Money:
    """What some requests cost. Money in the catalog's currency.

    Attributes:
        at_s: start of the span; None over the whole time.
        name: domain or expert; "" where requests have none.
        requests: all of them.
        cost: what all of them cost, as far as that is known.
        compared: requests with a baseline.
        spent: what those cost.
        baseline: what the generalist would have cost for those.
        saving: baseline less spent; negative when routing cost more.
        tokens: prompt and answer of all.
    """

    at_s: int | None
    name: str
    requests: int
    cost: float
    compared: int
    spent: float
    baseline: float
    saving: float
    tokens: int

    @property
    def saved_share(self) -> float | None:
        """Saving as a share of the baseline; None without one."""
        return self.saving / self.baseline if self.baseline > 0 else None


@dataclass(frozen=True, slots=True)
class StrategyMoney:
    """What one strategy spent besides the answers."""

    name: str
    requests: int
    extra_cost: float


@dataclass(frozen=True, slots=True)
class Recent:
    """What only rows know, of the newest requests.

    Attributes:
        looked_at: how many.
        whole: whether they are all of the span.
        oldest_us: when the oldest came, microseconds since the epoch.
        not_compared: requests without a baseline by why: a word of `costs.Unpriced`, `pinned`, or `not_compared`.
        strategies: by name.
        cost: what all of them cost.
        currencies: of the rows; more than one makes sums meaningless.
    """

    looked_at: int
    whole: bool
    oldest_us: int | None
    not_compared: dict[str, int]
    strategies: tuple[StrategyMoney, ...]
    cost: float
    currencies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CostReport:
    """Money of a span.

    Attributes:
        since_s, until_s: seconds since the epoch, widened to whole spans.
        span_s: length of a point.
        total: of the whole time.
        points: over time; spans without requests have none.
        domains: by domain, the dearest first.
        experts: by expert, the dearest first.
        price_changes: microseconds since the epoch, and the name of the prices from then on.
        recent: what only rows know.
        assumptions: what the comparison takes for granted.
    """

    since_s: int
    until_s: int
    span_s: int
    total: Money
    points: tuple[Money, ...]
    domains: tuple[Money, ...]
    experts: tuple[Money, ...]
    price_changes: tuple[tuple[int, str], ...]
    recent: Recent
    assumptions: tuple[str, ...] = BASELINE_ASSUMPTIONS

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def cost_report(queries: Queries, since_s: int, until_s: int) -> CostReport:
    """Add up a span.

    Args:
        queries: the store's.
        since_s: from when on, seconds since the epoch.
        until_s: before when.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    steps, run = steps_of(since_s, until_s), queries.run
    cells = sums(run, steps.wanted, ("domain", "chosen"), points=steps.points)
    over_time: dict[int, list[Sum]] = {}
    for one in sums(run, steps.wanted, over_time=True, points=steps.points):
        over_time.setdefault(steps.start_of(one.at_s or 0), []).append(one)
    first_us, last_us = steps.since_s * 1_000_000, steps.until_s * 1_000_000
    return CostReport(
        since_s=steps.since_s,
        until_s=steps.until_s,
        span_s=steps.step_s,
        total=_added(None, "", cells),
        points=tuple(_added(at_s, "", found) for at_s, found in over_time.items()),
        domains=_by(cells, 0),
        experts=_by(cells, 1),
        price_changes=tuple(price_changes(run, first_us, min(last_us, until_s * 1_000_000))),
        recent=_recent(newest(run, _COLUMNS, first_us, last_us)),
    )


def _by(cells: Sequence[Sum], place: int) -> tuple[Money, ...]:
    names = dict.fromkeys(cell.names[place] for cell in cells)
    found = [_added(None, name, [cell for cell in cells if cell.names[place] == name]) for name in names]
    return tuple(sorted(found, key=lambda money: (-money.cost, -money.requests, money.name)))


def _added(at_s: int | None, name: str, cells: Sequence[Sum]) -> Money:
    def total(column: str) -> float:
        return sum(cell[column] for cell in cells)

    baseline, saving = total("baseline_cost"), total("saving")
    return Money(
        at_s=at_s,
        name=name,
        requests=int(total("requests")),
        cost=total("cost"),
        compared=int(total("priced")),
        spent=baseline - saving,
        baseline=baseline,
        saving=saving,
        tokens=int(total("input_tokens") + total("output_tokens")),
    )


def _recent(rows: Columns) -> Recent:
    compared = np.isfinite(rows.floats("baseline_cost")) & np.isfinite(rows.floats("cost"))
    whys = zip(rows.texts("unpriced"), rows.texts("reason"), compared.tolist(), strict=True)
    not_compared = Counter(_why(unpriced, reason) for unpriced, reason, is_compared in whys if not is_compared)
    extra, used = rows.floats("extra_cost"), np.array(rows.texts("strategy"), dtype=object)
    strategies = [
        StrategyMoney(name, int((used == name).sum()), float(np.nansum(extra[used == name])))
        for name in sorted(set(rows.texts("strategy")) - {""})
    ]
    return Recent(
        looked_at=len(rows),
        whole=rows.whole,
        oldest_us=rows.oldest_us,
        not_compared=dict(not_compared.most_common()),
        strategies=tuple(strategies),
        cost=float(np.nansum(rows.floats("cost"))),
        currencies=tuple(sorted(set(rows.texts("currency")) - {""})),
    )


def _why(unpriced: str, reason: str) -> str:
    if unpriced:
        return unpriced
    return PINNED if reason == Reason.PINNED else NOT_COMPARED
