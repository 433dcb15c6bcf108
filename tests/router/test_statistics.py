"""Sums that do not depend on the order of rows, and distances that tell a strange prompt from an ordinary one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from router.statistics import (
    EMBEDDING_STEP,
    Mahalanobis,
    Statistics,
    oas_shrinkage,
    percentile_curve,
    to_percentile,
)

LABELS = ("coding", "health", "law")
SIZE = 16


def gaussians(count: int, seed: int, shift: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return rows (n, D) of three classes that share an oblong covariance, and their label indices."""
    dice = np.random.default_rng(seed)
    indices = dice.integers(0, len(LABELS), count)
    means = np.eye(len(LABELS), SIZE) * 0.6
    spread = np.linspace(0.02, 0.2, SIZE)
    rows = means[indices] + dice.normal(size=(count, SIZE)) * spread
    rows[:, -2] += shift
    return rows, indices


def bits(statistics: Statistics) -> tuple[tuple[str, ...], bytes]:
    return statistics.labels, b"".join(a.tobytes() for a in (statistics.counts, statistics.sums, statistics.gram))


def test_statistics_of_rows_are_their_weighted_sums() -> None:
    rows, indices = gaussians(200, 1)
    weights = np.random.default_rng(2).integers(1, 5, 200) / 4
    statistics = Statistics.of(LABELS, rows, indices, weights)
    assert statistics.total == weights.sum()
    inside = indices == 1
    np.testing.assert_allclose(statistics.sums[1], (rows[inside] * weights[inside, None]).sum(axis=0), atol=2e-3)
    np.testing.assert_allclose(statistics.gram, (rows * weights[:, None]).T @ rows, atol=2e-2)
    np.testing.assert_allclose(statistics.means()[1], np.average(rows[inside], 0, weights[inside]), atol=EMBEDDING_STEP)


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=40, deadline=None)
def test_statistics_any_order_and_grouping_of_rows_gives_the_same_bits(seed: int, cuts: list[int]) -> None:
    rows, indices = gaussians(60, seed)
    weights = np.random.default_rng(seed).random(60)
    order = np.random.default_rng(seed + 1).permutation(60)
    merged = Statistics.of(LABELS, np.empty((0, SIZE)), [])
    for part in np.split(order, sorted(cuts)):
        merged = merged.merge(Statistics.of(LABELS, rows[part], indices[part], weights[part]))
    assert bits(merged) == bits(Statistics.of(LABELS, rows, indices, weights))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_statistics_removed_label_leaves_the_bits_of_never_having_been_there(seed: int) -> None:
    rows, indices = gaussians(90, seed)
    first = Statistics.of(LABELS, rows, indices)
    added = Statistics.of(("cooking",), rows[::3] * 0.77, np.zeros(30, dtype=int), np.full(30, 0.3))
    both = first.merge(added)
    assert both.labels == (*LABELS, "cooking")
    assert bits(both.subtract(added)) == bits(first)
    assert both.subtract(added).fingerprint() == first.fingerprint() != both.fingerprint()


def test_statistics_subtract_keeps_a_label_that_has_rows_left() -> None:
    rows, indices = gaussians(90, 3)
    part = Statistics.of(LABELS, rows[:40], indices[:40])
    rest = Statistics.of(LABELS, rows, indices).subtract(part)
    assert bits(rest) == bits(Statistics.of(LABELS, rows[40:], indices[40:]))


def test_statistics_subtract_rows_that_are_not_there_is_refused() -> None:
    rows, indices = gaussians(9, 4)
    statistics = Statistics.of(LABELS, rows, indices)
    with pytest.raises(ValueError, match="no such label: cooking"):
        statistics.subtract(Statistics.of(("cooking",), rows[:1], [0]))
    with pytest.raises(ValueError, match="never part"):
        statistics.subtract(statistics.merge(statistics))
    with pytest.raises(ValueError, match="never part"):
        statistics.subtract(Statistics.of(LABELS, -rows, indices))


@pytest.mark.parametrize(
    ("rows", "indices", "weights", "problem"),
    [
        ([[1.0, 2.0]], [0, 1], None, "do not fit"),
        ([[1.0, 2.0]], [3], None, "outside 0..2"),
        ([[1.0, 2.0]], [-1], None, "outside 0..2"),
        ([[1.0, np.nan]], [0], None, "not finite"),
        ([[1.0, 2.0]], [0], [-1.0], "weights"),
        ([[1.0, 2.0]], [0], [1.0, 1.0], "weights"),
        ([[1e4, 0.0]], [0], None, "too large to be exact"),
    ],
)
def test_statistics_of_what_does_not_fit_is_refused(
    rows: list[list[float]], indices: list[int], weights: list[float] | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Statistics.of(LABELS, rows, indices, weights)


def test_statistics_of_different_dimensions_do_not_merge() -> None:
    with pytest.raises(ValueError, match="2 and of 3 entries"):
        Statistics.of(("a",), [[1.0, 0.0]], [0]).merge(Statistics.of(("a",), [[1.0, 0.0, 0.0]], [0]))


def test_statistics_label_without_rows_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Statistics.of(LABELS, [[1.0, 0.0]], [0]).means()


def test_within_covariance_is_that_of_the_rows_around_their_class_means() -> None:
    rows, indices = gaussians(20_000, 5)
    statistics = Statistics.of(LABELS, rows, indices)
    expected = np.diag(np.linspace(0.02, 0.2, SIZE) ** 2)
    np.testing.assert_allclose(statistics.within_covariance(0.0), expected, atol=1.5e-3)
    np.testing.assert_allclose(statistics.within_covariance(), expected, atol=1.5e-3)
    diagonal = statistics.within_covariance(1.0, "diagonal")
    np.testing.assert_array_equal(diagonal, np.diag(np.diag(statistics.within_covariance(0.0))))
    identity = statistics.within_covariance(1.0)
    np.testing.assert_allclose(identity, np.eye(SIZE) * np.trace(expected) / SIZE, atol=1e-3)
    assert np.trace(statistics.total_covariance()) > np.trace(expected)
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        statistics.within_covariance(1.5)


def test_oas_shrinkage_falls_with_the_number_of_rows() -> None:
    covariance = np.diag(np.linspace(0.1, 2, 20))
    few, many = oas_shrinkage(covariance, 5), oas_shrinkage(covariance, 5000)
    assert 0 < many < 0.02 < few <= 1
    assert oas_shrinkage(np.eye(20), 100) == 1.0


@pytest.fixture(scope="module")
def distances() -> Mahalanobis:
    return Mahalanobis.fit(Statistics.of(LABELS, *gaussians(3000, 6)))


def test_distances_are_those_of_the_formula(distances: Mahalanobis) -> None:
    rows, indices = gaussians(3000, 6)
    statistics = Statistics.of(LABELS, rows, indices)
    inverse = np.linalg.inv(statistics.within_covariance())
    expected = [min((row - mean) @ inverse @ (row - mean) for mean in statistics.means()) for row in rows[:20]]
    np.testing.assert_allclose(distances.distances(rows[:20]), expected, rtol=1e-3)
    total = np.linalg.inv(statistics.total_covariance())
    centred = rows[:20] - rows.mean(axis=0)
    relative = np.array(expected) - np.einsum("nd,de,ne->n", centred, total, centred)
    np.testing.assert_allclose(distances.relative(rows[:20]), relative, atol=2e-2)


def test_distances_rank_a_strange_row_above_ordinary_ones(distances: Mahalanobis) -> None:
    ordinary, strange = gaussians(500, 7)[0], gaussians(500, 8, shift=1.5)[0]
    table = percentile_curve(distances.distances(ordinary))
    assert to_percentile(distances.distances(strange), table).min() > 0.9
    held_out = to_percentile(distances.distances(gaussians(500, 9)[0]), table)
    assert 0.4 < held_out.mean() < 0.6
    assert to_percentile(distances.relative(ordinary), percentile_curve(distances.relative(ordinary))).mean() > 0.3


def test_distances_row_has_the_same_bits_alone_and_in_a_batch(distances: Mahalanobis) -> None:
    rows = gaussians(64, 10)[0]
    for measure in (distances.distances, distances.relative):
        alone = np.concatenate([measure(row[np.newaxis]) for row in rows])
        np.testing.assert_array_equal(measure(rows), alone)
        assert measure(rows[:0]).shape == (0,)


def test_distances_smaller_rank_keeps_the_widest_directions() -> None:
    statistics = Statistics.of(LABELS, *gaussians(3000, 6))
    small = Mahalanobis.fit(statistics, rank=4)
    assert small.whitening.shape == small.background.shape == (SIZE, 4)
    rows = gaussians(50, 11)[0]
    assert (small.distances(rows) < Mahalanobis.fit(statistics).distances(rows)).mean() > 0.9


def test_distances_constant_coordinate_stays_finite() -> None:
    rows, indices = gaussians(100, 12)
    rows[:, 3] = 0.5
    assert np.isfinite(Mahalanobis.fit(Statistics.of(LABELS, rows, indices), shrinkage=0.0).distances(rows)).all()


def test_statistics_and_distances_survive_an_npz(distances: Mahalanobis) -> None:
    statistics = Statistics.of(LABELS, *gaussians(50, 13))
    buffer = io.BytesIO()
    np.savez(buffer, **(statistics.as_arrays("s_") | distances.as_arrays("m_")))  # type: ignore[arg-type]
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as arrays:
        assert bits(Statistics.from_arrays(arrays, "s_")) == bits(statistics)
        loaded = Mahalanobis.from_arrays(arrays, "m_")
    rows = gaussians(5, 14)[0]
    assert loaded.labels == LABELS
    np.testing.assert_array_equal(loaded.relative(rows), distances.relative(rows))
    with pytest.raises(ValueError, match="do not fit"):
        Statistics.from_arrays({**statistics.as_arrays(), "counts": np.zeros(9)})
    with pytest.raises(ValueError, match="do not fit"):
        Mahalanobis.from_arrays({**distances.as_arrays(), "centre": np.zeros(9)})
    with pytest.raises(KeyError):
        Statistics.from_arrays({})


_NUMBERS = st.floats(-1e6, 1e6)


@given(distances=st.lists(_NUMBERS, min_size=1, max_size=80), values=st.lists(_NUMBERS, min_size=2, max_size=20))
@settings(max_examples=150, deadline=None)
def test_percentiles_rise_with_the_value_and_stay_in_range(distances: list[float], values: list[float]) -> None:
    table = percentile_curve(distances)
    assert table.shape == (64,)
    assert (np.diff(table) >= 0).all()
    shares = to_percentile(sorted(values), table)
    assert (np.diff(shares) >= 0).all()
    assert ((shares >= 0) & (shares <= 1)).all()
    assert to_percentile([table[0] - 1e6, table[-1]], table).tolist() == [0.0, 1.0]


def test_percentiles_of_what_cannot_be_measured() -> None:
    table = percentile_curve(np.arange(100.0))
    assert to_percentile([np.nan, np.inf, -np.inf, 49.5], table).tolist() == [1.0, 1.0, 0.0, 0.5]
    for hopeless in ([], [1.0, np.nan]):
        with pytest.raises(ValueError, match="finite"):
            percentile_curve(hopeless)
