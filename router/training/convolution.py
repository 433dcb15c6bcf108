"""The fast tier as a torch module and as an int8 ONNX graph; the weights come from the modules beside this one.

The architecture is that of Universal Sentence Encoder Multilingual 3 (Yang et al., arXiv:1907.04307): token
embeddings, three convolutions of 2, 3 and 5 tokens, a sum over the tokens and a small residual network.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch.nn import functional

from router.heads import Head
from router.scores import FloatArray
from router.tiers.fast import OUTPUTS

WIDTHS: Final = ((2, 0), (3, 1), (5, 2))
"""Tokens each convolution sees, and how many of them stand before its own."""
CHANNELS: Final = 256
OPSET: Final = 17
QUIET: Final = 0.1
"""Weight of the first tokens in the second look: where small talk is all that follows them, the ask still decides."""
LARGEST: Final = 6.0
"""Largest standardised feature, in standard deviations."""


class Convolution(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Token rows (t, 512) to embeddings (2, 512) and pooled features (2, 1280), and logits (2, k) with a head.

    The first row of all is the whole prompt, the second the prompt with its first `skip` tokens turned down to `QUIET`.

    Args:
        weights: the base's arrays.
        relevance: how much each token counts; all the same when None.
        head: what turns features into logits and readability.
    """

    def __init__(self, weights: Mapping[str, FloatArray], relevance: Any = None, head: Any = None) -> None:
        super().__init__()
        self.epsilon = float(weights["eps"])
        for name, array in weights.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(array, dtype=np.float32)))
        self.register_buffer("project", torch.cat([getattr(self, f"proj{width}") for width, _ in WIDTHS], dim=1))
        self.register_buffer("shift", torch.cat([getattr(self, f"proj_b{width}") for width, _ in WIDTHS]))
        self.relevance = relevance
        self.head = head

    @property
    def width(self) -> int:
        """Features of a token."""
        return len(self.ln_g)

    def tokens(self, rows: Any, position: Any) -> Any:
        """Return features (t, 1280) of the tokens."""
        projected = rows @ self.project + self.shift
        features = [rows]
        for index, (width, before) in enumerate(WIDTHS):
            x = self._norm(projected[:, CHANNELS * index : CHANNELS * (index + 1)], width)
            x = x + functional.relu(self._layer("w1", x, position, width, before))
            features.append(x + functional.relu(self._layer("w2", x, position, width, before)))
        return functional.layer_norm(torch.cat(features, dim=-1), (self.width,), self.ln_g, self.ln_b, self.epsilon)

    def forward(self, rows: Any, skip: Any) -> tuple[Any, ...]:
        """Encode one prompt; `skip` is int64 (1,)."""
        position = positions(rows)
        tokens = self.tokens(rows, position)
        tail = (position >= skip).float()
        kept = torch.cat([torch.ones_like(tail), QUIET + (1 - QUIET) * tail], dim=1)
        if self.relevance is not None:
            kept = kept * self.relevance.weights(tokens, position)
        count = kept.sum(dim=0).unsqueeze(1)
        sums = kept.T @ tokens
        mean = (sums @ self.cnn_W + count * self.cnn_b) / count.sqrt()
        x = functional.relu(mean @ self.p1 + functional.relu(mean @ self.d0) @ self.d1)
        embeddings = torch.tanh(x @ self.p3 + functional.relu(x @ self.d2) @ self.d3)
        pooled = sums / count
        if self.head is None:
            return embeddings, pooled
        return embeddings, pooled, *self.head(torch.cat([embeddings, pooled], dim=-1))

    def _norm(self, x: Any, width: int) -> Any:
        gain, shift = getattr(self, f"ln_g{width}"), getattr(self, f"ln_b{width}")
        return functional.layer_norm(x, (CHANNELS,), gain, shift, self.epsilon)

    def _layer(self, name: str, x: Any, position: Any, width: int, before: int) -> Any:
        weights, bias = getattr(self, f"{name}_{width}"), getattr(self, f"b{name[1]}_{width}")
        return windows(x, position, before, width - 1 - before) @ weights + bias


def positions(x: Any) -> Any:
    """Return 0 to t - 1, int64 (t, 1), for rows (t, f): counted, so that the graph holds no length of its example."""
    return torch.cumsum(torch.ones_like(x[:, :1], dtype=torch.int64), dim=0) - 1


def windows(x: Any, position: Any, before: int, after: int) -> Any:
    """Return rows (t, f) with their neighbours beside them (t, (before + 1 + after) * f), zeros beyond the ends.

    `position` is that of `positions`. One gather instead of a slice per offset: for so few rows the number of
    operators is what costs time.
    """
    padded = functional.pad(x, (0, 0, before, after))
    return padded[position + torch.arange(before + 1 + after)].flatten(1)


class ServedHead(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Features (n, f) to logits (n, k) and readability (n, 1), as `router.heads.Head` computes them.

    Standardised features beyond `LARGEST` are cut off: one of them would take the int8 range from all others.
    """

    def __init__(self, head: Head, reader: FloatArray | None, reader_bias: float) -> None:
        super().__init__()
        for name, array in head.as_arrays().items():
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("reader", None if reader is None else torch.from_numpy(reader).unsqueeze(1))
        self.reader_bias = reader_bias

    def forward(self, features: Any) -> tuple[Any, Any]:
        """Rate the features."""
        x = ((features - self.mean) * self.scale).clamp(-LARGEST, LARGEST)
        readable = torch.ones_like(x[:, :1])
        if self.reader is not None:
            readable = torch.sigmoid(x @ self.reader + self.reader_bias)
        hidden = functional.relu(x @ self.hidden + self.hidden_bias)
        return hidden @ self.weights + self.bias, readable


def export(module: Convolution, path: Path) -> None:
    """Write the module as a graph with int8 products: inputs `rows` and `skip`, outputs as `OUTPUTS` names them."""
    example = (torch.zeros(9, module.project.shape[0]), torch.zeros(1, dtype=torch.int64))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice for people who write exporters
        graph = Path(scratch) / "graph.onnx"
        torch.onnx.export(
            module.eval(),
            example,
            str(graph),
            input_names=["rows", "skip"],
            output_names=list(OUTPUTS if module.head is not None else OUTPUTS[:2]),
            dynamic_axes={"rows": {0: "tokens"}},
            opset_version=OPSET,
            dynamo=False,
        )
        quantize_dynamic(graph, path, weight_type=QuantType.QInt8, per_channel=True)
