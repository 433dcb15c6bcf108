"""The figures under their old name; they live in `router.evaluation.metrics`."""

from __future__ import annotations

from router.evaluation.calibration import calibration_error
from router.evaluation.metrics import Quality, quality
from router.evaluation.outcomes import GENERALIST_LABELS

__all__ = ["GENERALIST_LABELS", "Quality", "calibration_error", "quality"]
