"""The baselines every trained model must beat; they are measured, never shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from router.artifact import read_card
from router.backends import tiered
from router.evaluation.baselines import BaselineFunction
from router.heads import softmax
from router.recipe import Recipe
from router.scores import FloatArray
from router.tiers import fast
from router.tiers.reading import Tier
from router.training.sampling import Sampler
from router.training.splits import Splits

_PROMPTS: Final = 24_000
_FEATURES: Final = 60_000
_EMBEDDED: Final = 8_000


def baselines_of(
    folder: Path, splits: Splits, recipe: Recipe, progress: Callable[[str], None]
) -> Mapping[str, BaselineFunction]:
    """Return keyword and frozen-encoder baselines, and each tier of the artifact in `folder` alone."""
    progress("fitting the baselines")
    found: dict[str, BaselineFunction] = {"TF-IDF + logistic regression": tfidf_baseline(splits, recipe)}
    card = read_card(folder)
    for name in card.tiers:
        found[f"{name} tier alone"] = _alone(tiered.TIERS[name](folder, card, threads=1), len(splits.labels))
    if fast.NAME in card.tiers:
        encoder = fast.FastEncoder(folder)
        found["frozen multilingual encoder + logistic regression"] = _frozen(
            lambda texts: np.stack([encoder.embed(text) for text in texts]), splits, recipe
        )
    return found


def _alone(tier: Tier, labels: int) -> BaselineFunction:
    def score(texts: Sequence[str]) -> FloatArray:
        logits = [tier.read(text).logits for text in texts]
        return softmax(np.stack(logits)) if logits else np.zeros((0, labels), dtype=np.float32)

    return score


def _frozen(embed: Callable[[Sequence[str]], FloatArray], splits: Splits, recipe: Recipe) -> BaselineFunction:
    (batch,) = Sampler(splits, recipe).batches(1, altered=0, size=_EMBEDDED)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
    model.fit(embed(batch.texts), batch.targets.argmax(axis=1))
    columns = model[-1].classes_

    def score(texts: Sequence[str]) -> FloatArray:
        probabilities = np.zeros((len(texts), len(splits.labels)), dtype=np.float32)
        if texts:
            probabilities[:, columns] = model.predict_proba(embed(texts))
        return probabilities

    return score


def tfidf_baseline(splits: Splits, recipe: Recipe) -> BaselineFunction:
    """Fit TF-IDF (words and pairs) with logistic regression on the same mixture the model trains on.

    Returns:
        A function from n texts to float32 (n, k), columns as `splits.labels`.
    """
    (batch,) = Sampler(splits, recipe).batches(1, altered=0, size=_PROMPTS)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=_FEATURES, sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=200),
    )
    model.fit(batch.texts, batch.targets.argmax(axis=1))
    columns = model.classes_

    def score(texts: Sequence[str]) -> FloatArray:
        probabilities = np.zeros((len(texts), len(splits.labels)), dtype=np.float32)
        if texts:
            probabilities[:, columns] = model.predict_proba(texts)
        return probabilities

    return score
