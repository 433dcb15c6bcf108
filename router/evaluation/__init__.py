"""Measure a classifier: quality, decisions, consistency, speed, and what they look like in a report."""

from __future__ import annotations

from router.evaluation.baselines import majority_accuracy, quality_by_source
from router.evaluation.card import model_card
from router.evaluation.result import Evaluation
from router.evaluation.run import Options, evaluate, measure
from router.evaluation.speed import score_prompts

__all__ = [
    "Evaluation",
    "Options",
    "evaluate",
    "majority_accuracy",
    "measure",
    "model_card",
    "quality_by_source",
    "score_prompts",
]
