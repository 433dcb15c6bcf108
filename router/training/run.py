"""Train an artifact from folders of labelled prompts, start to card; the steps live in the modules beside it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from router.artifact import CARD, FORMAT, load_scorer, sha256_of
from router.backends import onnx as onnx_backend
from router.errors import MissingExtraError
from router.evaluation import majority_accuracy, quality_by_source, score_prompts
from router.metrics import Quality, quality
from router.prompts import Prompt, data_hash, read_prompts, share_of
from router.recipe import Recipe
from router.scores import FloatArray, Scorer
from router.training.calibration import fit_temperature
from router.training.sampling import Sampler
from router.training.sources import describe_sources
from router.training.splits import Splits, make_splits

PROMPTS_PER_SOURCE: Final = 250
"""Held-out sources are sampled down to this many prompts, so that one large source is not the whole figure."""
_LIBRARIES: Final = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy", "scikit-learn")
_FOCUS_LICENCE: Final = "Apache-2.0 (written for this project)"


@dataclass(frozen=True, slots=True)
class Training:
    """What `train` made.

    Attributes:
        artifact: folder of the artifact.
        version: version of the scorer in it.
        labels: its domains.
        evaluations: set name to the served model's figures.
        baselines: set name to baseline name to accuracy.
        temperature: fitted temperature.
    """

    artifact: Path
    version: str
    labels: tuple[str, ...]
    evaluations: dict[str, Quality]
    baselines: dict[str, dict[str, float]]
    temperature: float


def train(
    folders: Sequence[Path],
    output: Path,
    *,
    focus: Sequence[Path] = (),
    validation: Sequence[Path] = (),
    recipe: Recipe,
    progress: Callable[[str], None],
) -> Training:
    """Fine-tune, calibrate, export and measure one artifact.

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
    from router.training.encoder import fine_tune, load_base
    from router.training.export import export

    splits = make_splits(read_prompts(focus) if focus else [], read_prompts(folders) if folders else [], recipe)
    progress(_summary(splits))
    classifier = load_base(recipe, splits.labels)
    checkpoint = output.parent / f"{output.name}.checkpoint" / "training.pt"
    fine_tune(classifier, Sampler(splits, recipe), recipe, progress, checkpoint)
    progress("exporting to int8")
    export(classifier, output)
    card = {
        **_card(recipe, splits, (*folders, *focus), classifier.base, classifier.base_sha256),
        "command": _command(folders, output, focus, validation, recipe),
    }
    _write_card(output, card)
    progress("calibrating")
    card["calibration"] = _calibration(load_scorer(output), splits, recipe)
    _write_card(output, card)
    sets = _evaluation_sets(splits, validation, recipe)
    scorer = load_scorer(output)
    evaluations, by_source, speed = _measure(scorer, sets, progress)
    baselines = _baselines(sets, splits, recipe, progress)
    card["metrics"] = {
        "measured_on": "the exported int8 model, as served",
        "machine": f"{platform.machine()} CPU, one thread",
        "milliseconds_per_prompt": speed,
        "sets": {name: dataclasses.asdict(figures) for name, figures in evaluations.items()},
        "accuracy_by_source": by_source,
        "baselines": baselines,
    }
    _write_card(output, card)
    shutil.rmtree(checkpoint.parent, ignore_errors=True)
    return Training(output, scorer.version, scorer.labels, evaluations, baselines, card["calibration"]["temperature"])


def require_training_libraries() -> None:
    """Raise `MissingExtraError` with the command to install them when one is missing."""
    for name in ("torch", "transformers", "onnx", "sklearn"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(name) from error


def _summary(splits: Splits) -> str:
    sizes = {
        "focus": splits.focus,
        "others": splits.others,
        "test": splits.test,
        "calibration": splits.calibration,
        "held-out sources": splits.held_out,
    }
    counted = ", ".join(f"{len(prompts)} {name}" for name, prompts in sizes.items())
    return f"{len(splits.labels)} labels; prompts: {counted}"


def _held_out_sample(splits: Splits, seed: int) -> list[Prompt]:
    """Return up to `PROMPTS_PER_SOURCE` prompts of each held-out source."""
    sample: list[Prompt] = []
    for source in sorted({prompt.source for prompt in splits.held_out}):
        rows = [prompt for prompt in splits.held_out if prompt.source == source and prompt.text]
        sample += sorted(rows, key=lambda prompt: share_of(prompt.key, seed))[:PROMPTS_PER_SOURCE]
    return sample


def _calibration(scorer: Scorer, splits: Splits, recipe: Recipe) -> dict[str, Any]:
    """Fit the temperature half on held-out hand-written prompts, half on held-out sources, as far as there are any."""
    sources = _held_out_sample(splits, recipe.seed)
    prompts = [*splits.calibration, *sources]
    result: dict[str, Any] = {
        "method": "temperature",
        "temperature": 1.0,
        "focus_prompts": len(splits.calibration),
        "held_out_source_prompts": len(sources),
    }
    if not prompts:
        return result
    probabilities, _ = score_prompts(scorer, prompts)
    right = np.array([[label in (p.label, *p.alternatives) for label in scorer.labels] for p in prompts])
    weights = np.array([1 / len(splits.calibration)] * len(splits.calibration) + [1 / len(sources)] * len(sources))
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    return {**result, "temperature": round(fit_temperature(logs, right, weights), 4)}


def _evaluation_sets(splits: Splits, validation: Sequence[Path], recipe: Recipe) -> dict[str, list[Prompt]]:
    known = [prompt for prompt in (read_prompts(validation) if validation else []) if prompt.label in splits.labels]
    sets = {
        "validation": known,
        "held-out hand-written": splits.test,
        "held-out conversations": [prompt for prompt in splits.test if prompt.conversation],
        "held-out non-English": [prompt for prompt in splits.test if prompt.language not in ("", "en")],
        "held-out sources": _held_out_sample(splits, recipe.seed),
    }
    return {name: prompts for name, prompts in sets.items() if prompts}


def _measure(
    scorer: Scorer, sets: dict[str, list[Prompt]], progress: Callable[[str], None]
) -> tuple[dict[str, Quality], dict[str, float], dict[str, Any]]:
    evaluations: dict[str, Quality] = {}
    by_source: dict[str, float] = {}
    speed: dict[str, Any] = {}
    for name, prompts in sets.items():
        probabilities, speed[name] = score_prompts(scorer, prompts)
        evaluations[name] = figures = quality(prompts, probabilities, scorer.labels)
        progress(f"{name}: accuracy {figures.accuracy:.3f}, macro-F1 {figures.macro_f1:.3f}, ECE {figures.ece:.3f}")
        for source, part in quality_by_source(prompts, probabilities, scorer.labels).items():
            by_source[f"{name}: {source}"] = part.accuracy
    return evaluations, by_source, speed


def _baselines(
    sets: dict[str, list[Prompt]], splits: Splits, recipe: Recipe, progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    from router.training.baselines import tfidf_baseline

    progress("fitting the keyword baseline")
    keywords: Callable[[Sequence[Prompt]], FloatArray] = tfidf_baseline(splits, recipe)
    return {
        name: {
            "majority label of the set": majority_accuracy(prompts),
            "TF-IDF + logistic regression": quality(prompts, keywords(prompts), splits.labels).accuracy,
        }
        for name, prompts in sets.items()
    }


def _card(recipe: Recipe, splits: Splits, folders: Sequence[Path], base: str, base_sha256: str) -> dict[str, Any]:
    trained = [*splits.focus, *splits.others]
    focus_licences = {prompt.source: _FOCUS_LICENCE for prompt in splits.focus}
    return {
        "format": FORMAT,
        "name": recipe.name,
        "backend": onnx_backend.NAME,
        "labels": list(splits.labels),
        "max_tokens": recipe.max_tokens,
        "calibration": {"temperature": 1.0},
        "recipe": {**dataclasses.asdict(recipe), "base": base},
        "base": {"model": base, "sha256": base_sha256},
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
    return " ".join([*words, f"--output {output}", f"--steps {recipe.steps}"])


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    card["files"] = {name: sha256_of(folder / name) for name in onnx_backend.FILES}
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
