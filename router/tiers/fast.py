"""The fast tier: a multilingual sentence encoder of token embeddings and a small convolution, and its head.

The encoder looks at five tokens at a time and sums what belongs to the ask; the prompt without its first tokens costs
one more pass of the last layers only; how far the two differ shows prefixes that try to steer. One int8 graph does all
of it: in float32 the head alone would take longer than the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import sentencepiece

from router.artifact import Card
from router.errors import ArtifactError, ScorerError
from router.scores import FloatArray
from router.tiers.arrays import load_arrays
from router.tiers.reading import Reading, unit
from router.tiers.session import Graph
from router.tiers.table import RowFile

NAME: Final = "fast"
PIECES: Final = "pieces.model"
TABLE: Final = "table.npy"
SCALES: Final = "scales.npz"
GRAPH: Final = "fast.int8.onnx"
FILES: Final = (PIECES, TABLE, SCALES, GRAPH)
OUTPUTS: Final = ("embeddings", "pooled", "logits", "readable")
"""What the graph gives; an encoder without a head gives the first two."""

MAX_TOKENS: Final = 256
"""Longer prompts keep three quarters of it from their beginning and one from their end."""
BEGIN_ID: Final = 1
END_ID: Final = 2
HEAD_TOKENS: Final = 24
"""Tokens that are left out of the second look."""
SHORTEST_TAIL: Final = 8
"""Prompts with fewer tokens than this after `HEAD_TOKENS` get no second look."""
_CHARS_PER_TOKEN: Final = 16
_MOST_CAPITALS: Final = 0.25


class FastEncoder:
    """Text to features, without a head: also what training and added domains embed with."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / PIECES))
        except (OSError, RuntimeError) as error:
            raise ArtifactError(folder, f"{PIECES} cannot be read") from error
        try:
            self._table = RowFile(folder / TABLE)
        except (OSError, ValueError) as error:
            raise ArtifactError(folder, f"{TABLE} cannot be read: {error}") from error
        scales = load_arrays(folder, SCALES)
        self._scale, self._offset = scales["scale"], scales["offset"]
        if not self._table.shape[0] == len(self._scale) == len(self._offset) == self._pieces.vocab_size():
            raise ArtifactError(folder, f"{TABLE}, {SCALES} and {PIECES} do not fit one another")
        self._graph = Graph(folder / GRAPH, threads)

    def tokens(self, text: str) -> list[int]:
        """Return at most `MAX_TOKENS` ids, begin and end marks included."""
        limit = MAX_TOKENS * _CHARS_PER_TOKEN
        if len(text) > limit:
            text = f"{text[: limit - limit // 4]} {text[-(limit // 4) :]}"
        ids = self.pieces(text)
        room = MAX_TOKENS - 2
        if len(ids) > room:
            ids = ids[: room - room // 4] + ids[-(room // 4) :]
        return [BEGIN_ID, *ids, END_ID]

    def pieces(self, text: str) -> list[int]:
        """Return the ids of a whole text, without marks."""
        ids: list[int] = self._pieces.encode(_calm(text).encode("utf-8", "ignore").decode("utf-8"))
        return ids

    def rows(self, ids: list[int]) -> FloatArray:
        """Return the embeddings (t, 512) of the tokens."""
        index = np.asarray(ids)
        rows: FloatArray = self._table.rows(ids) * self._scale[index, None] + self._offset[index, None]
        return rows

    def encode(self, ids: list[int]) -> tuple[FloatArray, FloatArray]:
        """Return embeddings (2, d) and pooled features (2, p): of the whole prompt, and without its first tokens."""
        embeddings, pooled = self.outputs(ids, OUTPUTS[:2])
        return embeddings, pooled

    def outputs(self, ids: list[int], names: Sequence[str]) -> list[FloatArray]:
        """Return some of `OUTPUTS`, two rows each: of the whole prompt, and without its first tokens."""
        skip = HEAD_TOKENS if self.has_tail(ids) else 0
        return self._graph.run({"rows": self.rows(ids), "skip": np.asarray([skip], dtype=np.int64)}, names)

    def embed(self, text: str) -> FloatArray:
        """Return the embedding (d,), of length 1, of one routing text."""
        return unit(self.encode(self.tokens(text))[0][0])

    def has_tail(self, ids: list[int]) -> bool:
        """Tell whether enough is left of a prompt without its first tokens."""
        return len(ids) >= HEAD_TOKENS + SHORTEST_TAIL


def _calm(text: str) -> str:
    """Return text typed in capitals, or in random case, in lower case: the vocabulary knows few such words."""
    capitals = sum(map(str.isupper, text))
    return text.lower() if capitals > _MOST_CAPITALS * len(text) else text


class FastTier:
    """See `router.tiers.reading.Tier`."""

    name = NAME

    def __init__(self, folder: Path, card: Card, *, threads: int) -> None:
        self.encoder = FastEncoder(folder, threads=threads)
        try:
            _, logits, readable = self._outputs([BEGIN_ID, END_ID])
        except ScorerError as error:
            raise ArtifactError(folder, f"{GRAPH} cannot be run: {error}") from error
        if logits.shape != (2, len(card.base_labels)) or readable.shape != (2, 1):
            raise ArtifactError(folder, f"{GRAPH} does not answer for {len(card.base_labels)} labels")

    def read(self, text: str) -> Reading:
        """Embed and rate the text, with and without its first tokens."""
        ids = self.encoder.tokens(text)
        embeddings, logits, readable = self._outputs(ids)
        without_head = logits[1] if self.encoder.has_tail(ids) else None
        return Reading(unit(embeddings[0]), logits[0], without_head, float(readable[0, 0]))

    def _outputs(self, ids: list[int]) -> list[FloatArray]:
        return self.encoder.outputs(ids, (OUTPUTS[0], *OUTPUTS[2:]))
