"""Measure an artifact on labelled prompts it has not seen; it runs the served model and never trains."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from router.artifact import load_scorer
from router.metrics import Quality, quality
from router.prompts import Prompt, read_prompts
from router.scores import FloatArray, Scorer

_REPORT_EVERY: Final = 500


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `pointsman evaluate` prints.

    Attributes:
        artifact: version of the scorer that was measured.
        overall: figures over all prompts.
        sources: figures per source.
        languages: accuracy per language with 20 or more prompts.
        majority_accuracy: accuracy of always answering the commonest label: the floor.
        skipped: prompts left out because the scorer does not know their label.
        milliseconds: CPU time of scoring per prompt: mean, p50 and p95.
    """

    artifact: str
    overall: Quality
    sources: dict[str, Quality]
    languages: dict[str, float]
    majority_accuracy: float
    skipped: int
    milliseconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dataclasses.asdict(self)


def evaluate(
    folders: Sequence[Path],
    *,
    artifact: str | Path = "default",
    threads: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure an artifact on every labelled prompt below `folders`.

    Args:
        folders: folders (or files) of JSONL rows, see `router.prompts`.
        artifact: artifact folder, or "default".
        threads: threads of the scorer; 1 is what the gateway uses.
        progress: called with one line now and then.

    Raises:
        ArtifactError: the artifact cannot be used.
        DataError: the rows cannot be read.
    """
    scorer = load_scorer(artifact, threads=threads)
    prompts = read_prompts(folders)
    known = [prompt for prompt in prompts if prompt.label in scorer.labels]
    progress(f"{len(known)} prompts, {len(prompts) - len(known)} with labels unknown to {scorer.version}")
    probabilities, milliseconds = score_prompts(scorer, known, progress)
    return Evaluation(
        artifact=scorer.version,
        overall=quality(known, probabilities, scorer.labels),
        sources=quality_by_source(known, probabilities, scorer.labels),
        languages=_by_language(known, probabilities, scorer.labels),
        majority_accuracy=majority_accuracy(known),
        skipped=len(prompts) - len(known),
        milliseconds=milliseconds,
    )


def score_prompts(
    scorer: Scorer, prompts: Sequence[Prompt], progress: Callable[[str], None] = lambda line: None
) -> tuple[FloatArray, dict[str, float]]:
    """Return probabilities (n, k) and the CPU milliseconds per prompt (mean, p50, p95)."""
    rows = np.empty((len(prompts), len(scorer.labels)), dtype=np.float32)
    seconds = np.zeros(max(1, len(prompts)))
    for index, prompt in enumerate(prompts):
        started = time.process_time()
        rows[index] = scorer.score([prompt.text])[0]
        seconds[index] = time.process_time() - started
        if (index + 1) % _REPORT_EVERY == 0:
            progress(f"scored {index + 1} of {len(prompts)}")
    p50, p95 = np.percentile(seconds, (50, 95))
    figures = {"mean": float(seconds.mean()), "p50": float(p50), "p95": float(p95)}
    return rows, {name: round(value * 1e3, 2) for name, value in figures.items()}


def quality_by_source(
    prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]
) -> dict[str, Quality]:
    """Return the figures of each source on its own."""
    figures = {}
    for source, rows in _groups(prompt.source for prompt in prompts).items():
        figures[source] = quality([prompts[row] for row in rows], probabilities[rows], labels)
    return figures


def majority_accuracy(prompts: Sequence[Prompt]) -> float:
    """Return the accuracy of always answering the commonest label of these prompts, `alt` labels included."""
    counts = Counter(label for prompt in prompts for label in {prompt.label, *prompt.alternatives})
    return round(max(counts.values()) / len(prompts), 4) if prompts else 0.0


def _by_language(
    prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str], smallest: int = 20
) -> dict[str, float]:
    groups = _groups(prompt.language or "unknown" for prompt in prompts)
    return {
        language: quality([prompts[row] for row in rows], probabilities[rows], labels).accuracy
        for language, rows in groups.items()
        if len(rows) >= smallest
    }


def _groups(keys: Iterable[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return dict(sorted(groups.items()))
