"""Quality figures and the temperature on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from router.evaluation import majority_accuracy, quality_by_source
from router.evaluation.calibration import brier_score, calibration_error
from router.evaluation.metrics import quality, source_mean, wilson_interval
from router.evaluation.outcomes import five_labels, five_probabilities, five_prompts
from router.evaluation.selective import selective
from router.prompts import Prompt

LABELS = ("general", "law", "math")


def rows(*values: tuple[float, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_quality_all_right_is_one() -> None:
    figures = quality([Prompt("a", "law"), Prompt("b", "math")], rows((0, 1, 0), (0, 0, 1)), LABELS)
    assert (figures.accuracy, figures.macro_f1, figures.ece, figures.brier) == (1.0, 1.0, 0.0, 0.0)
    assert figures.selective.aurc == 0.0
    assert set(figures.domains) == {"law", "math"}


def test_quality_prediction_among_alternatives_counts_as_right() -> None:
    prompts = [Prompt("a", "law", alternatives=("general",)), Prompt("b", "law")]
    figures = quality(prompts, rows((0.9, 0.1, 0), (0.9, 0.1, 0)), LABELS)
    assert figures.accuracy == 0.5
    assert figures.domains["general"].count == 1


def test_quality_precision_and_recall_per_domain() -> None:
    prompts = [Prompt("a", "law"), Prompt("b", "law"), Prompt("c", "math"), Prompt("d", "math")]
    probabilities = rows((0, 0.9, 0.1), (0.1, 0.2, 0.7), (0, 0.3, 0.7), (0, 0.1, 0.9))
    figures = quality(prompts, probabilities, LABELS)
    law, math = figures.domains["law"], figures.domains["math"]
    assert (law.count, law.predicted, law.precision, law.recall) == (2, 1, 1.0, 0.5)
    assert (math.predicted, math.precision, math.recall, math.f1) == (3, 0.6667, 1.0, 0.8)
    assert figures.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2, abs=1e-4)
    assert law.ece == pytest.approx(0.1, abs=1e-4)


def test_quality_confusion_has_labels_in_rows_and_predictions_in_columns() -> None:
    prompts = [Prompt("a", "law"), Prompt("b", "law"), Prompt("c", "math")]
    figures = quality(prompts, rows((0, 1, 0), (0, 0, 1), (0, 0, 1)), LABELS)
    assert figures.confusion.labels == LABELS
    assert figures.confusion.rows == [[0, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_quality_domain_predicted_but_never_a_label_does_not_count_for_macro_f1() -> None:
    figures = quality([Prompt("a", "law"), Prompt("b", "law")], rows((0, 1, 0), (1, 0, 0)), LABELS)
    assert figures.domains["general"].count == 0
    assert figures.macro_f1 == figures.domains["law"].f1 == pytest.approx(2 / 3, abs=1e-4)


def test_quality_of_nothing_is_zero() -> None:
    figures = quality([], np.empty((0, 3), dtype=np.float32), LABELS)
    assert (figures.count, figures.accuracy, figures.macro_f1, figures.ece, figures.brier) == (0, 0.0, 0.0, 0.0, 0.0)
    assert (figures.interval, figures.selective.curve) == ((0.0, 1.0), [])


def test_calibration_error_of_overconfidence_is_the_gap() -> None:
    confidence = np.full(10, 0.9, dtype=np.float32)
    right = np.array([True] * 5 + [False] * 5)
    assert calibration_error(confidence, right) == pytest.approx(0.4, abs=1e-3)


def test_brier_score_adds_up_all_columns() -> None:
    assert brier_score(rows((0.5, 0.3, 0.2)), np.array([0])) == pytest.approx(0.25 + 0.09 + 0.04, abs=1e-4)
    assert brier_score(rows((0, 1, 0)), np.array([0])) == 2.0


def test_selective_area_and_accuracy_follow_the_order_of_confidence() -> None:
    figures = selective(np.array([0.2, 0.9, 0.8, 0.7, 0.6]), np.array([False, True, True, False, True]))
    # Wrong, surest first: 0 0 1 0 1; risks 0, 0, 1/3, 1/4, 2/5.
    assert figures.aurc == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5, abs=1e-4)
    assert figures.accuracy == {"0.8": 0.75, "0.9": 0.6}
    assert [point.risk for point in figures.curve[-5:]] == [0.25, 0.4, 0.4, 0.4, 0.4]


def test_selective_equal_confidence_does_not_depend_on_the_order_of_rows() -> None:
    confidence = np.full(4, 0.5)
    first = selective(confidence, np.array([True, True, False, False]))
    last = selective(confidence, np.array([False, False, True, True]))
    assert first == last
    assert first.aurc == 0.5


def test_wilson_interval_matches_published_values() -> None:
    assert wilson_interval(8, 10) == (0.4902, 0.9433)
    assert wilson_interval(10, 10) == (0.7225, 1.0)
    assert wilson_interval(0, 10) == (0.0, 0.2775)


def test_five_domains_sum_what_is_not_among_them() -> None:
    labels = ("coding", "general", "law", "math")
    assert five_labels(labels) == ("math", "coding", "other")
    collapsed = five_probabilities(rows((0.1, 0.3, 0.2, 0.4)), labels)
    assert collapsed.tolist() == [pytest.approx([0.4, 0.1, 0.5])]
    prompt = Prompt("a", "law", alternatives=("math", "general"))
    assert five_prompts([prompt]) == [Prompt("a", "other", alternatives=("math", "other"))]


def test_source_mean_weighs_small_and_large_sources_alike() -> None:
    prompts = [Prompt("a", "law", source="big")] * 3 + [Prompt("b", "law", source="small")]
    by_source = quality_by_source(prompts, rows((0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1)), LABELS)
    means = source_mean(by_source)
    assert (means.sources, means.accuracy, means.brier) == (2, 0.5, 1.0)
    assert source_mean({}).accuracy == 0.0


def test_majority_accuracy_counts_alternatives() -> None:
    assert majority_accuracy([Prompt("a", "law", ("math",)), Prompt("b", "math"), Prompt("c", "general")]) == 0.6667
    assert majority_accuracy([]) == 0.0
