"""Measure an artifact on labelled prompts it has not seen; it runs the served model and never trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from router.artifact import load_scorer
from router.errors import DataError
from router.evaluation.baselines import BaselineFunction, majority_accuracy, measure_baselines
from router.evaluation.consistency import SAMPLE, consistency
from router.evaluation.decisions import Decisions, decisions, routes_of
from router.evaluation.metrics import Quality, quality, source_mean
from router.evaluation.outcomes import five_labels, five_probabilities, five_prompts, outcomes_of
from router.evaluation.result import Evaluation
from router.evaluation.separation import out_of_domain
from router.evaluation.sets import Grouped, grouped
from router.evaluation.speed import memory, score_prompts, speed
from router.prompts import Prompt, data_hash, read_prompts
from router.scores import FloatArray, ScoreBatch, Scorer


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        baselines: name to a function from n texts to probabilities (n, k) in the scorer's order of labels.
        perturbed: prompts whose six perturbed versions are routed too; 0 leaves consistency out.
        seed: seeds the sample, the perturbations and the random baseline.
    """

    baselines: Mapping[str, BaselineFunction] = field(default_factory=dict)
    perturbed: int = SAMPLE
    seed: int = 7


def evaluate(
    folders: Sequence[Path],
    *,
    artifact: str | Path = "default",
    threads: int = 1,
    options: Options | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure an artifact on every labelled prompt below `folders`.

    Args:
        folders: folders (or files) of JSONL rows, see `router.prompts`.
        artifact: artifact folder, or "default".
        threads: threads of the scorer; 1 is what the gateway uses.
        options: baselines and numbers; left out: the defaults.
        progress: called with one line now and then.

    Raises:
        ArtifactError: the artifact cannot be used.
        DataError: the rows cannot be read, or the scorer knows no label of them.
    """
    prompts = read_prompts(folders)
    evaluation = measure(load_scorer(artifact, threads=threads), prompts, options=options, progress=progress)
    return replace(evaluation, data_sha256=data_hash(folders))


def measure(
    scorer: Scorer,
    prompts: Sequence[Prompt],
    *,
    options: Options | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure a scorer on prompts; those whose label it does not know are counted and left out.

    Raises:
        DataError: it knows none of the labels, or a baseline answers in another shape.
    """
    options = options or Options()
    known = [prompt for prompt in prompts if prompt.label in scorer.labels]
    progress(f"{len(known)} prompts, {len(prompts) - len(known)} with labels unknown to {scorer.version}")
    if not known:
        raise DataError(f"no prompt has a label that {scorer.version} knows: {', '.join(scorer.labels)}")
    scores, seconds = score_prompts(scorer, known, progress)
    after_scoring = memory()
    figures = grouped_quality(known, scores.probabilities, scorer.labels)
    five = grouped_quality(
        five_prompts(known), five_probabilities(scores.probabilities, scorer.labels), five_labels(scorer.labels)
    )
    return Evaluation(
        artifact=scorer.version,
        labels=tuple(scorer.labels),
        data_sha256="",
        seed=options.seed,
        skipped=len(prompts) - len(known),
        thresholds=scorer.thresholds.as_dict(),
        majority_accuracy=majority_accuracy(known),
        quality=figures,
        five=five,
        source_mean=source_mean(figures.sources),
        source_mean_five=source_mean(five.sources),
        decisions=_grouped_decisions(scorer, known, scores),
        out_of_domain=out_of_domain(known, scores),
        consistency=(
            consistency(scorer, known, sample=options.perturbed, seed=options.seed, progress=progress)
            if options.perturbed
            else None
        ),
        speed=speed(scorer, known, scores, seconds),
        memory=after_scoring,
        baselines=measure_baselines(known, scorer.labels, options.baselines, options.seed),
    )


def grouped_quality(prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]) -> Grouped[Quality]:
    """Measure probabilities (n, k) of n prompts in every group."""
    return grouped(prompts, lambda rows: quality([prompts[row] for row in rows], probabilities[rows], labels))


def _grouped_decisions(scorer: Scorer, prompts: Sequence[Prompt], scores: ScoreBatch) -> Grouped[Decisions]:
    routes = routes_of(scores, scorer.thresholds)
    outcomes = outcomes_of(prompts, scores.probabilities, scorer.labels)
    return grouped(prompts, lambda rows: decisions(routes, outcomes, rows))
