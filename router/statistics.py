"""Sums over prompt embeddings from which classes are modelled, and the distances that follow from them; no files.

Embeddings and weights are rounded to a fixed grid of powers of two first. Every sum then fits a float64 without
rounding, so merging, removing and the order of rows change no bit. It must not know a model or a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.scores import FloatArray

Array = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

EMBEDDING_STEP: Final = 2.0**-14
"""Grid of embedding entries: moves one by at most 3e-5, a thousandth of a typical entry of a unit vector."""

WEIGHT_STEP: Final = 2.0**-8
"""Grid of row weights; a weight below half of it counts as no row."""

LARGEST_SUM: Final = 2.0**53 * EMBEDDING_STEP**2 * WEIGHT_STEP
"""Sums of squares below this (131,072 per coordinate) are exact: tens of millions of unit vectors of 384 entries."""

QUANTILES: Final = 64
_DISTANCE_ARRAYS: Final = ("centre", "whitening", "means", "background")
_VARIANCE_FLOOR: Final = 1e-6
"""Share of the mean variance added to every direction, so that a constant coordinate can be whitened."""


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Counts, sums and one shared matrix of products: all that a Gaussian model with shared covariance needs.

    The numbers are exact sums of the rounded rows: they depend neither on the order nor on the grouping of rows.
    What is derived from them (means, covariances) is ordinary floating point.

    Attributes:
        labels: k class names.
        counts: float64 (k,), sums of row weights.
        sums: float64 (k, D), weighted sums of the rows of each class.
        gram: float64 (D, D), weighted sum of z zᵀ over all rows of all classes.
    """

    labels: tuple[str, ...]
    counts: Array
    sums: Array
    gram: Array

    @classmethod
    def of(
        cls, labels: Sequence[str], embeddings: ArrayLike, label_indices: ArrayLike, weights: ArrayLike | None = None
    ) -> Self:
        """Sum up rows; large sets go in as batches that are merged, which gives the same bits.

        Args:
            labels: k distinct names.
            embeddings: (n, D), about unit length; rounded to `EMBEDDING_STEP`.
            label_indices: (n,) whole numbers, 0 to k - 1.
            weights: (n,), not negative, rounded to `WEIGHT_STEP`; 1 each when None.

        Raises:
            ValueError: shapes or values do not fit, or the sums would no longer be exact.
        """
        rows = _on_grid(embeddings, EMBEDDING_STEP)
        indices = np.asarray(label_indices, dtype=np.int64)
        if rows.ndim != 2 or indices.shape != rows.shape[:1]:
            raise ValueError(f"embeddings {rows.shape} and label indices {indices.shape} do not fit")
        if len(set(labels)) != len(labels):
            raise ValueError("labels are not distinct")
        if len(indices) and (indices.min() < 0 or indices.max() >= len(labels)):
            raise ValueError(f"a label index is outside 0..{len(labels) - 1}")
        shares = np.ones(len(rows)) if weights is None else _on_grid(weights, WEIGHT_STEP)
        if shares.shape != indices.shape or (shares < 0).any():
            raise ValueError("weights are not n numbers of 0 or more")
        weighted = rows * shares[:, np.newaxis]
        sums = np.zeros((len(labels), rows.shape[1]))
        np.add.at(sums, indices, weighted)
        counts = np.bincount(indices, weights=shares, minlength=len(labels)).astype(np.float64)
        return cls(tuple(labels), counts, sums, weighted.T @ rows + 0.0)._checked()

    @property
    def total(self) -> float:
        """Return the weight of all rows."""
        return float(self.counts.sum())

    def merge(self, other: Statistics) -> Self:
        """Return the statistics of both sets of rows, exactly; own labels first, then the other's new ones."""
        labels = (*self.labels, *(label for label in other.labels if label not in self.labels))
        return self._combined(labels, other, 1.0)

    def subtract(self, other: Statistics) -> Self:
        """Take rows that were merged in out again; what remains is bit-identical to never having had them.

        A label of `other` without weight left is dropped. ValueError when a label or the rows were never part.
        """
        unknown = set(other.labels) - set(self.labels)
        if unknown:
            raise ValueError(f"no such label: {', '.join(sorted(unknown))}")
        rest = self._combined(self.labels, other, -1.0)
        empty = (rest.counts == 0) & np.isin(rest.labels, other.labels)
        if (rest.counts < 0).any() or (np.diag(rest.gram) < 0).any() or rest.sums[empty].any():
            raise ValueError("these rows were never part of the statistics")
        kept = np.flatnonzero(~empty)
        return type(self)(tuple(rest.labels[row] for row in kept), rest.counts[kept], rest.sums[kept], rest.gram)

    def means(self) -> Array:
        """Return the class means (k, D); ValueError when a label has no rows."""
        if not (self.counts > 0).all():
            raise ValueError("a label has no rows")
        return np.asarray(self.sums / self.counts[:, np.newaxis])

    def mean(self) -> Array:
        """Return the mean of all rows (D,)."""
        return np.asarray(self.sums.sum(axis=0) / max(self.total, WEIGHT_STEP))

    def within_covariance(
        self, shrinkage: float | None = None, target: Literal["diagonal", "identity"] = "identity"
    ) -> Array:
        """Return the pooled covariance (D, D) of the rows around the means of their classes, shrunk.

        `shrinkage` runs from 0 (none) to 1 (the target alone), None chooses it by `oas_shrinkage`; `target` is its own
        diagonal, or the mean variance times the identity.
        """
        means = self.means()
        return _shrunk(self.gram - means.T @ self.sums, self.total - len(self.labels), shrinkage, target)

    def total_covariance(self, shrinkage: float | None = None) -> Array:
        """Return the covariance (D, D) of all rows around their one mean, shrunk to the identity."""
        scatter = self.gram - self.total * np.outer(self.mean(), self.mean())
        return _shrunk(scatter, self.total - 1, shrinkage, "identity")

    def fingerprint(self) -> str:
        """Return 16 hex digits that tell two statistics apart."""
        digest = hashlib.sha256("\n".join(self.labels).encode())
        for array in (self.counts, self.sums, self.gram):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]

    def as_arrays(self, prefix: str = "") -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` reads, for an npz; lossless."""
        arrays = {"counts": self.counts, "sums": self.sums, "gram": self.gram, "labels": np.array(self.labels, np.str_)}
        return {prefix + name: array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str = "") -> Self:
        """Read what `as_arrays` wrote; KeyError when one is missing, ValueError when they do not fit."""
        labels = tuple(str(label) for label in arrays[prefix + "labels"])
        counts, sums, gram = (np.asarray(arrays[prefix + name], np.float64) for name in ("counts", "sums", "gram"))
        size = sums.shape[-1]
        if counts.shape != (len(labels),) or sums.shape != (len(labels), size) or gram.shape != (size, size):
            raise ValueError("shapes of the statistics do not fit")
        return cls(labels, counts, sums, gram)._checked()

    def _combined(self, labels: tuple[str, ...], other: Statistics, sign: float) -> Self:
        if len(other.gram) != len(self.gram):
            raise ValueError(f"embeddings of {len(self.gram)} and of {len(other.gram)} entries")
        counts, sums = np.zeros(len(labels)), np.zeros((len(labels), len(self.gram)))
        counts[: len(self.labels)], sums[: len(self.labels)] = self.counts, self.sums
        rows = [labels.index(label) for label in other.labels]
        counts[rows] += sign * other.counts
        sums[rows] += sign * other.sums
        return type(self)(labels, counts, sums, self.gram + sign * other.gram)._checked()

    def _checked(self) -> Self:
        """Refuse sums that may have been rounded; off-diagonal ones are bounded by the diagonal (Cauchy-Schwarz)."""
        if not np.isfinite(self.sums).all() or np.diag(self.gram).max(initial=0.0) >= LARGEST_SUM:
            raise ValueError("sums of squares are too large to be exact; scale the embeddings to unit length")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """Squared distances to Gaussian classes with one covariance; rank r, D unless a smaller one was asked for.

    A row's answer has the same bits alone and in a batch. Source: arXiv:1807.03888; `relative`: arXiv:2106.09022.

    Attributes:
        labels: k class names.
        centre: float32 (D,), mean of all rows.
        whitening: float32 (D, r), maps the centred embedding to where the pooled covariance is the identity.
        means: float32 (k, r), class means there.
        background: float32 (D, r), the same map for one Gaussian over all rows.
    """

    labels: tuple[str, ...]
    centre: FloatArray
    whitening: FloatArray
    means: FloatArray
    background: FloatArray

    @classmethod
    def fit(cls, statistics: Statistics, *, shrinkage: float | None = None, rank: int | None = None) -> Self:
        """Prepare the distances; one prompt then costs one (D, r) product, `relative` two.

        `shrinkage` (0 to 1, None for `oas_shrinkage`) is that of both covariances to the identity; `rank` keeps that
        many directions of largest variance, which approximates. ValueError when a label has no rows.
        """
        centre, size = statistics.mean(), rank or len(statistics.gram)
        whitening = _whitening(statistics.within_covariance(shrinkage), size)
        return cls(
            statistics.labels,
            centre.astype(np.float32),
            whitening.astype(np.float32),
            ((statistics.means() - centre) @ whitening).astype(np.float32),
            _whitening(statistics.total_covariance(shrinkage), size).astype(np.float32),
        )

    def distances(self, embeddings: ArrayLike) -> FloatArray:
        """Return the squared distance (n,) of each row (n, D) to its nearest class."""
        return np.array([self._distance(row) for row in self._centred(embeddings)], dtype=np.float32)

    def relative(self, embeddings: ArrayLike) -> FloatArray:
        """Return `distances` less the squared distance (n,) to one Gaussian over all rows; negative when typical."""
        rows = self._centred(embeddings)
        return np.array([self._distance(row) - np.square(row @ self.background).sum() for row in rows], np.float32)

    def as_arrays(self, prefix: str = "") -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` reads, for an npz; lossless."""
        arrays = {name: getattr(self, name) for name in _DISTANCE_ARRAYS} | {"labels": np.array(self.labels, np.str_)}
        return {prefix + name: array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str = "") -> Self:
        """Read what `as_arrays` wrote; KeyError when one is missing, ValueError when they do not fit."""
        labels = tuple(str(label) for label in arrays[prefix + "labels"])
        numbers = [np.asarray(arrays[prefix + name], dtype=np.float32) for name in _DISTANCE_ARRAYS]
        size, rank = numbers[1].shape
        if [array.shape for array in numbers] != [(size,), (size, rank), (len(labels), rank), (size, rank)]:
            raise ValueError("shapes of the distances do not fit")
        return cls(labels, *numbers)

    def _centred(self, embeddings: ArrayLike) -> FloatArray:
        return np.asarray(embeddings, dtype=np.float32) - self.centre

    def _distance(self, row: FloatArray) -> np.float32:
        # One row at a time: a matrix product's last bits depend on how many rows it has.
        nearest: np.float32 = np.square(row @ self.whitening - self.means).sum(axis=1).min()
        return nearest


def percentile_curve(distances: ArrayLike, size: int = QUANTILES) -> FloatArray:
    """Return `size` quantiles (size,) from the smallest to the largest distance; ValueError without finite ones."""
    values = np.asarray(distances, dtype=np.float64)
    if not values.size or not np.isfinite(values).all() or size < 2:
        raise ValueError("needs finite distances and two or more quantiles")
    return np.quantile(values, np.linspace(0, 1, size)).astype(np.float32)


def to_percentile(values: ArrayLike, table: FloatArray) -> FloatArray:
    """Return the share (float32, 0 to 1) of the distances behind `table` that lie below each value, interpolated.

    It never falls as the value rises; what is not a number counts as infinitely far.
    """
    known = np.asarray(values, dtype=np.float64)
    known = np.where(np.isnan(known), np.inf, known)
    # Not linspace and nan_to_num: they take longer than the distance itself, for every prompt.
    return np.asarray(np.interp(known, table, np.arange(len(table)) / (len(table) - 1)), dtype=np.float32)


def oas_shrinkage(covariance: Array, degrees: float) -> float:
    """Return how far to shrink a covariance of `degrees` rows to the identity.

    Source: oracle approximating shrinkage, Chen et al., arXiv:0907.4698.
    """
    size, trace, squares = len(covariance), float(np.trace(covariance)), float(np.square(covariance).sum())
    spread = (degrees + 1 - 2 / size) * (squares - trace**2 / size)
    return min(1.0, ((1 - 2 / size) * squares + trace**2) / spread) if spread > 0 else 1.0


def _shrunk(scatter: Array, degrees: float, shrinkage: float | None, target: Literal["diagonal", "identity"]) -> Array:
    degrees = max(degrees, 1.0)
    covariance = scatter / degrees
    share = oas_shrinkage(covariance, degrees) if shrinkage is None else shrinkage
    if not 0 <= share <= 1:
        raise ValueError(f"shrinkage {share} is outside 0..1")
    diagonal = np.diag(covariance) if target == "diagonal" else np.full(len(covariance), np.diag(covariance).mean())
    return (1 - share) * covariance + share * np.diag(diagonal)


def _whitening(covariance: Array, rank: int) -> Array:
    """Return (D, rank), with the directions of largest variance first."""
    variances, directions = np.linalg.eigh(covariance)
    floor = max(_VARIANCE_FLOOR * float(variances.mean()), EMBEDDING_STEP**2)
    scaled: Array = directions[:, ::-1] / np.sqrt(np.maximum(variances[::-1], 0) + floor)
    return scaled[:, :rank]


def _on_grid(values: ArrayLike, step: float) -> Array:
    """Round to multiples of `step`; adding 0 turns -0 into 0, which have different bits."""
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite")
    rounded: Array = np.rint(numbers / step) * step + 0.0
    return rounded
