"""The fast tier's encoder as a torch module and as an int8 ONNX graph; the weights come from `router.training.base`.

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

from router.scores import FloatArray

WIDTHS: Final = ((2, 0), (3, 1), (5, 2))
"""Tokens each convolution sees, and how many of them stand before its own."""
CHANNELS: Final = 256
OPSET: Final = 17


class Convolution(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Token rows (t, 512) to embeddings (2, 512) and pooled features (2, 1280).

    The first row of both is the whole prompt, the second the prompt without its first `skip` tokens.
    """

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        super().__init__()
        self.epsilon = float(weights["eps"])
        for name, array in weights.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(array, dtype=np.float32)))
        self.register_buffer("project", torch.cat([getattr(self, f"proj{width}") for width, _ in WIDTHS], dim=1))
        self.register_buffer("shift", torch.cat([getattr(self, f"proj_b{width}") for width, _ in WIDTHS]))

    def forward(self, rows: Any, skip: Any) -> tuple[Any, Any]:
        """Encode one prompt; `skip` is int64 (1,)."""
        projected = rows @ self.project + self.shift
        features = [rows]
        for index, (width, before) in enumerate(WIDTHS):
            x = self._norm(projected[:, CHANNELS * index : CHANNELS * (index + 1)], width)
            x = x + functional.relu(self._layer("w1", x, width, before))
            features.append(x + functional.relu(self._layer("w2", x, width, before)))
        size = (len(self.ln_g),)
        tokens = functional.layer_norm(torch.cat(features, dim=-1), size, self.ln_g, self.ln_b, self.epsilon)
        # A mask instead of a slice, so that the graph holds no length of the example it was traced with.
        position = torch.cumsum(torch.ones_like(tokens[:, :1]), dim=0) - 1
        kept = torch.cat([torch.ones_like(position), (position >= skip).float()], dim=1)
        count = kept.sum(dim=0).unsqueeze(1)
        sums = kept.T @ tokens
        mean = (sums @ self.cnn_W + count * self.cnn_b) / count.sqrt()
        x = functional.relu(mean @ self.p1 + functional.relu(mean @ self.d0) @ self.d1)
        return torch.tanh(x @ self.p3 + functional.relu(x @ self.d2) @ self.d3), sums / count

    def _norm(self, x: Any, width: int) -> Any:
        gain, shift = getattr(self, f"ln_g{width}"), getattr(self, f"ln_b{width}")
        return functional.layer_norm(x, (CHANNELS,), gain, shift, self.epsilon)

    def _layer(self, name: str, x: Any, width: int, before: int) -> Any:
        padded = functional.pad(x, (0, 0, before, width - 1 - before))
        # Constant ends, counted from the back: computed ones would put fifty more operators into the graph.
        ends = [offset - width + 1 or None for offset in range(width)]
        windows = torch.cat([padded[offset:end] for offset, end in enumerate(ends)], dim=-1)
        weights, bias = getattr(self, f"{name}_{width}"), getattr(self, f"b{name[1]}_{width}")
        return windows @ weights + bias


def export(module: Convolution, path: Path) -> None:
    """Write the module as a graph with int8 products, inputs `rows` and `skip`."""
    example = (torch.zeros(9, module.project.shape[0]), torch.zeros(1, dtype=torch.int64))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice for people who write exporters
        graph = Path(scratch) / "graph.onnx"
        torch.onnx.export(
            module.eval(),
            example,
            str(graph),
            input_names=["rows", "skip"],
            output_names=["embeddings", "pooled"],
            dynamic_axes={"rows": {0: "tokens"}},
            opset_version=OPSET,
            dynamo=False,
        )
        quantize_dynamic(graph, path, weight_type=QuantType.QInt8, per_channel=True)
