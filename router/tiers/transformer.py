"""The transformer tier: an int8 encoder on ONNX Runtime whose mean-pooled embedding goes through a linear head.

Prompts run one by one on purpose: int8 activations are scaled per call, so in a shared batch a prompt's
probabilities would depend on its neighbours, and on one core a batch of eight saves almost nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from router.artifact import Card
from router.errors import ArtifactError
from router.heads import Head
from router.tiers.arrays import load_arrays
from router.tiers.reading import Reading, unit
from router.tiers.session import Graph
from router.tokens import PromptTokenizer

NAME: Final = "transformer"
MODEL: Final = "transformer.int8.onnx"
TOKENIZER: Final = "tokenizer.json"
HEAD: Final = "transformer.npz"
FILES: Final = (MODEL, TOKENIZER, HEAD)


class TransformerTier:
    """See `router.tiers.reading.Tier`."""

    name = NAME

    def __init__(self, folder: Path, card: Card, *, threads: int) -> None:
        self._head = _head(folder, card)
        try:
            self._tokenizer = PromptTokenizer(folder / TOKENIZER, card.max_tokens)
        except Exception as error:  # the tokenizers library raises exactly that
            raise ArtifactError(folder, f"{TOKENIZER} cannot be read") from error
        self._graph = Graph(folder / MODEL, threads)

    def read(self, text: str) -> Reading:
        """Embed the text and rate it; long texts keep head and tail."""
        ids = np.asarray([self._tokenizer.encode(text)], dtype=np.int64)
        embedding = self._graph.run({"input_ids": ids})[0]
        return Reading(unit(embedding[0]), self._head.logits(self._head.standardised(embedding))[0])


def _head(folder: Path, card: Card) -> Head:
    arrays = load_arrays(folder, HEAD)
    try:
        return Head.from_arrays(arrays, len(card.base_labels))
    except (KeyError, ValueError) as error:
        raise ArtifactError(folder, f"{HEAD} does not fit: {error}") from error
