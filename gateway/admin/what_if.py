"""What other thresholds would have done to stored requests. Asks no store; decides nothing that counts.

Only decisions that hung on thresholds are taken anew (`choices`). The cost assumes answers of the same length from
whichever expert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.admin.choices import Choices, Places, Values, choices
from gateway.types import Catalog
from router import Thresholds

STEPS = 100
"""A curve has one point for each hundredth, 0 and 1 included."""

_GRID: npt.NDArray[np.float64] = np.arange(STEPS + 1) / STEPS
_MONEY_DIGITS = 9


@dataclass(frozen=True, slots=True)
class DomainCurve:
    """Requests of one domain that hung on thresholds, by the smallest probability at which the domain is acted on.

    Attributes:
        domain: which.
        threshold: the one in effect.
        requests: how many.
        acted: expert to how many it answers, at each hundredth of a threshold; the generalist has the others.
        cost: of those that are priced, at each hundredth.
        acted_now, cost_now: the same at the threshold in effect, which need not be a hundredth.
    """

    domain: str
    threshold: float
    requests: int
    acted: dict[str, list[int]]
    cost: list[float]
    acted_now: dict[str, int]
    cost_now: float

    def at(self, threshold: float | None) -> tuple[dict[str, int], float]:
        """Return expert to requests acted on, and the cost, at a threshold; None: at the one in effect.

        Args:
            threshold: rounded to a hundredth.
        """
        if threshold is None:
            return self.acted_now, self.cost_now
        step = round(STEPS * threshold)
        return {name: counts[step] for name, counts in self.acted.items()}, self.cost[step]


@dataclass(frozen=True, slots=True)
class Curve:
    """Stored requests by every threshold of confidence at once, for a slider.

    Attributes:
        requests: looked at; those for which nobody was decided are left out.
        hanging: of them, how many hung on thresholds.
        unpriced: how many are left out of sums of money: a cost, or a price, is not known.
        generalist: its name.
        before: expert to requests, as it was.
        cost_before: of what is priced.
        kept: expert to requests that stay whatever the threshold.
        kept_cost: of what is priced among them.
        domains: the busiest first. Sums over them at a threshold, and what is kept, are the whole.
    """

    requests: int
    hanging: int
    unpriced: int
    generalist: str
    before: dict[str, int]
    cost_before: float
    kept: dict[str, int]
    kept_cost: float
    domains: tuple[DomainCurve, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    def whole(self) -> DomainCurve:
        """Return all domains as one with the name "", by one threshold for all of them; its own is 0."""
        steps = STEPS + 1
        acted: dict[str, list[int]] = {}
        now: Counter[str] = Counter()
        for one in self.domains:
            now.update(one.acted_now)
            for name, counts in one.acted.items():
                acted[name] = [a + b for a, b in zip(acted.get(name, [0] * steps), counts, strict=True)]
        costs = [round(sum(values), _MONEY_DIGITS) for values in zip(*(one.cost for one in self.domains), strict=True)]
        cost_now = round(sum(one.cost_now for one in self.domains), _MONEY_DIGITS)
        return DomainCurve("", 0.0, self.hanging, acted, costs or [0.0] * steps, dict(now), cost_now)

    def at(self, thresholds: Mapping[str, float] | float | None = None) -> tuple[Counter[str], float]:
        """Return how many requests each expert has, and what they cost, at a threshold.

        Args:
            thresholds: for all domains, or by domain; None, and domains that are not named: as in effect.
        """
        experts, cost = Counter(self.kept), self.kept_cost
        for one in self.domains:
            wanted = thresholds.get(one.domain) if isinstance(thresholds, Mapping) else thresholds
            acted, its_cost = one.at(wanted)
            experts.update(acted)
            experts[self.generalist] += one.requests - sum(acted.values())
            cost += its_cost
        return Counter({name: count for name, count in experts.items() if count}), cost


def compare(values: Values, thresholds: Thresholds, catalog: Catalog) -> dict[str, Any]:
    """Return how stored requests were spread and what they cost, and how they would have been.

    Args:
        values: stored requests, `choices.COLUMNS` of them.
        thresholds: the ones to try.
        catalog: the experts and their prices now.
    """
    found = choices(values, thresholds, catalog)
    acts, priced = found.acts(thresholds), found.priced
    after = np.where(acts, found.acted, np.where(found.hangs, 0, found.decided))
    costs = np.where(acts, found.acted_cost, np.where(found.hangs, found.left_cost, found.cost))
    moved = after != found.decided
    return {
        "requests": len(found),
        "movable": int(found.hangs.sum()),
        "moved_to_specialist": int((moved & (after != 0)).sum()),
        "moved_to_generalist": int((moved & (after == 0)).sum()),
        "unpriced": int((~priced).sum()),
        "before": _side(_counted(found.experts, found.decided), float(found.cost[priced].sum())),
        "after": _side(_counted(found.experts, after), float(costs[priced].sum())),
    }


def curve(values: Values, thresholds: Thresholds, catalog: Catalog) -> Curve:
    """Decide stored requests at 101 thresholds of confidence, in one pass.

    Args:
        values: stored requests, `choices.COLUMNS` of them.
        thresholds: those in effect, or others for margin, out of domain and disagreement.
        catalog: the experts and their prices now.
    """
    found = choices(values, thresholds, catalog)
    kept, priced = ~found.hangs, found.priced
    domains = [_domain(found, place, thresholds.of(name)) for place, name in enumerate(found.domains)]
    return Curve(
        requests=len(found),
        hanging=int(found.hangs.sum()),
        unpriced=int((~priced).sum()),
        generalist=catalog.generalist.name,
        before=_counted(found.experts, found.decided),
        cost_before=_money(found.cost[priced].sum()),
        kept=_counted(found.experts, found.decided[kept]),
        kept_cost=_money(found.cost[kept & priced].sum()),
        domains=tuple(
            sorted((one for one in domains if one.requests), key=lambda one: (-one.requests, one.domain)),
        ),
    )


def _side(requests: dict[str, int], cost: float) -> dict[str, Any]:
    total = max(1, sum(requests.values()))
    shares = {name: round(count / total, 6) for name, count in requests.items()}
    return {"requests": requests, "share": shares, "cost": _money(cost)}


def _counted(names: Sequence[str], places: Places) -> dict[str, int]:
    counts = np.bincount(places, minlength=len(names)).tolist()
    return {
        names[place]: counts[place] for place in sorted(range(len(names)), key=lambda n: -counts[n]) if counts[place]
    }


def _money(amount: float) -> float:
    return round(float(amount), _MONEY_DIGITS)


def _domain(found: Choices, place: int, threshold: float) -> DomainCurve:
    mine = found.hangs & (found.domain == place)
    confidence, experts, priced = found.confidence[mine], found.acted[mine], found.priced[mine]
    # How many thresholds let each be acted on: the first so many of the grid.
    until, now = np.searchsorted(_GRID, confidence, side="right"), confidence >= threshold
    acted: dict[str, list[int]] = {}
    acted_now: dict[str, int] = {}
    for expert in np.unique(experts[experts != 0]).tolist():
        own = experts == expert
        acted[found.experts[expert]] = [int(count) for count in _above(until[own], np.ones(int(own.sum())))]
        acted_now[found.experts[expert]] = int((own & now).sum())
    left = np.where(priced, found.left_cost[mine], 0.0)
    more = np.where(priced, found.acted_cost[mine] - found.left_cost[mine], 0.0)
    costs = [_money(cost) for cost in left.sum() + _above(until, more)]
    cost_now = _money(left.sum() + more[now].sum())
    return DomainCurve(found.domains[place], threshold, int(mine.sum()), acted, costs, acted_now, cost_now)


def _above(until: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the weight of what is acted on at each threshold (`STEPS` + 1,)."""
    ends = np.bincount(until, weights=weights, minlength=STEPS + 2)
    rising: npt.NDArray[np.float64] = np.cumsum(ends[::-1], dtype=np.float64)[::-1]
    return rising[1:]
