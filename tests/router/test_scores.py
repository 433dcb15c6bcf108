"""The value a scorer's answer is wrapped in."""

from __future__ import annotations

import numpy as np
import pytest

from router import DomainScores


def scores(*probabilities: float) -> DomainScores:
    labels = ("coding", "health", "law")[: len(probabilities)]
    return DomainScores(labels, np.array(probabilities, dtype=np.float32))


def test_scores_top_returns_best_label_and_plain_float() -> None:
    label, probability = scores(0.2, 0.7, 0.1).top()
    assert label == "health"
    assert type(probability) is float
    assert probability == pytest.approx(0.7)


def test_scores_top_on_a_tie_returns_first_label() -> None:
    assert scores(0.4, 0.4, 0.2).top()[0] == "coding"


def test_scores_margin_is_the_distance_of_the_two_best() -> None:
    assert scores(0.2, 0.7, 0.1).margin() == pytest.approx(0.5)
    assert scores(1.0).margin() == 1.0


def test_scores_as_dict_holds_plain_floats_in_label_order() -> None:
    plain = scores(0.25, 0.5, 0.25).as_dict()
    assert plain == {"coding": 0.25, "health": 0.5, "law": 0.25}
    assert all(type(value) is float for value in plain.values())
