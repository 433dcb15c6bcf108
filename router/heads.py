"""The small network between a tier's features and its logits; plain numpy, so that a head can be refitted alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from router.scores import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Standardise, one hidden layer with ReLU, logits; without a hidden layer it is a linear head.

    Attributes:
        mean: (f,) subtracted from the features.
        scale: (f,) the centred features are multiplied by it.
        hidden: (f, h) weights of the hidden layer, None for a linear head.
        hidden_bias: (h,), None for a linear head.
        weights: (h, k) or (f, k).
        bias: (k,).
    """

    mean: FloatArray
    scale: FloatArray
    hidden: FloatArray | None
    hidden_bias: FloatArray | None
    weights: FloatArray
    bias: FloatArray

    def standardised(self, features: FloatArray) -> FloatArray:
        """Return features (n, f) as `logits` takes them."""
        scaled: FloatArray = (features - self.mean) * self.scale
        return scaled

    def logits(self, standardised: FloatArray) -> FloatArray:
        """Return logits (n, k) of standardised features (n, f)."""
        x = standardised
        if self.hidden is not None and self.hidden_bias is not None:
            x = np.maximum(x @ self.hidden + self.hidden_bias, np.float32(0))
        result: FloatArray = x @ self.weights + self.bias
        return result

    def as_arrays(self) -> dict[str, FloatArray]:
        """Return the arrays for an npz file."""
        arrays = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        if self.hidden is not None and self.hidden_bias is not None:
            arrays |= {"hidden": self.hidden, "hidden_bias": self.hidden_bias}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], labels: int) -> Self:
        """Read what `as_arrays` wrote, for `labels` domains.

        Raises:
            KeyError: an array is missing.
            ValueError: the shapes do not fit one another or the number of labels.
        """
        hidden = arrays.get("hidden")
        head = cls(
            mean=arrays["mean"],
            scale=arrays["scale"],
            hidden=hidden,
            hidden_bias=None if hidden is None else arrays["hidden_bias"],
            weights=arrays["weights"],
            bias=arrays["bias"],
        )
        features = (1, len(head.mean))
        if head.logits(np.zeros(features, dtype=np.float32)).shape != (1, labels):
            raise ValueError(f"the head does not answer for {labels} labels")
        return head


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities (n, k) of logits (n, k)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
