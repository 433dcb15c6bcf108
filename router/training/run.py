"""Train an artifact from folders of labelled prompts, start to card; the steps live in the modules beside it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from router.abstention import Thresholds
from router.artifact import CARD, FORMAT, load_scorer, read_card, sha256_of
from router.backends import tiered
from router.calibration import Calibration
from router.data.sources import describe_sources
from router.errors import MissingExtraError
from router.evaluation import Evaluation, Options, measure
from router.evaluation.card import model_card
from router.prompts import Prompt, data_hash, read_prompts, share_of
from router.recipe import Recipe
from router.tiers import fast, transformer
from router.training.sampling import Sampler
from router.training.splits import Splits, in_languages, make_splits, readable_languages

PROMPTS_PER_SOURCE: Final = 250
"""Held-out sources are sampled down to this many prompts, so that one large source is not the whole figure."""
EVALUATION: Final = "evaluation.json"
MODEL_CARD: Final = "README.md"
_STATISTICS_PROMPTS: Final = 20_000
_LIBRARIES: Final = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "sentencepiece", "numpy")
_IMPORTED: Final = ("torch", "transformers", "onnx", "sklearn", "scipy")
_FOCUS_LICENCE: Final = "Apache-2.0 (written for this project)"


@dataclass(frozen=True, slots=True)
class Training:
    """What `train` made.

    Attributes:
        artifact: folder of the artifact.
        version: version of the scorer in it.
        labels: its domains.
        evaluations: set name to the served model's figures; "unseen" always, "validation" when there is one.
    """

    artifact: Path
    version: str
    labels: tuple[str, ...]
    evaluations: dict[str, Evaluation]


def train(
    folders: Sequence[Path],
    output: Path,
    *,
    focus: Sequence[Path] = (),
    validation: Sequence[Path] = (),
    recipe: Recipe,
    progress: Callable[[str], None],
) -> Training:
    """Train the tiers, export, calibrate and measure one artifact.

    Args:
        folders: labelled prompts; whole sources of them are held out.
        output: artifact folder to write; files of the same names are replaced. A checkpoint is kept beside it in
            `<output>.checkpoint` until the end: the same call continues an interrupted run.
        focus: hand-written prompts, `recipe.focus_share` of every batch; single prompts of them are held out.
        validation: prompts only measured on.
        recipe: the numbers.
        progress: called with one line now and then.

    Raises:
        MissingExtraError: the training libraries are not installed.
        DataError: the prompts cannot be read or are too few.
    """
    require_training_libraries()
    splits = make_splits(read_prompts(focus) if focus else [], read_prompts(folders) if folders else [], recipe)
    progress(_summary(splits))
    _clear(output)
    checkpoint = output.parent / f"{output.name}.checkpoint"
    bases = _train_tiers(output, splits, recipe, checkpoint / "training.pt", progress)
    card = _card(recipe, splits, (*folders, *focus), bases)
    card["command"] = _command(folders, output, focus, validation, recipe)
    _finish(output, card, splits, recipe, progress)
    evaluations = _measure(output, splits, validation, recipe, progress)
    content = {name: evaluation.as_dict() for name, evaluation in evaluations.items()}
    for figures in content.values():
        # This process has trained: what it holds says nothing of one that serves.
        figures["memory"] = dict.fromkeys(figures["memory"])
    (output / EVALUATION).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (output / MODEL_CARD).write_text(model_card(card, content["unseen"]), encoding="utf-8")
    shutil.rmtree(checkpoint, ignore_errors=True)
    return Training(output, read_card(output).version, splits.labels, evaluations)


def _clear(output: Path) -> None:
    """Remove an artifact's files: some may be shared with a copy by hard links, and writing would change both."""
    names = [name for names in tiered.FILES_OF.values() for name in names]
    names += [tiered.STATISTICS, tiered.DISTANCES, tiered.TOPICS, CARD, EVALUATION, MODEL_CARD]
    for file in (*(output / name for name in names), *output.glob(tiered.gate_file("*"))):
        file.unlink(missing_ok=True)


def require_training_libraries() -> None:
    """Raise `MissingExtraError` with the command to install them when one is missing."""
    for library in _IMPORTED:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise MissingExtraError(library) from error


def _train_tiers(
    output: Path, splits: Splits, recipe: Recipe, checkpoint: Path, progress: Callable[[str], None]
) -> list[dict[str, str]]:
    """Train and export what `recipe.tiers` names; return what each started from."""
    from router.training import encoder, export, fast_base, fast_head
    from router.training.checkpoint import KeptFile

    bases = []
    if fast.NAME in recipe.tiers:
        fast_base.write_encoder(output)
        kept = KeptFile(checkpoint.with_name(fast.GRAPH), output / fast.GRAPH, recipe)
        if not kept.restore():
            fast_head.fit_fast_tier(output, Sampler(splits, recipe), recipe, progress)
            kept.save()
        bases.append({"tier": fast.NAME, "model": fast_base.NAME, "licence": fast_base.LICENCE,
                      "sha256": fast_base.SHA256["weights.npz"]})  # fmt: skip
    if transformer.NAME in recipe.tiers:
        classifier = encoder.load_base(recipe, splits.labels)
        readable = in_languages(splits, readable_languages(recipe))
        encoder.fine_tune(classifier, Sampler(readable, recipe), recipe, progress, checkpoint)
        progress("exporting to int8")
        export.export(classifier, output)
        bases.append({"tier": transformer.NAME, "model": classifier.base, "licence": classifier.licence,
                      "sha256": classifier.base_sha256})  # fmt: skip
    return bases


def _finish(
    output: Path, card: dict[str, Any], splits: Splits, recipe: Recipe, progress: Callable[[str], None]
) -> None:
    """Add statistics, topics, calibration and thresholds, and write the card."""
    from router.training.fitting import CERTAINTY, fit_calibration, fit_limits, fit_thresholds
    from router.training.held import held_logits, write_statistics, write_topics

    progress("calibrating")
    prompts, weights = calibration_prompts(splits, recipe)
    names = [name for tier in recipe.tiers for name in tiered.FILES_OF[tier]]
    _write_card(output, card, names)
    loaded = read_card(output)
    tiers = [tiered.TIERS[name](output, loaded, threads=1) for name in recipe.tiers]
    # Another seed than the splits': under theirs, the first prompts are those of which the hand-written were held out.
    sample = sorted([*splits.focus, *splits.others], key=lambda prompt: share_of(prompt.key, recipe.seed + 1))
    write_statistics(output, tiers[0], sample[:_STATISTICS_PROMPTS], prompts or sample[:1000], splits.labels)
    names += [tiered.STATISTICS, tiered.DISTANCES]
    if write_topics(output, tiers[0], splits.focus):
        names.append(tiered.TOPICS)
    if prompts:
        held = held_logits(tiers, prompts, weights, splits.labels)
        card["calibration"] = fit_calibration(held).as_dict()
        _write_card(output, card, names)
        scores = load_scorer(output).score([prompt.text for prompt in prompts])
        fitted = fit_thresholds(scores.probabilities, held.right, scores.labels, recipe.least_reached)
        card["thresholds"] = fit_limits(fitted.thresholds, scores, held.right).as_dict()
        card["stated"] = {
            "wrong_share": fitted.wrong_share,
            "certainty": CERTAINTY,
            "reached": round(fitted.reached, 4),
        }
    card["calibration_prompts"] = len(prompts)
    _write_card(output, card, names)


def calibration_prompts(splits: Splits, recipe: Recipe) -> tuple[list[Prompt], Any]:
    """Return prompts to calibrate on and their weights (n,): hand-written ones and held-out sources count the same."""
    sources = held_out_sample(splits, recipe.seed)
    groups = [group for group in (splits.calibration, sources) if group]
    weights = [1 / len(group) for group in groups for _ in group]
    return [prompt for group in groups for prompt in group], np.array(weights)


def held_out_sample(splits: Splits, seed: int, *, part: int = 0) -> list[Prompt]:
    """Return up to `PROMPTS_PER_SOURCE` prompts of every held-out source; parts 0 and 1 have none in common."""
    by_source: dict[str, list[Prompt]] = {}
    for prompt in sorted(splits.held_out, key=lambda prompt: share_of(prompt.key, seed)):
        by_source.setdefault(prompt.source, []).append(prompt)
    sample: list[Prompt] = []
    for _, group in sorted(by_source.items()):
        first = min(PROMPTS_PER_SOURCE, len(group) // 2)
        sample += group[first : first + PROMPTS_PER_SOURCE] if part else group[:first]
    return sample


def _measure(
    output: Path, splits: Splits, validation: Sequence[Path], recipe: Recipe, progress: Callable[[str], None]
) -> dict[str, Evaluation]:
    """Measure the served artifact beside the baselines."""
    from router.training.baselines import baselines_of

    scorer = load_scorer(output)
    options = Options(baselines=baselines_of(output, splits, recipe, progress), seed=recipe.seed)
    sets = {"unseen": [*splits.test, *held_out_sample(splits, recipe.seed, part=1)]}
    if validation:
        sets["validation"] = read_prompts(validation)
    evaluations = {}
    for name, prompts in sets.items():
        if any(prompt.label in scorer.labels for prompt in prompts):
            evaluations[name] = measure(scorer, prompts, options=options, progress=progress)
            progress(f"{name}: accuracy {evaluations[name].overall.accuracy:.3f}")
    return evaluations


def _summary(splits: Splits) -> str:
    return (
        f"{len(splits.focus)} hand-written and {len(splits.others)} other prompts, {len(splits.labels)} labels; "
        f"held out: {len(splits.test)} + {len(splits.calibration)} hand-written, {len(splits.held_out)} of "
        f"{len({prompt.source for prompt in splits.held_out})} sources"
    )


def _card(recipe: Recipe, splits: Splits, folders: Sequence[Path], bases: list[dict[str, str]]) -> dict[str, Any]:
    trained = [*splits.focus, *splits.others]
    focus_licences = {prompt.source: _FOCUS_LICENCE for prompt in splits.focus}
    return {
        "format": FORMAT,
        "name": recipe.name,
        "licence": "Apache-2.0",
        "backend": tiered.NAME,
        "labels": list(splits.labels),
        "added": [],
        "tiers": list(recipe.tiers),
        "max_tokens": recipe.max_tokens,
        "calibration": Calibration().as_dict(),
        "thresholds": Thresholds().as_dict(),
        "recipe": {**dataclasses.asdict(recipe), "base": recipe.base and Path(recipe.base).name},
        "bases": bases,
        "training": {
            "data_sha256": data_hash(folders),
            "prompts": {
                "hand-written": len(splits.focus),
                "sources": len(splits.others),
                "held out hand-written": len(splits.test) + len(splits.calibration),
            },
            "held_out_sources": sorted({prompt.source for prompt in splits.held_out}),
            "sources": describe_sources(trained, folders, focus_licences),
        },
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }


def _command(
    folders: Sequence[Path], output: Path, focus: Sequence[Path], validation: Sequence[Path], recipe: Recipe
) -> str:
    """Return the command line that repeats this training; other recipe fields are in the card."""
    words = ["pointsman train", *map(str, folders)]
    words += [f"--focus {folder}" for folder in focus] + [f"--validation {folder}" for folder in validation]
    words += [f"--hold-out {source}" for source in recipe.hold_out]
    return " ".join([*words, f"--output {output}", f"--steps {recipe.steps}"])


def _write_card(folder: Path, card: dict[str, Any], names: Sequence[str]) -> None:
    card["files"] = {name: sha256_of(folder / name) for name in names}
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
