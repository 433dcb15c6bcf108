"""Cells: places in the space of prompt embeddings, finer than domains, and the quality measured there. No fitting.

A prompt belongs to each cell with the probability that a linear discriminant gives. Cells know nothing of prompts
unlike those they were made of; there they give way to the domains, by how familiar the prompt is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from router.scores import FloatArray

PROBE: Final = "What is the fastest way to learn to read music?"
COMMON_SHARE: Final = 0.2
"""A domain of this share of a cell's prompts, or more, counts as fully known to it."""
_NUMBERS: Final = ("projection", "bias", "lower", "profile", "count", "familiar", "probe")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Quality in K cells of embeddings of d entries.

    Attributes:
        names: K names of cells.
        experts: m names, in column order.
        labels: k domains, in column order.
        generalist: the expert that quality was shrunk to.
        scorer: version of the scorer whose embeddings these are.
        projection: float32 (2 K, d): K discriminants, then the K centres, of length 1.
        bias: float32 (K,), added to what the discriminants give.
        lower: float32 (K, m), lower confidence bounds; the generalist's column holds its mean.
        profile: float32 (K, k), shares of domains among the prompts of each cell.
        count: float32 (K,), prompts.
        familiar: float32 (2,), similarity to the prompt's own centres at which cells begin to count, and fully do.
        probe: float32 (d,), embedding of `PROBE`, to tell another space of the same size.
    """

    names: tuple[str, ...]
    experts: tuple[str, ...]
    labels: tuple[str, ...]
    generalist: str
    scorer: str
    projection: FloatArray
    bias: FloatArray
    lower: FloatArray
    profile: FloatArray
    count: FloatArray
    familiar: FloatArray
    probe: FloatArray

    def refine(self, base: FloatArray, probabilities: FloatArray, embedding: FloatArray) -> FloatArray:
        """Return expected quality (m,): that of the cells as far as they know such prompts, else `base`.

        Args:
            base: (m,), what the domains say.
            probabilities: (k,), of the domains.
            embedding: (d,), of length 1.
        """
        size = len(self.bias)
        projected = self.projection @ embedding
        weights = projected[:size] + self.bias
        weights -= weights.max()
        np.exp(weights, out=weights)
        weights /= weights.sum()
        low, high = self.familiar.tolist()
        near = (float(weights @ projected[size:]) - low) / (high - low)
        if not near > 0:
            return base
        # Of a domain that hardly any of its prompts were of, a cell knows nothing.
        known = np.minimum(weights @ self.profile, COMMON_SHARE) @ probabilities
        trust = min(near, 1.0) * min(float(known) / COMMON_SHARE, 1.0)
        return np.asarray(base + trust * (weights @ self.lower - base), dtype=np.float32)

    def refine_all(self, base: FloatArray, probabilities: FloatArray, embeddings: FloatArray) -> FloatArray:
        """Return `refine` of n prompts: base (n, m), probabilities (n, k), embeddings (n, d)."""
        rows = zip(base, probabilities, embeddings, strict=True)
        return np.array([self.refine(*row) for row in rows], dtype=np.float32).reshape(base.shape)

    def arranged(self, experts: Sequence[str], labels: Sequence[str], domain_lower: NDArray[np.float64]) -> Self:
        """Return the cells with other columns; experts unknown here get what their domains (k, m) say."""
        profile = np.zeros((len(self.names), len(labels)), dtype=np.float32)
        for column, label in enumerate(self.labels):
            if label in labels:
                profile[:, labels.index(label)] = self.profile[:, column]
        lower = (profile @ domain_lower).astype(np.float32)
        for column, expert in enumerate(self.experts):
            if expert in experts:
                lower[:, experts.index(expert)] = self.lower[:, column]
        return replace(self, experts=tuple(experts), labels=tuple(labels), profile=profile, lower=lower)

    def as_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` reads, for an npz."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """Read what `as_arrays` wrote; KeyError when one is missing, ValueError when they do not fit."""
        numbers = {name: np.asarray(arrays[name], np.float32) for name in _NUMBERS}
        cells = cls(
            names=_texts(arrays["names"]),
            experts=_texts(arrays["experts"]),
            labels=_texts(arrays["labels"]),
            generalist=str(arrays["generalist"]),
            scorer=str(arrays["scorer"]),
            projection=numbers["projection"],
            bias=numbers["bias"],
            lower=numbers["lower"],
            profile=numbers["profile"],
            count=numbers["count"],
            familiar=numbers["familiar"],
            probe=numbers["probe"],
        )
        size, experts, labels = len(cells.names), len(cells.experts), len(cells.labels)
        shapes = [(2 * size, cells.probe.size), (size,), (size, experts), (size, labels), (size,), (2,)]
        if not size or [numbers[name].shape for name in _NUMBERS[:-1]] != shapes or cells.probe.ndim != 1:
            raise ValueError("shapes of the cells do not fit")
        if not all(np.isfinite(array).all() for array in numbers.values()):
            raise ValueError("a number is not finite")
        if not cells.familiar[0] < cells.familiar[1] or not ((cells.lower >= 0) & (cells.lower <= 1)).all():
            raise ValueError("a number is out of range")
        return cells


def _texts(array: NDArray[np.generic]) -> tuple[str, ...]:
    return tuple(str(text) for text in np.asarray(array, np.str_).tolist())
