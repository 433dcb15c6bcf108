"""Calibration numbers and thresholds: what they do, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from router import Thresholds, abstain
from router.abstention import Abstention
from router.calibration import Calibration
from router.scores import DomainScores

LABELS = ("general", "law", "math")


def test_calibration_round_trip_keeps_every_number() -> None:
    for calibration in (Calibration(), Calibration(0.7, (0.2, 0.9), 0.95, 0.4, (0.1, -0.1), (0.0, 0.2))):
        assert Calibration.from_dict(calibration.as_dict()) == calibration


@pytest.mark.parametrize("broken", [{"first": 0.0}, {"pair": [1.0]}, {"pair": [1.0, -1.0]}, {"first": math.nan}])
def test_calibration_numbers_that_make_no_sense_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Calibration.from_dict(Calibration().as_dict() | broken)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"probabilities": np.array([0.5, 0.5, 0.0], dtype=np.float32)}, Abstention.LOW_CONFIDENCE),
        ({"probabilities": np.array([0.0, 0.6, 0.4], dtype=np.float32)}, Abstention.SMALL_MARGIN),
        ({"out_of_domain": 0.99}, Abstention.OUT_OF_DOMAIN),
        ({"disagreement": 0.8}, Abstention.DISAGREEMENT),
    ],
)
def test_abstain_names_the_first_limit_that_is_broken(changes: dict[str, object], expected: Abstention | None) -> None:
    limits = Thresholds({"law": 0.55}, 0.55, margin=0.3, out_of_domain=0.98, disagreement=0.5)
    given = {"probabilities": np.array([0.1, 0.8, 0.1], dtype=np.float32)} | changes
    assert abstain(DomainScores(LABELS, **given), limits) is expected  # type: ignore[arg-type]  # parametrised


def test_thresholds_round_trip_and_refuse_what_is_no_share() -> None:
    limits = Thresholds({"law": 0.6}, 0.5, 0.1, 0.97, 0.4)
    assert Thresholds.from_dict(limits.as_dict()) == limits
    with pytest.raises(ValueError, match="outside"):
        Thresholds.from_dict(limits.as_dict() | {"margin": 1.2})
