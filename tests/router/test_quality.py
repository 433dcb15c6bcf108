"""Quality figures and the temperature on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from router.evaluation import majority_accuracy
from router.metrics import calibration_error, quality
from router.prompts import Prompt
from router.training.calibration import fit_temperature

LABELS = ("general", "law", "math")


def rows(*values: tuple[float, float, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_quality_all_right_is_one() -> None:
    figures = quality([Prompt("a", "law"), Prompt("b", "math")], rows((0, 1, 0), (0, 0, 1)), LABELS)
    assert (figures.accuracy, figures.macro_f1, figures.ece) == (1.0, 1.0, 0.0)
    assert set(figures.domains) == {"law", "math"}


def test_quality_prediction_among_alternatives_counts_as_right() -> None:
    prompts = [Prompt("a", "law", alternatives=("general",)), Prompt("b", "law")]
    figures = quality(prompts, rows((0.9, 0.1, 0), (0.9, 0.1, 0)), LABELS)
    assert figures.accuracy == 0.5


def test_quality_precision_and_recall_per_domain() -> None:
    prompts = [Prompt("a", "law"), Prompt("b", "law"), Prompt("c", "math"), Prompt("d", "math")]
    probabilities = rows((0, 0.9, 0.1), (0.1, 0.2, 0.7), (0, 0.3, 0.7), (0, 0.1, 0.9))
    figures = quality(prompts, probabilities, LABELS)
    assert (figures.domains["law"].precision, figures.domains["law"].recall) == (1.0, 0.5)
    assert figures.domains["math"].precision == pytest.approx(2 / 3)
    assert figures.domains["math"].f1 == pytest.approx(0.8)


def test_quality_coverage_falls_as_the_threshold_rises() -> None:
    prompts = [Prompt("a", "law"), Prompt("b", "math"), Prompt("c", "general")]
    figures = quality(prompts, rows((0.1, 0.85, 0.05), (0.05, 0.5, 0.45), (0.75, 0.2, 0.05)), LABELS)
    covered = [point.covered for point in figures.coverage]
    assert covered == sorted(covered, reverse=True)
    at_80 = next(point for point in figures.coverage if point.threshold == 0.8)
    assert (at_80.covered, at_80.accuracy) == (pytest.approx(1 / 3, abs=1e-3), 1.0)  # type: ignore[comparison-overlap]  # approx compares
    at_40 = next(point for point in figures.coverage if point.threshold == 0.4)
    assert (at_40.specialist_precision, at_40.specialist_recall) == (0.5, 1.0)


def test_quality_of_nothing_is_zero() -> None:
    figures = quality([], np.empty((0, 3), dtype=np.float32), LABELS)
    assert (figures.count, figures.accuracy, figures.macro_f1, figures.ece) == (0, 0.0, 0.0, 0.0)


def test_calibration_error_of_overconfidence_is_the_gap() -> None:
    confidence = np.full(10, 0.9, dtype=np.float32)
    right = np.array([True] * 5 + [False] * 5)
    assert calibration_error(confidence, right) == pytest.approx(0.4, abs=1e-3)


def test_majority_accuracy_counts_alternatives() -> None:
    assert majority_accuracy([Prompt("a", "law", ("math",)), Prompt("b", "math"), Prompt("c", "general")]) == 0.6667
    assert majority_accuracy([]) == 0.0


def test_fit_temperature_recovers_the_temperature_of_drawn_labels() -> None:
    dice = np.random.default_rng(3)
    honest = dice.normal(size=(6000, 3)) * 2
    probabilities = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    drawn = np.array([dice.choice(3, p=row) for row in probabilities])
    right = drawn[:, None] == np.arange(3)
    assert fit_temperature(honest * 2.5, right, np.ones(6000)) == pytest.approx(2.5, rel=0.06)


def test_fit_temperature_weights_decide_between_groups() -> None:
    logits = np.array([[2.0, 0.0]] * 20)
    right = np.array([[True, False]] * 10 + [[False, True]] * 10)
    trusting = fit_temperature(logits, right, np.array([9.0] * 10 + [1.0] * 10))
    doubting = fit_temperature(logits, right, np.array([6.0] * 10 + [4.0] * 10))
    assert trusting < doubting
