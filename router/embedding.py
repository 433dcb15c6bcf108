"""Classifiers that also embed prompts, which added domains need; which model does it is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from router.artifact import DEFAULT, SHIPPED, artifact_folder, load_scorer
from router.errors import ArtifactError
from router.explanation import Topics
from router.scores import FloatArray, Scorer


@runtime_checkable
class EmbeddingScorer(Scorer, Protocol):
    """A scorer whose first tier shows its embeddings."""

    @property
    def topics(self) -> Topics | None:
        """Training topics in the space of the embeddings, None when the artifact has none."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (n, d), rows of length 1, of n routing texts; `ScorerError` when the model fails."""


def is_shipped(folder: Path) -> bool:
    """Tell whether a folder is the artifact that comes with the package, under whatever name."""
    return folder.resolve() == SHIPPED.resolve()


def load_embedding_scorer(artifact: str | Path = DEFAULT, *, threads: int = 1) -> EmbeddingScorer:
    """Load a classifier that embeds; `ArtifactError` when it cannot be loaded or does not embed."""
    scorer = load_scorer(artifact, threads=threads)
    if not isinstance(scorer, EmbeddingScorer):
        raise ArtifactError(artifact_folder(artifact), "its backend shows no embeddings")
    return scorer
