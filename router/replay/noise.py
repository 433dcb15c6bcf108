"""How accurate a router must be: the quality of its choices when some prompts are given a wrong domain.

Noise is not drawn: a prompt keeps its domain with probability a, else it gets one of the others, all equally likely,
and the mean over all such draws follows from a in closed form. It must not know how a domain becomes a choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from router.errors import DataError
from router.replay.choices import Floats, Indices


@dataclass(frozen=True, slots=True, eq=False)
class Noisy:
    """The choices of one policy for every domain that a prompt could be given.

    Attributes:
        policy: its name.
        labels: what the right domain of a prompt is, for readers.
        by_domain: int (n, k), the expert chosen for prompt i if its domain is said to be d; at least two domains.
        actual: int (n,), the right domain.
        classifier: the classifier's own accuracy on these labels, None when they are its own.
    """

    policy: str
    labels: str
    by_domain: Indices
    actual: Indices
    classifier: float | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """Sums from which the quality at any accuracy follows; `right` and `wrong` count prompts of known score.

    Attributes:
        right_total: sum of the scores of choices made from the right domain.
        right: how many those are.
        wrong_total: the same for a wrong domain, each prompt's wrong domains averaged.
        wrong: how many those are.
    """

    right_total: float
    right: float
    wrong_total: float
    wrong: float

    def quality(self, accuracy: float) -> float:
        """Return the expected quality when a share `accuracy` of the prompts has the right domain."""
        total = accuracy * self.right_total + (1 - accuracy) * self.wrong_total
        count = accuracy * self.right + (1 - accuracy) * self.wrong
        return total / count if count else float("nan")

    def break_even(self, reference: float) -> float | None:
        """Return the accuracy from which on the quality is at least `reference`; None when not even 1 is enough.

        Also None when there is nothing to compare.
        """
        right, wrong = self.right_total - reference * self.right, self.wrong_total - reference * self.wrong
        if not right >= 0 or not self.right:
            return None
        return 0.0 if wrong >= 0 else wrong / (wrong - right)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What a policy is worth at every accuracy of the router.

    Attributes:
        policy: the policy whose choices these are.
        labels: what the right domain of a prompt is.
        domains: how many there are.
        classifier: the classifier's own accuracy on these labels, None when they are its own.
        generalist: accuracy from which on it is no worse than always the generalist; None: never.
        best_single: the same against the best single expert.
        curve: pairs of accuracy and expected quality, from 0 to 1; without the accuracies of which nothing is known.
    """

    policy: str
    labels: str
    domains: int
    classifier: float | None
    generalist: float | None
    best_single: float | None
    curve: tuple[tuple[float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, rounded to four decimals."""
        shares = {name: getattr(self, name) for name in ("classifier", "generalist", "best_single")}
        return {
            **{name: getattr(self, name) for name in ("policy", "labels", "domains")},
            **{name: None if share is None else round(share, 4) for name, share in shares.items()},
            "curve": [[round(accuracy, 4), round(quality, 4)] for accuracy, quality in self.curve],
        }


def noise(scores: Floats, by_domain: Indices, actual: Indices) -> Noise:
    """Sum up what choices get from right and from wrong domains.

    Args:
        scores: float64 (n, m); NaN where an expert was not scored.
        by_domain: as in `Noisy`.
        actual: as in `Noisy`.

    Raises:
        DataError: shapes or numbers do not fit.
    """
    count, domains = by_domain.shape
    if domains < 2 or len(scores) != count or actual.shape != (count,):
        raise DataError(f"choices {by_domain.shape} and domains {actual.shape} do not fit scores {scores.shape}")
    got = np.take_along_axis(scores, by_domain, axis=1)
    known = ~np.isnan(got)
    totals, counts = np.where(known, got, 0.0), known.astype(np.float64)
    rows = np.arange(count)
    right_total, right = float(totals[rows, actual].sum()), float(counts[rows, actual].sum())
    totals[rows, actual] = counts[rows, actual] = 0.0
    others = domains - 1
    return Noise(right_total, right, float(totals.sum()) / others, float(counts.sum()) / others)


def break_even(noisy: Noisy, sums: Noise, *, generalist: float, best: float) -> BreakEven:
    """Compare noisy choices with always the generalist and with the best single expert, given their qualities."""
    curve = [(accuracy, sums.quality(accuracy)) for accuracy in np.linspace(0, 1, 21).tolist()]
    return BreakEven(
        policy=noisy.policy,
        labels=noisy.labels,
        domains=noisy.by_domain.shape[1],
        classifier=noisy.classifier,
        generalist=sums.break_even(generalist),
        best_single=sums.break_even(best),
        curve=tuple((accuracy, quality) for accuracy, quality in curve if not np.isnan(quality)),
    )
