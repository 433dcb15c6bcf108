"""Train the head of the fast tier on features of the served encoder, which itself stays as it is.

The encoder puts translations side by side; fine-tuning it on few languages takes that away (measured: accuracy on
non-English prompts fell from 0.86 to 0.76), so only the head learns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from router.heads import Head
from router.recipe import Recipe
from router.scores import FloatArray
from router.tiers import transformer
from router.tiers.fast import GRAPH, FastEncoder
from router.training.convolution import Convolution, ServedHead, export
from router.training.fast_base import read_weights
from router.training.relevance import fit_relevance
from router.training.sampling import Sampler
from router.training.splits import readable_languages

_BATCH: Final = 512
_EPOCHS: Final = 8
_RATE: Final = 2e-3
_WEIGHT_DECAY: Final = 0.02
_DROPOUT: Final = 0.45
_LABEL_SMOOTHING: Final = 0.03
_DRAW: Final = 500
_READER_ROWS: Final = 15_000
_FEWEST_FOR_RELEVANCE: Final = 5_000
"""Of fewer prompts it would learn their words, and turn down all others."""
_DRAWS_PER_PROMPT: Final = 20
"""Of few prompts, more would only be repetition."""


def fit_fast_tier(folder: Path, sampler: Sampler, recipe: Recipe, progress: Callable[[str], None]) -> None:
    """Train relevance and head on the encoder in `folder`, and write its graph anew with both."""
    weights, relevance = read_weights(), None
    if recipe.relevance_steps and sampler.size >= _FEWEST_FOR_RELEVANCE:
        relevance = fit_relevance(FastEncoder(folder), Convolution(weights), sampler, recipe, progress)
        export(Convolution(weights, relevance), folder / GRAPH)
    head = _fit_served_head(FastEncoder(folder), sampler, recipe, progress)
    export(Convolution(weights, relevance, head), folder / GRAPH)


def _fit_served_head(
    encoder: FastEncoder, sampler: Sampler, recipe: Recipe, progress: Callable[[str], None]
) -> ServedHead:
    """Draw up to `recipe.draws` prompts, embed them and fit the head and the reader."""
    started = time.monotonic()
    features, targets, languages = _draw(
        encoder, sampler, recipe.altered_share, min(recipe.draws, _DRAWS_PER_PROMPT * sampler.size)
    )
    progress(f"embedded {len(features)} prompts for the fast tier in {time.monotonic() - started:.0f} s")
    head = fit_head(features, targets, recipe)
    if transformer.NAME not in recipe.tiers:
        return ServedHead(head, None, 0.0)
    return ServedHead(head, *fit_reader(features, languages, head, readable_languages(recipe)))


def features_of(encoder: FastEncoder, texts: Sequence[str]) -> FloatArray:
    """Return what the head sees, float32 (n, f)."""
    rows = []
    for text in texts:
        embeddings, pooled = encoder.encode(encoder.tokens(text))
        rows.append(np.concatenate([embeddings[0], pooled[0]]))
    return np.stack(rows)


def _draw(
    encoder: FastEncoder, sampler: Sampler, altered: float, count: int
) -> tuple[np.ndarray, FloatArray, list[str]]:
    """Return features as float16, for they are many, targets (n, k) and n languages."""
    features: list[np.ndarray] = []
    targets: list[FloatArray] = []
    languages: list[str] = []
    for batch in sampler.batches(-(-count // _DRAW), altered=altered, size=_DRAW):
        features.append(features_of(encoder, batch.texts).astype(np.float16))
        targets.append(batch.targets)
        languages.extend(batch.languages)
    return np.concatenate(features), np.concatenate(targets), languages


def fit_reader(
    features: np.ndarray, languages: Sequence[str], head: Head, readable: Sequence[str]
) -> tuple[FloatArray | None, float]:
    """Return a logistic model of whether the transformer can read a prompt, on the features the head sees.

    Token counts do not tell: an English vocabulary breaks Chinese into as many tokens as a multilingual one.

    Returns:
        Weights (f,) and a bias; None and 0 when every prompt is readable, or none.
    """
    wanted = np.array([not readable or language in readable for language in languages])
    if wanted.all() or not wanted.any():
        return None, 0.0
    rows = np.random.default_rng(0).permutation(len(features))[:_READER_ROWS]
    inputs = (features[rows].astype(np.float32) - head.mean) * head.scale
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=200).fit(inputs, wanted[rows])
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def fit_head(features: np.ndarray, targets: FloatArray, recipe: Recipe) -> Head:
    """Train a head on features (n, f), any float type, and targets float32 (n, k) whose rows sum to 1."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = (1 / (features.std(axis=0, dtype=np.float64) + 1e-4)).astype(np.float32)
    network = torch.nn.Sequential(
        torch.nn.Dropout(_DROPOUT),
        torch.nn.Linear(features.shape[1], recipe.hidden),
        torch.nn.ReLU(),
        torch.nn.Dropout(_DROPOUT),
        torch.nn.Linear(recipe.hidden, targets.shape[1]),
    )
    steps = max(1, _EPOCHS * len(features) // _BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    dice = np.random.default_rng(recipe.seed)
    for _ in range(steps):
        rows = dice.integers(0, len(features), _BATCH)
        inputs = torch.from_numpy((features[rows].astype(np.float32) - mean) * scale)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(inputs).float()
        loss = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(targets[rows]), label_smoothing=_LABEL_SMOOTHING
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Head(mean, scale, *_layer(network[1]), *_layer(network[4]))


def _layer(linear: Any) -> tuple[FloatArray, FloatArray]:
    return linear.weight.detach().numpy().T.copy(), linear.bias.detach().numpy().copy()
