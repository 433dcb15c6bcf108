"""The quality table: measured quality of experts by domain, shrunk and bounded. Files and fitting are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.errors import QualityError
from router.quality.beta import beta_quantile
from router.quality.cells import PROBE, Cells
from router.scores import FloatArray, Scorer

Array = NDArray[np.float64]

PRIOR: Final = 20.0
CONFIDENCE: Final = 0.8
GENERALIST: Final = "generalist"
_EDGE: Final = 0.002
"""Prior means stay this far from 0 and 1, where a Beta prior would have no spread."""
_LEAST_SIMILARITY: Final = 0.98


@dataclass(frozen=True, slots=True, eq=False)
class QualityTable:
    """Quality of m experts in k domains. Build it with `of`, `load` or `fit_quality`.

    A cell of the table is a Beta posterior. Its prior, of strength `prior`, has the generalist's posterior mean of that
    domain, less what the expert lacks to the generalist over all domains: so never above the generalist where nothing
    was measured. The generalist itself is shrunk to its own mean over all domains.

    Attributes:
        labels: k domains, in row order.
        experts: m names, in column order.
        generalist: the one of them that others are compared with.
        score: float64 (k, m), mean score 0 to 1 as measured, NaN where nothing was.
        count: float64 (k, m), prompts behind it; a prompt of uncertain domain counts in each with its probability.
        prior: prompts that the prior is worth.
        confidence: one-sided level of the bound, 0.5 to 0.999.
        mean: float64 (k, m), posterior means.
        lower: float64 (k, m), lower confidence bounds; the generalist's column holds its mean, so that another expert
            must beat it by more than chance.
        completion_tokens: float64 (k,), typical length of an answer, None when nothing is known.
        cells: quality at places finer than domains, None when that did not pay.
    """

    labels: tuple[str, ...]
    experts: tuple[str, ...]
    generalist: str
    score: Array
    count: Array
    prior: float
    confidence: float
    mean: Array
    lower: Array
    completion_tokens: Array | None
    cells: Cells | None
    _lower: FloatArray

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        experts: Sequence[str],
        generalist: str,
        score: ArrayLike,
        count: ArrayLike,
        *,
        prior: float = PRIOR,
        confidence: float = CONFIDENCE,
        completion_tokens: ArrayLike | None = None,
        cells: Cells | None = None,
    ) -> Self:
        """Make a table from measured means and counts (both (k, m)).

        Raises:
            QualityError: numbers out of range, names that are missing or not distinct, nothing measured of the
                generalist.
        """
        scores, counts = np.array(score, np.float64), np.array(count, np.float64)
        _check(labels, experts, generalist, scores, counts)
        if not (0.5 <= confidence <= 0.999 and 0 < prior < np.inf):
            raise QualityError(f"confidence {confidence} is outside 0.5 to 0.999, or prior {prior} is not positive")
        scores[counts == 0] = np.nan
        first, second = _posterior(scores, counts, experts.index(generalist), prior)
        mean = first / (first + second)
        # A very lopsided distribution has even low quantiles above its mean.
        lower = np.array(mean) if confidence == 0.5 else np.minimum(beta_quantile(1 - confidence, first, second), mean)
        lower[:, experts.index(generalist)] = mean[:, experts.index(generalist)]
        return cls(
            labels=tuple(labels),
            experts=tuple(experts),
            generalist=generalist,
            score=scores,
            count=counts,
            prior=prior,
            confidence=confidence,
            mean=mean,
            lower=lower,
            completion_tokens=None if completion_tokens is None else np.array(completion_tokens, np.float64),
            cells=None if cells is None else cells.arranged(list(experts), list(labels), lower),
            _lower=lower.astype(np.float32),
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        experts: Sequence[str] | None = None,
        generalist: str | None = None,
        labels: Sequence[str] | None = None,
        scorer: Scorer | None = None,
    ) -> Self:
        """Read a table, and the cells beside it if there are some; see `router.quality.files`.

        Args:
            path: CSV with columns domain, expert, score, count.
            experts: the only names allowed, in the wanted order; None takes those of the file.
            generalist: None takes the file's, "generalist" when it names none.
            labels: the only domains allowed, in the wanted order; None takes those of `scorer`, else of the file.
            scorer: what the prompts will be scored with; see `check_scorer`.

        Raises:
            QualityError: the file cannot be used; the message names file and line.
        """
        from router.quality.files import read_table

        wanted = scorer.labels if labels is None and scorer is not None else labels
        table = read_table(cls, Path(path), experts=experts, generalist=generalist, labels=wanted)
        if scorer is not None:
            table.check_scorer(scorer)
        return table

    def save(self, path: str | Path) -> None:
        """Write the table as CSV, and its cells beside it; `QualityError` when that fails."""
        from router.quality.files import write_table

        write_table(self, Path(path))

    def expect(self, probabilities: FloatArray, embedding: FloatArray | None = None) -> tuple[float, ...]:
        """Return the expected quality of each expert, in their order: sum over d of p(d) lower[d, e].

        Args:
            probabilities: float32 (k,), of the domains, in the table's order.
            embedding: float32 (d,), of length 1; with it cells refine the answer where the table has some.
        """
        expected: FloatArray = probabilities @ self._lower
        # Another size is another scorer's, as a canary may have one: `check_scorer` tells of it, requests go on.
        if self.cells is not None and embedding is not None and embedding.size == self.cells.probe.size:
            expected = self.cells.refine(expected, probabilities, embedding)
        return tuple(expected.tolist())

    def expect_all(self, probabilities: FloatArray, embeddings: FloatArray | None = None) -> FloatArray:
        """Return `expect` of n prompts as float32 (n, m): probabilities (n, k), embeddings (n, d)."""
        expected: FloatArray = np.asarray(probabilities, np.float32) @ self._lower
        if self.cells is None or embeddings is None:
            return expected
        return self.cells.refine_all(expected, probabilities, embeddings)

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Return the two-sided interval of every cell's posterior as two arrays (k, m)."""
        first, second = _posterior(self.score, self.count, self.experts.index(self.generalist), self.prior)
        tail = (1 - level) / 2
        return beta_quantile(tail, first, second), beta_quantile(1 - tail, first, second)

    def without_cells(self) -> Self:
        """Return the table with domains only."""
        return replace(self, cells=None)

    def check_scorer(self, scorer: Scorer) -> None:
        """Check that the cells live in the space of a scorer's embeddings.

        Raises:
            QualityError: the scorer does not embed, or otherwise than the one the cells were made with.
        """
        if self.cells is None:
            return
        made_with, size = self.cells.scorer, self.cells.probe.size
        found = scorer.score((PROBE,)).embeddings
        if found is None:
            raise QualityError(f"the cells need embeddings, as {made_with} gives; {scorer.version} gives none")
        if found.shape[1] != size:
            raise QualityError(
                f"the cells are of embeddings of {size} entries ({made_with}); those of {scorer.version} have "
                f"{found.shape[1]}: fit the table again"
            )
        if float(found[0] @ self.cells.probe) < _LEAST_SIMILARITY:
            raise QualityError(f"the cells were made with {made_with}, which embeds otherwise than {scorer.version}")


def _posterior(score: Array, count: Array, generalist: int, prior: float) -> tuple[Array, Array]:
    """Return both parameters (k, m) of the Beta posteriors."""
    total = np.nan_to_num(score) * count
    own = total[:, generalist].sum() / count[:, generalist].sum()
    base = (total[:, generalist] + prior * own) / (count[:, generalist] + prior)
    shared = np.minimum(count, count[:, [generalist]])
    lead = np.nan_to_num(score - score[:, [generalist]]) * shared
    lacks = np.minimum(0.0, lead.sum(axis=0) / np.maximum(shared.sum(axis=0), 1.0))
    expected = np.clip(base[:, np.newaxis] + lacks, _EDGE, 1 - _EDGE)
    expected[:, generalist] = np.clip(own, _EDGE, 1 - _EDGE)
    return total + prior * expected, count - total + prior * (1 - expected)


def _check(labels: Sequence[str], experts: Sequence[str], generalist: str, score: Array, count: Array) -> None:
    if generalist not in experts:
        raise QualityError(f"the generalist {generalist!r} is not among the experts {', '.join(experts)}")
    if not labels or len(set(labels)) != len(labels) or len(set(experts)) != len(experts):
        raise QualityError("names of domains and experts must be there and distinct")
    for name in (*labels, *experts):
        if not name or name != name.strip() or not name.isprintable():
            raise QualityError(f"the name {name!r} is empty, has blanks around it or what cannot be printed in it")
    if score.shape != (len(labels), len(experts)) or count.shape != score.shape:
        raise QualityError(f"{len(labels)} domains and {len(experts)} experts do not fit arrays {score.shape}")
    measured = count > 0
    if not (np.isfinite(count).all() and (count >= 0).all()):
        raise QualityError("a count is not a number of 0 or more")
    if not ((score[measured] >= 0) & (score[measured] <= 1)).all():
        raise QualityError("a score is outside 0 to 1")
    if not measured[:, list(experts).index(generalist)].any():
        raise QualityError(f"no scores of the generalist {generalist!r}, which the others are compared with")
