"""Recorded outcomes, ways to choose among them, and what each way got per prompt; no comparison between ways here."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from router.errors import DataError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_DECIMALS: Final = 12
_COVERED: Final = 0.5
_UNKNOWN_COST: Final = 1e100
"""Above every cost, and below that of an expert that is no baseline at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What every expert got for every prompt.

    Attributes:
        experts: m distinct names.
        scores: float64 (n, m), 0 to 1; NaN where an expert was not scored.
        cost: float64 (n, m), money per request, at least 0; NaN where it is not known.
        priced: whether `cost` is money; otherwise every call counts as 1.
    """

    experts: tuple[str, ...]
    scores: Floats
    cost: Floats
    priced: bool

    @classmethod
    def of(cls, experts: tuple[str, ...], scores: Floats, cost: Floats | None) -> Self:
        """Check the arrays and take 1 per call for a cost that nobody knows.

        Raises:
            DataError: shapes do not fit, nothing is scored, or a number is out of range.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] != len(experts) or len(set(experts)) != len(experts):
            raise DataError(f"scores {scores.shape} do not fit {len(experts)} experts with distinct names")
        if not _within(scores, 0.0, 1.0):
            raise DataError("a score is outside 0..1")
        if not np.isfinite(scores).any():
            raise DataError("no score of any expert")
        money = np.ones_like(scores) if cost is None else np.asarray(cost, dtype=np.float64)
        if money.shape != scores.shape or not _within(money, 0.0, np.finfo(np.float64).max):
            raise DataError(f"cost {money.shape} does not fit scores {scores.shape}, or a cost is negative or infinite")
        return cls(experts, scores, money, cost is not None)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def mean_scores(self) -> Floats:
        """Float64 (m,), mean score of each expert over the prompts it was scored on."""
        return mean_known(self.scores.T)

    @property
    def mean_cost(self) -> Floats:
        """Float64 (m,), mean cost of each expert; NaN where none is known."""
        return mean_known(self.cost.T)

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Bool (m,), the experts that were scored on half as many prompts as any other, or on more.

        The rest is no baseline: its means are of other prompts.
        """
        counts = (~np.isnan(self.scores)).sum(axis=0)
        return np.asarray(counts >= _COVERED * counts.max())

    def best_single(self) -> int:
        """Return the covered expert with the best mean score, the cheaper one of equals: known only in hindsight."""
        return first_best(np.where(self.covered, self.mean_scores, -np.inf), self.mean_cost)

    def cheapest(self, *, but: int | None = None) -> int:
        """Return the covered expert with the lowest mean cost, the better one of equals; one may be passed over."""
        usable = self.covered
        if but is not None:
            usable[but] = False
        cost = np.where(usable, np.nan_to_num(self.mean_cost, nan=_UNKNOWN_COST), np.inf)
        return first_best(-cost, -self.mean_scores)

    def worst_single(self) -> int:
        """Return the covered expert with the lowest mean score, the first of equals."""
        return first_best(-np.where(self.covered, self.mean_scores, np.inf), np.zeros(len(self.experts)))


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Choices of one policy, at one setting or along a parameter.

    Attributes:
        name: the policy.
        parameter: name of the parameter, "" when there is one point.
        values: p values of the parameter as text, ("",) when there is one point.
        choices: int (p, n), column of the chosen expert for each prompt.
    """

    name: str
    parameter: str
    values: tuple[str, ...]
    choices: Indices

    @classmethod
    def single(cls, name: str, choices: Indices) -> Self:
        """Return a policy at one setting from choices (n,)."""
        return cls(name, "", ("",), np.asarray(choices, dtype=np.intp)[np.newaxis])


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """One way to choose, with what it got.

    Attributes:
        name: how it is called in reports.
        quality: float64 (n,), score of the chosen expert; NaN where it was not scored.
        cost: float64 (n,), its cost; NaN where it is not known.
        shares: float64 (m,), share of the prompts each expert gets.
        family: name of its family, "" for a baseline.
        value: its family's parameter.
    """

    name: str
    quality: Floats
    cost: Floats
    shares: Floats
    family: str = ""
    value: str = ""

    @classmethod
    def of(cls, name: str, recorded: Recorded, choices: Indices, family: str = "", value: str = "") -> Self:
        """Look up what `choices` (n,) got.

        Raises:
            DataError: choices of another length, or of an expert that is not there.
        """
        count, experts = recorded.scores.shape
        picked = np.asarray(choices, dtype=np.intp)
        if picked.shape != (count,) or not ((picked >= 0) & (picked < experts)).all():
            raise DataError(f"{name}: choices {picked.shape} do not fit outcomes {recorded.scores.shape}")
        rows = np.arange(count)
        shares = np.bincount(picked, minlength=experts) / count
        return cls(name, recorded.scores[rows, picked], recorded.cost[rows, picked], shares, family, value)

    @property
    def mean_quality(self) -> float:
        """Mean over the prompts whose chosen expert was scored; NaN when none was."""
        return float(mean_known(self.quality[np.newaxis])[0])

    @property
    def mean_cost(self) -> float:
        """Mean cost per request over the prompts where it is known; NaN when it never is."""
        return float(mean_known(self.cost[np.newaxis])[0])

    @property
    def missing(self) -> float:
        """Share of the prompts whose chosen expert was not scored."""
        return float(np.isnan(self.quality).mean())


def contenders(recorded: Recorded, family: Family) -> list[Contender]:
    """Return every point of a family; DataError when it does not fit the outcomes."""
    return [
        Contender.of(f"{family.name} {value}".rstrip(), recorded, choices, family.name, value)
        for value, choices in zip(family.values, family.choices, strict=True)
    ]


def mean_known(values: Floats) -> Floats:
    """Return the mean of each row of (r, n) over what is not NaN; NaN for a row of nothing else.

    Sums are exact before they are rounded: the order of the prompts changes no bit, so that ties stay ties.
    """
    known = ~np.isnan(values)
    counts = known.sum(axis=1).tolist()
    filled = np.where(known, values, 0.0)
    means = (fsum(row) / count if count else np.nan for row, count in zip(filled, counts, strict=True))
    return np.fromiter(means, dtype=np.float64, count=len(counts))


def first_best(values: Floats, cost: Floats) -> int:
    """Return the index of the greatest value; of equals the lowest cost, then the first. NaN is the worst of both."""
    # Means that are equal on paper may differ in their last bits.
    known = np.round(np.nan_to_num(values, nan=-np.inf, neginf=-np.inf, posinf=np.inf), _DECIMALS)
    return int(np.lexsort((np.round(np.nan_to_num(cost, nan=np.inf), _DECIMALS), -known))[0])


def _within(values: Floats, least: float, most: float) -> bool:
    known = values[~np.isnan(values)]
    return bool(((known >= least) & (known <= most)).all())
