"""Prompt in, calibrated domain probabilities out. No HTTP, no asyncio, and no heavy import until it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from router.artifact import load_scorer
from router.errors import ArtifactError, DataError, MissingExtraError, RouterError, ScorerError
from router.features import Features, extract, extract_text
from router.recipe import Recipe
from router.scores import DomainScores, Scorer

if TYPE_CHECKING:
    from router.evaluation import Evaluation
    from router.training.run import Training

__all__ = [
    "ArtifactError",
    "DataError",
    "DomainScores",
    "Features",
    "MissingExtraError",
    "Recipe",
    "RouterError",
    "Scorer",
    "ScorerError",
    "evaluate",
    "extract",
    "extract_text",
    "load_scorer",
    "train",
]


def train(
    folders: Sequence[Path],
    output: Path,
    *,
    focus: Sequence[Path] = (),
    validation: Sequence[Path] = (),
    recipe: Recipe | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Training:
    """Fine-tune the encoder on labelled prompts and write an artifact; see `router.training.run.train`."""
    from router.training.run import train as run

    return run(folders, output, focus=focus, validation=validation, recipe=recipe or Recipe(), progress=progress)


def evaluate(
    folders: Sequence[Path],
    *,
    artifact: str | Path = "default",
    threads: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure an artifact on labelled prompts it has not seen; see `router.evaluation.evaluate`."""
    from router.evaluation import evaluate as run

    return run(folders, artifact=artifact, threads=threads, progress=progress)
