"""What a tier says of one prompt; the tiers differ in everything else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from router.scores import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One prompt as a tier saw it.

    Attributes:
        embedding: float32 (d,), of length 1, for out-of-domain scores, added domains and topics.
        logits: float32 (k,), uncalibrated.
        readable: 0 to 1, how likely the transformer tier can read the prompt's language.
        logits_without_head: float32 (k,), of the prompt without its first tokens; None when it is too short for that.
    """

    embedding: FloatArray
    logits: FloatArray
    logits_without_head: FloatArray | None = None
    readable: float = 1.0


class Tier(Protocol):
    """One model of an artifact."""

    @property
    def name(self) -> str:
        """The tier's name in scores and figures."""

    def read(self, text: str) -> Reading:
        """Read one routing text of any length; `ScorerError` when the model fails."""


def unit(embedding: FloatArray) -> FloatArray:
    """Return the embedding (d,) scaled to length 1."""
    length = math.sqrt(float(embedding @ embedding))
    scaled: FloatArray = embedding / np.float32(max(length, 1e-9))
    return scaled
