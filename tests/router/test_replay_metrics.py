"""RouterBench's, RouteLLM's and RouterArena's metrics against values worked out by hand, and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.replay.arena import LARGEST_COST, SMALLEST_COST, arena_score
from router.replay.curves import aiq, cost_at, hull, quality_at
from router.replay.noise import noise
from router.replay.shares import apgr, cpt, pgr

POINTS = st.integers(1, 12).flatmap(
    lambda count: arrays(np.float64, (count, 2), elements=st.floats(0, 1).map(lambda value: round(value, 3)))
)


def test_hull_drops_points_under_the_line_and_those_that_cost_more_for_less() -> None:
    points = np.array([[4, 0.8], [1, 0.2], [2, 0.3], [2, 0.6], [3, 0.65], [6, 0.7]])
    assert hull(points).tolist() == [[1, 0.2], [2, 0.6], [4, 0.8]]


def test_hull_of_the_cheapest_being_best_is_one_point() -> None:
    assert hull(np.array([[1, 0.9], [2, 0.9], [3, 0.4]])).tolist() == [[1, 0.9]]


def test_aiq_is_the_area_under_the_hull_divided_by_the_largest_cost() -> None:
    # Nothing below cost 1, a trapezoid of 1 x (0.2 + 0.6) / 2, then flat at 0.6 from 2 to 5.
    assert aiq(np.array([[1, 0.2], [2, 0.6]]), 5) == pytest.approx((0.4 + 1.8) / 5)


def test_aiq_without_any_cost_is_unknown() -> None:
    assert aiq(np.array([[0.0, 0.5]]), 0.0) is None


@given(POINTS)
def test_hull_lies_on_or_above_every_point_and_rises_ever_slower(points: np.ndarray) -> None:
    corners = hull(points)
    for cost, quality in points:
        assert quality <= quality_at(corners, cost) + 1e-9  # type: ignore[operator]
    assert (np.diff(corners, axis=0) > 0).all()
    slopes = np.diff(corners[:, 1]) / np.diff(corners[:, 0])
    assert (np.diff(slopes) <= 1e-9).all()
    assert {tuple(corner) for corner in corners} <= {tuple(point) for point in points}


@given(POINTS, st.floats(0, 1))
def test_aiq_lies_between_nothing_and_the_best_quality_and_a_further_point_never_lowers_it(
    points: np.ndarray, extra: float
) -> None:
    found = aiq(points, 1.0)
    assert found is not None
    assert 0 <= found <= points[:, 1].max() + 1e-12
    more = aiq(np.vstack((points, (0.0, extra))), 1.0)
    assert more is not None
    assert more >= found - 1e-9


@given(POINTS, st.floats(0, 1))
def test_cost_at_and_quality_at_undo_each_other(points: np.ndarray, quality: float) -> None:
    corners = hull(points)
    cost = cost_at(corners, quality)
    if cost is None:
        assert quality > points[:, 1].max()
    else:
        assert quality_at(corners, cost) == pytest.approx(max(quality, corners[0, 1]), abs=1e-6)


def test_pgr_is_the_share_of_the_gap() -> None:
    assert pgr(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert pgr(0.9, 0.6, 0.8) == pytest.approx(1.5)
    assert pgr(0.7, 0.8, 0.8) is None


def test_apgr_and_cpt_of_a_random_mix_are_those_of_the_diagonal() -> None:
    shares = np.linspace(0, 1, 11)
    qualities = 0.6 + 0.2 * shares
    assert apgr(shares, qualities, 0.6, 0.8) == pytest.approx(0.5)
    assert cpt(0.5, shares, qualities, 0.6, 0.8) == pytest.approx(0.5)
    assert cpt(0.8, shares, qualities, 0.6, 0.8) == pytest.approx(0.8)


def test_apgr_and_cpt_by_hand() -> None:
    shares, qualities = np.array([0.75, 0.25]), np.array([0.78, 0.70])
    # Areas: 0.25 x 0.65, 0.5 x 0.74, 0.25 x 0.79.
    assert apgr(shares, qualities, 0.6, 0.8) == pytest.approx((0.1625 + 0.37 + 0.1975 - 0.6) / 0.2)
    assert cpt(0.5, shares, qualities, 0.6, 0.8) == pytest.approx(0.25)
    assert cpt(0.8, shares, qualities, 0.6, 0.8) == pytest.approx(0.25 + 0.5 * 0.06 / 0.08)


def test_apgr_and_cpt_equal_routellms_formulas_where_its_sweep_reaches_both_ends() -> None:
    generator = np.random.default_rng(3)
    shares = np.concatenate(([0], np.sort(generator.random(8)), [1]))
    qualities = np.concatenate(([0.5], np.sort(generator.uniform(0.5, 0.9, 8)), [0.9]))
    weak, strong = 0.5, 0.9
    area = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(shares, shares[1:], qualities, qualities[1:], strict=False))
    assert apgr(shares, qualities, weak, strong) == pytest.approx((area - weak) / (strong - weak))
    for fraction in (0.2, 0.5, 0.8):
        expected = np.interp(weak + fraction * (strong - weak), qualities, shares)
        assert cpt(fraction, shares, qualities, weak, strong) == pytest.approx(expected)


@given(
    arrays(np.float64, 6, elements=st.floats(0, 1)),
    arrays(np.float64, 6, elements=st.floats(0, 1)),
    st.permutations(range(6)),
)
def test_apgr_and_cpt_do_not_depend_on_the_order_of_points(
    shares: np.ndarray, qualities: np.ndarray, order: list[int]
) -> None:
    assert apgr(shares, qualities, 0.3, 0.7) == pytest.approx(apgr(shares[order], qualities[order], 0.3, 0.7))
    half, most = cpt(0.5, shares, qualities, 0.3, 0.7), cpt(0.8, shares, qualities, 0.3, 0.7)
    assert half is not None
    assert most is not None
    assert 0 <= half <= most <= 1
    assert half == cpt(0.5, shares[order], qualities[order], 0.3, 0.7)


def test_metrics_of_calls_without_a_gap_are_unknown() -> None:
    assert apgr(np.array([0.5]), np.array([0.5]), 0.7, 0.7) is None
    assert cpt(0.5, np.array([0.5]), np.array([0.5]), 0.8, 0.7) is None


@pytest.mark.parametrize(
    ("accuracy", "cost", "score"),
    [
        pytest.param(73.96, 10.02, 64.32, id="GPT-5"),
        pytest.param(66.88, 0.15, 66.89, id="MIRT-BERT"),
        pytest.param(68.09, 0.54, 66.66, id="Azure"),
        pytest.param(60.83, 4.10, 57.29, id="NotDiamond"),
        pytest.param(32.01, 0.07, 33.75, id="RouterDC"),
    ],
)
def test_arena_score_gives_the_rows_of_routerarenas_leaderboard(accuracy: float, cost: float, score: float) -> None:
    # The leaderboard rounds the costs to cents.
    assert arena_score(accuracy / 100, cost) == pytest.approx(score / 100, abs=5e-4)


def test_arena_score_counts_costs_beyond_its_bounds_as_the_bound() -> None:
    assert arena_score(0.5, SMALLEST_COST) == pytest.approx(1.1 * 0.5 / 1.05)
    assert arena_score(0.5, LARGEST_COST) == 0
    assert arena_score(0.0, LARGEST_COST) == 0
    assert arena_score(0.5, 0.0) == arena_score(0.5, SMALLEST_COST)


@given(st.floats(0, 1), st.floats(0, 300), st.floats(0, 1), st.floats(0, 300))
def test_arena_score_rises_with_quality_and_falls_with_cost(
    quality: float, cost: float, better: float, dearer: float
) -> None:
    low, high = sorted((quality, better))
    cheap, dear = sorted((cost, dearer))
    assert arena_score(low, cost) <= arena_score(high, cost) + 1e-12
    assert arena_score(quality, dear) <= arena_score(quality, cheap) + 1e-12
    assert 0 <= arena_score(quality, cost) <= 1


def test_noise_by_hand() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    by_domain = np.array([[0, 1]] * 4)
    sums = noise(scores, by_domain, np.array([0, 1, 0, 1]))
    assert sums.quality(1) == pytest.approx(0.75)
    assert sums.quality(0) == pytest.approx(0.25)
    assert sums.break_even(0.5) == pytest.approx(0.5)
    assert sums.break_even(0.76) is None
    assert sums.break_even(0.25) == 0
    assert sums.break_even(0.75) == pytest.approx(1)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_noise_quality_is_the_mean_of_drawn_noise(seed: int, accuracy: float) -> None:
    generator = np.random.default_rng(seed)
    prompts, experts, domains = 4, 3, 3
    scores = generator.random((prompts, experts))
    by_domain = generator.integers(experts, size=(prompts, domains))
    actual = generator.integers(domains, size=prompts)
    draws = 4000
    kept = generator.random((draws, prompts)) < accuracy
    shifted = (actual + generator.integers(1, domains, size=(draws, prompts))) % domains
    drawn = np.where(kept, actual, shifted)
    picked = by_domain[np.arange(prompts), drawn]
    simulated = scores[np.arange(prompts), picked].mean()
    assert noise(scores, by_domain, actual).quality(accuracy) == pytest.approx(simulated, abs=0.03)


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_break_even_accuracy_has_exactly_the_reference_quality(seed: int, missing: float, reference: float) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.random((12, 3))
    scores[generator.random((12, 3)) < missing * 0.8] = np.nan
    sums = noise(scores, generator.integers(3, size=(12, 4)), generator.integers(4, size=12))
    accuracy = sums.break_even(reference)
    if accuracy is None:
        assert not sums.right or sums.quality(1) < reference
    elif accuracy > 0:
        assert sums.quality(accuracy) == pytest.approx(reference)
        assert sums.quality(1) >= reference - 1e-9
    elif sums.wrong:
        assert sums.quality(0) >= reference - 1e-9
