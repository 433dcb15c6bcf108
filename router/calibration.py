"""From the tiers' logits to honest probabilities, with numbers fitted on prompts nothing was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.heads import softmax
from router.scores import FloatArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """How tiers combine.

    The first tier answers alone when it is sure enough, and always for text in a language the second cannot read.

    A shift per domain takes back what the training sources' own shares of domains and styles taught (exam items were
    mostly science). Source of factor and shift: vector scaling, Guo et al., arXiv:1706.04599.

    Attributes:
        first: the first tier's logits are multiplied by it when it answers alone (inverse temperature).
        pair: the factors of the first and the second tier's logits when both answer.
        first_shift: k numbers added after `first`; empty for none.
        pair_shift: k numbers added after `pair`; empty for none.
        hand_over: top probability of the first tier from which the second is not asked.
        least_readable: smallest `Reading.readable` at which the second is asked.
    """

    first: float = 1.0
    pair: tuple[float, float] = (0.5, 0.5)
    hand_over: float = 1.0
    least_readable: float = 0.5
    first_shift: tuple[float, ...] = ()
    pair_shift: tuple[float, ...] = ()

    def alone(self, first: FloatArray) -> FloatArray:
        """Return probabilities (n, k) of the first tier's logits."""
        return softmax(_shifted(first * np.float32(self.first), self.first_shift))

    def together(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Return probabilities (n, k) of both tiers' logits."""
        mixed = first * np.float32(self.pair[0]) + second * np.float32(self.pair[1])
        return softmax(_shifted(mixed, self.pair_shift))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "first": self.first,
            "pair": list(self.pair),
            "hand_over": self.hand_over,
            "least_readable": self.least_readable,
            "first_shift": list(self.first_shift),
            "pair_shift": list(self.pair_shift),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what `as_dict` wrote; KeyError, TypeError or ValueError when it is something else."""
        first, second = (float(factor) for factor in content["pair"])
        calibration = cls(
            float(content["first"]),
            (first, second),
            float(content["hand_over"]),
            float(content["least_readable"]),
            tuple(float(shift) for shift in content["first_shift"]),
            tuple(float(shift) for shift in content["pair_shift"]),
        )
        factors = (calibration.first, first, second)
        if not all(math.isfinite(factor) and factor >= 0 for factor in factors) or calibration.first == 0:
            raise ValueError("calibration factors must be finite and not negative")
        if not all(map(math.isfinite, (*calibration.first_shift, *calibration.pair_shift))):
            raise ValueError("calibration shifts must be finite")
        return calibration


def _shifted(logits: FloatArray, shift: tuple[float, ...]) -> FloatArray:
    return logits + np.asarray(shift, dtype=np.float32) if shift else logits
