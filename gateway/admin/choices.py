"""Stored requests whose decision hung on thresholds, and who answers on either side of them. Counts and sums nothing.

With the figures that were stored and the order of `router.abstain`. What was confident keeps its expert of then; a
request that moves is priced at the other expert's prices of now for the same tokens. Columns, not rows: twenty thousand
requests are a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.admin.stored_scores import excluded_of
from gateway.types import Catalog, Reason
from router import Thresholds

MOVABLE = frozenset(
    {
        Reason.CONFIDENT.value,
        Reason.LOW_CONFIDENCE.value,
        Reason.SMALL_MARGIN.value,
        Reason.OUT_OF_DOMAIN.value,
        Reason.DISAGREEMENT.value,
    }
)
COLUMNS = (
    *("decided", "reason", "domain", "confidence", "margin", "out_of_domain", "disagreement", "excluded"),
    *("cost", "cached", "input_tokens", "output_tokens", "cached_tokens", "extra_cost"),
)
"""What has to be read of a record."""
_PER_TOKENS = 1e6

Values = Mapping[str, Sequence[Any]]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Choices:
    """n requests for which somebody was decided, and the two ends that each may come to.

    Attributes:
        experts, domains: names; other arrays hold places in them. The generalist is the first expert.
        decided: (n,) the expert decided for.
        hangs: (n,) whether it hung on thresholds; else it stays whatever they are.
        domain: (n,) the best one; -1 when it does not hang.
        confidence: (n,) its probability; -1 where another limit keeps the domain from being acted on.
        acted: (n,) who answers when the domain is acted on; the generalist answers when it is not.
        cost: (n,) what it cost; NaN: not known.
        acted_cost, left_cost: (n,) what it would have cost at `acted` and at the generalist; NaN: not known.
    """

    experts: tuple[str, ...]
    domains: tuple[str, ...]
    decided: Places
    hangs: Mask
    domain: Places
    confidence: Floats
    acted: Places
    cost: Floats
    acted_cost: Floats
    left_cost: Floats

    def __len__(self) -> int:
        return len(self.decided)

    @property
    def priced(self) -> Mask:
        """Return which count in sums of money (n,): whatever the thresholds, so that those compare."""
        return np.isfinite(self.cost + np.where(self.hangs, self.acted_cost + self.left_cost, 0.0))

    def acts(self, thresholds: Thresholds) -> Mask:
        """Return which domains are acted on (n,), at some thresholds of confidence."""
        least = np.array([*(thresholds.of(name) for name in self.domains), np.inf])
        return self.hangs & (self.confidence >= least[self.domain])


def choices(values: Values, thresholds: Thresholds, catalog: Catalog) -> Choices:
    """Return what stored requests hang on; those for which nobody was decided are left out.

    Args:
        values: `COLUMNS`, all equally long.
        thresholds: of which all but those of confidence are applied.
        catalog: the experts and their prices now.
    """
    kept = [place for place, decided in enumerate(values["decided"]) if decided is not None]
    columns = {name: [values[name][place] for place in kept] for name in COLUMNS}
    experts, decided = _numbered(columns["decided"], (catalog.generalist.name, *catalog.experts))
    domains, domain = _numbered(columns["domain"])
    confidence = _floats(columns["confidence"])
    movable = np.array([reason in MOVABLE for reason in columns["reason"]], dtype=bool)
    hangs = movable & (domain >= 0) & np.isfinite(confidence)
    place_of = {name: place for place, name in enumerate(experts)}
    owners = [place_of[catalog.by_domain.get(name, catalog.generalist).name] for name in domains]
    confident = np.array([reason == Reason.CONFIDENT.value for reason in columns["reason"]], dtype=bool)
    acted = np.where(confident, decided, np.array([*owners, 0], dtype=np.int64)[domain])
    _exclude(columns["excluded"], hangs, acted, place_of, confident)
    cost, prices = _floats(columns["cost"]), _Prices(columns, catalog, experts)
    return Choices(
        experts=experts,
        domains=domains,
        decided=decided,
        hangs=hangs,
        domain=np.where(hangs, domain, -1),
        confidence=np.where(hangs & _within(columns, thresholds), confidence, -1.0),
        acted=np.where(hangs, acted, decided),
        cost=cost,
        acted_cost=np.where(acted == decided, cost, prices.at(acted)),
        left_cost=np.where(decided == 0, cost, prices.at(np.zeros_like(decided))),
    )


def _exclude(
    excluded: Sequence[str | None], hangs: Mask, acted: Places, place_of: Mapping[str, int], confident: Mask
) -> None:
    """Let experts that could not take a request then not have it now, in place."""
    generalist = next(iter(place_of))
    for place, text in enumerate(excluded):
        if not text:
            continue
        names = excluded_of({"excluded": text})
        if generalist in names:  # there was nobody to leave the prompt to
            hangs[place] = False
        if not confident[place] and any(place_of.get(name) == acted[place] for name in names):
            acted[place] = 0


def _within(columns: Values, thresholds: Thresholds) -> Mask:
    """Return which requests are within all limits but that of confidence (n,); what is not stored is."""
    margin, strange, torn = (_floats(columns[name]) for name in ("margin", "out_of_domain", "disagreement"))
    found: Mask = ~(
        (margin < thresholds.margin) | (strange > thresholds.out_of_domain) | (torn > thresholds.disagreement)
    )
    return found


class _Prices:
    """What the tokens of n requests cost at any expert, a strategy's extra included."""

    def __init__(self, columns: Values, catalog: Catalog, experts: Sequence[str]) -> None:
        rows = []
        for name in experts:
            known = catalog.experts.get(name)
            price = None if known is None else known.price
            if price is None:
                rows.append([np.nan] * 3)
            else:
                reused = price.input if price.cached_input is None else price.cached_input
                rows.append([price.input, reused, price.output])
        self._rates = np.array(rows, dtype=np.float64)
        inputs, outputs = _floats(columns["input_tokens"]), _floats(columns["output_tokens"], 0.0)
        cached = np.clip(_floats(columns["cached_tokens"], 0.0), 0.0, inputs)
        self._tokens = np.stack([inputs - cached, cached, outputs], axis=-1)
        self._extra = _floats(columns["extra_cost"], 0.0)
        self._cost = _floats(columns["cost"])
        self._cached = np.array([bool(value) for value in columns["cached"]], dtype=bool)

    def at(self, experts: Places) -> Floats:
        """Return the costs (n,) at an expert each; NaN: not known."""
        found = (self._tokens * self._rates[experts]).sum(axis=-1) / _PER_TOKENS + self._extra
        # From the cache, whoever had made it. What had no known cost then has none elsewhere.
        return np.where(self._cached, self._cost, np.where(np.isfinite(self._cost), found, np.nan))


def _numbered(names: Iterable[str | None], known: Iterable[str] = ()) -> tuple[tuple[str, ...], Places]:
    """Return the different names, known ones first, and the place of each (n,); -1 where there is none."""
    place_of: dict[str, int] = {}
    for name in known:
        place_of.setdefault(name, len(place_of))
    places = [-1 if name is None else place_of.setdefault(name, len(place_of)) for name in names]
    return tuple(place_of), np.array(places, dtype=np.int64)


def _floats(values: Sequence[float | None], missing: float = np.nan) -> Floats:
    """Return a column as float64 (n,)."""
    found = np.array(values, dtype=np.float64)
    return found if np.isnan(missing) else np.where(np.isnan(found), missing, found)
