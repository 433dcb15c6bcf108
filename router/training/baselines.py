"""The keyword baseline every trained model must beat; it is measured, never shipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from router.prompts import Prompt
from router.recipe import Recipe
from router.scores import FloatArray
from router.training.sampling import Sampler
from router.training.splits import Splits

_PROMPTS: Final = 24_000
_FEATURES: Final = 60_000


def tfidf_baseline(splits: Splits, recipe: Recipe) -> Callable[[Sequence[Prompt]], FloatArray]:
    """Fit TF-IDF (words and pairs) with logistic regression on the same mixture the encoder trains on.

    Returns:
        A function from n prompts to float32 (n, k), columns as `splits.labels`.
    """
    sampler = Sampler(splits, replace(recipe, batch=_PROMPTS))
    (batch,) = sampler.batches(1, altered=False)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=_FEATURES, sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=200),
    )
    model.fit(batch.texts, batch.targets.argmax(axis=1))
    columns = model.classes_

    def score(prompts: Sequence[Prompt]) -> FloatArray:
        probabilities = np.zeros((len(prompts), len(splits.labels)), dtype=np.float32)
        if prompts:
            probabilities[:, columns] = model.predict_proba([prompt.text for prompt in prompts])
        return probabilities

    return score
