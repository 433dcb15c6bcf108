"""Leave-one-source-out: how well is a source read by a model that has never seen any row of it?

Only the head of the fast tier is trained anew for each source; fine-tuning the transformer as often would take a day
on a CPU. For one source of interest, train with `hold_out` instead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from router.artifact import DEFAULT, artifact_folder
from router.data.balance import weights
from router.evaluation.outcomes import five_labels, five_probabilities, five_prompts, outcomes_of
from router.heads import softmax
from router.prompts import Prompt, read_prompts
from router.recipe import Recipe
from router.scores import FloatArray
from router.tiers.fast import FastEncoder
from router.training.fast_head import features_of, fit_head

ROWS_PER_SOURCE: Final = 800
"""More rows of a source are sampled down: the figure needs no more."""
_FEWEST: Final = 20
_DRAWS: Final = 40_000


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One source, read by a head that was trained on all others.

    Attributes:
        source: its name.
        count: prompts measured.
        accuracy: share right, `alt` labels included.
        accuracy_five: the same with all labels but math, coding, health and science taken as one.
    """

    source: str
    count: int
    accuracy: float
    accuracy_five: float


def leave_one_source_out(
    folders: Sequence[Path],
    *,
    artifact: str | Path = DEFAULT,
    recipe: Recipe | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[LeftOut]:
    """Measure every source of `folders` that has a label others have too, each with a head trained without it.

    Args:
        folders: labelled prompts of two or more sources.
        artifact: whose encoder embeds the prompts.
        recipe: width, seed and threads of the head.
        progress: called with one line per source.

    Raises:
        DataError: the prompts cannot be read.
        ArtifactError: the artifact has no fast tier.
    """
    recipe = recipe or Recipe()
    prompts = _sampled(read_prompts(folders), recipe.seed)
    encoder = FastEncoder(artifact_folder(artifact), threads=recipe.threads)
    features = features_of(encoder, [prompt.text for prompt in prompts]).astype(np.float16)
    labels = tuple(sorted({prompt.label for prompt in prompts}))
    found = []
    for source in sorted({prompt.source for prompt in prompts}):
        out = np.array([prompt.source == source for prompt in prompts])
        if out.sum() < _FEWEST or {p.label for p in prompts if p.source == source} - {
            p.label for p in prompts if p.source != source
        }:
            continue
        found.append(_measured(source, prompts, features, out, labels, recipe))
        progress(f"{source}: {found[-1].accuracy:.3f}, five domains {found[-1].accuracy_five:.3f}")
    return found


def _measured(
    source: str, prompts: Sequence[Prompt], features: np.ndarray, out: Any, labels: tuple[str, ...], recipe: Recipe
) -> LeftOut:
    kept = [prompt for prompt, left in zip(prompts, out, strict=True) if not left]
    mine = [prompt for prompt, left in zip(prompts, out, strict=True) if left]
    chances = np.array(weights([p.label for p in kept], [p.source for p in kept], [p.confidence for p in kept]))
    rows = np.random.default_rng(recipe.seed).choice(len(kept), size=_DRAWS, p=chances / chances.sum())
    targets = np.eye(len(labels), dtype=np.float32)[[labels.index(kept[row].label) for row in rows]]
    head = fit_head(features[~out][rows], targets, recipe)
    probabilities: FloatArray = softmax(head.logits(head.standardised(features[out].astype(np.float32))))
    nine = outcomes_of(mine, probabilities, labels)
    five = outcomes_of(five_prompts(mine), five_probabilities(probabilities, labels), five_labels(labels))
    return LeftOut(source, len(mine), round(float(nine.right.mean()), 4), round(float(five.right.mean()), 4))


def _sampled(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    dice = random.Random(seed)
    by_source: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_source.setdefault(prompt.source, []).append(prompt)
    return [
        prompt
        for _, group in sorted(by_source.items())
        for prompt in (dice.sample(group, ROWS_PER_SOURCE) if len(group) > ROWS_PER_SOURCE else group)
    ]
