"""What is fitted after training, on logits drawn from known chances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router import Thresholds, abstain
from router.abstention import Abstention
from router.calibration import Calibration
from router.scores import ScoreBatch

pytest.importorskip("scipy", reason="needs the train extra")
from router.training.fitting import (
    LOST_BY_HAND_OVER,
    Held,
    fit_calibration,
    fit_limits,
    fit_thresholds,
    probabilities_of,
    upper_bound,
)

LABELS = ("general", "law", "math")


def drawn(count: int, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, 3) and right answers drawn from their softmax at the given strength."""
    dice = np.random.default_rng(seed)
    honest = dice.normal(size=(count, 3)) * 2
    powers = np.exp(honest)
    chances = powers / powers.sum(axis=1, keepdims=True)
    labels = np.array([dice.choice(3, p=row) for row in chances])
    return (honest * strength).astype(np.float32), labels[:, None] == np.arange(3)


def held(first: np.ndarray, right: np.ndarray, second: np.ndarray | None = None, readable: float = 1.0) -> Held:
    return Held(first, second, np.full(len(first), readable, dtype=np.float32), right, np.ones(len(first)))


def test_fit_calibration_one_tier_recovers_the_temperature() -> None:
    logits, right = drawn(6000, 2.5, seed=3)
    assert 1 / fit_calibration(held(logits, right)).first == pytest.approx(2.5, rel=0.06)


def test_fit_calibration_second_tier_that_knows_more_is_asked_and_weighs_more() -> None:
    logits, right = drawn(4000, 1.0, seed=4)
    noise = np.random.default_rng(5).normal(size=logits.shape).astype(np.float32) * 2
    prompts = held(logits * 0.3 + noise, right, logits)
    calibration = fit_calibration(prompts)
    assert calibration.pair[1] > calibration.pair[0] * 3
    always = probabilities_of(prompts, replace(calibration, hand_over=2.0))
    served = probabilities_of(prompts, calibration)
    hits = [right[np.arange(len(right)), rows.argmax(axis=1)].mean() for rows in (served, always)]
    assert hits[0] >= hits[1] - LOST_BY_HAND_OVER


def test_fit_calibration_second_tier_of_noise_is_hardly_asked() -> None:
    logits, right = drawn(4000, 1.0, seed=6)
    noise = np.random.default_rng(7).normal(size=logits.shape).astype(np.float32)
    prompts = held(logits, right, noise)
    calibration = fit_calibration(prompts)
    same = probabilities_of(prompts, calibration).argmax(axis=1) == calibration.alone(logits).argmax(axis=1)
    assert same.mean() > 0.98


def test_probabilities_foreign_prompts_are_left_to_the_first_tier() -> None:
    first, right = drawn(50, 1.0, seed=8)
    second = -first
    calibration = Calibration(first=1.0, pair=(0.0, 1.0), hand_over=1.1, least_readable=0.5)
    foreign = probabilities_of(held(first, right, second, readable=0.2), calibration)
    known = probabilities_of(held(first, right, second, readable=0.9), calibration)
    np.testing.assert_allclose(foreign, calibration.alone(first))
    np.testing.assert_allclose(known, calibration.alone(second), rtol=1e-5)


def test_upper_bound_is_that_of_clopper_and_pearson() -> None:
    # 0 of 29: 1 - 0.1 ** (1 / 29), the closed form.
    assert upper_bound(0, 29) == pytest.approx(1 - 0.1 ** (1 / 29))
    assert upper_bound(3, 3) == 1.0
    assert upper_bound(1, 100) > 0.01


def test_fit_thresholds_are_as_strict_as_the_share_that_must_get_through_allows() -> None:
    logits, right = drawn(6000, 1.0, seed=9)
    probabilities = Calibration().alone(logits)
    strict = fit_thresholds(probabilities, right, LABELS, 0.3)
    loose = fit_thresholds(probabilities, right, LABELS, 0.6)
    assert strict.reached >= 0.3
    assert loose.reached >= 0.6
    assert strict.wrong_share < loose.wrong_share
    assert strict.thresholds.of("law") > loose.thresholds.of("law")
    assert strict.thresholds.of("general") == 0.0


def test_fit_thresholds_stated_share_holds_on_fresh_prompts() -> None:
    logits, right = drawn(6000, 1.0, seed=10)
    fitted = fit_thresholds(Calibration().alone(logits), right, LABELS, 0.4)
    fresh, answers = drawn(6000, 1.0, seed=11)
    batch = ScoreBatch.plain(LABELS, Calibration().alone(fresh))
    decided = [row for row, score in enumerate(batch) if abstain(score, fitted.thresholds) is None]
    decided = [row for row in decided if batch[row].top()[0] != "general"]
    wrong = [row for row in decided if not answers[row, batch.probabilities[row].argmax()]]
    assert len(wrong) / len(decided) <= fitted.wrong_share


def test_fit_limits_cost_one_right_decision_in_a_hundred() -> None:
    count = 1000
    probabilities = np.tile(np.array([0.05, 0.9, 0.05], dtype=np.float32), (count, 1))
    strange = np.linspace(0, 1, count, dtype=np.float32)
    batch = ScoreBatch(LABELS, probabilities, strange, strange, ("fast",) * count)
    limits = fit_limits(Thresholds(), batch, np.tile([False, True, False], (count, 1)))
    assert limits.out_of_domain == pytest.approx(0.99, abs=0.002)
    lost = [score for score in batch if abstain(score, limits) is Abstention.OUT_OF_DOMAIN]
    assert 8 <= len(lost) <= 12
