"""Score prompts with an int8 encoder on ONNX Runtime and a linear head in numpy; no torch, no padding.

The graph maps token ids (1, length) to the mean-pooled embedding; the head stays outside, so that a head can be
refitted without touching the encoder. Prompts run one by one on purpose: int8 activations are scaled per call, so
in a shared batch a prompt's probabilities would depend on its neighbours, and on one core a batch of eight saves
almost nothing. One prompt therefore always gets the same answer, whatever else is being scored.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from router.artifact import Card
from router.errors import ArtifactError, ScorerError
from router.scores import FloatArray
from router.tokens import PromptTokenizer

NAME: Final = "onnx"
MODEL: Final = "model.int8.onnx"
TOKENIZER: Final = "tokenizer.json"
HEAD: Final = "head.npz"
FILES: Final = (MODEL, TOKENIZER, HEAD)

_RUN_ERRORS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.RuntimeException,
    ort_state.NotImplemented,
)
_LOAD_ERRORS: Final[tuple[type[Exception], ...]] = (
    *_RUN_ERRORS,
    ScorerError,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
)


class Backend:
    """An encoder session and its head; see `router.scores.Scorer` for the contract."""

    def __init__(self, folder: Path, card: Card, *, threads: int = 1) -> None:
        missing = [name for name in FILES if name not in card.files]
        if missing:
            raise ArtifactError(folder, f"card lists no {', '.join(missing)}")
        self.labels = card.labels
        self.version = card.version
        self._weights, self._bias = _load_head(folder, card)
        try:
            self._tokenizer = PromptTokenizer(folder / TOKENIZER, card.max_tokens)
        except Exception as error:  # the tokenizers library raises exactly that
            raise ArtifactError(folder, f"{TOKENIZER} cannot be read") from error
        try:
            self._session = _open_session(folder / MODEL, threads)
            self.score(("warm-up",))
        except _LOAD_ERRORS as error:
            raise ArtifactError(folder, f"{MODEL} cannot be run: {error}") from error

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Score each text against every domain.

        Args:
            texts: n texts that went through `extract`; long ones keep head and tail.

        Returns:
            float32 (n, k), rows sum to 1.

        Raises:
            ScorerError: the model could not run or gave numbers that are not finite.
        """
        logits = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for row, text in enumerate(texts):
            logits[row] = self._embed(text) @ self._weights + self._bias
        if not np.isfinite(logits).all():
            raise ScorerError("the classifier gave numbers that are not finite")
        return _softmax(logits)

    def _embed(self, text: str) -> FloatArray:
        ids = np.asarray([self._tokenizer.encode(text)], dtype=np.int64)
        try:
            embedding: FloatArray = self._session.run(None, {"input_ids": ids})[0][0]
        except _RUN_ERRORS as error:
            raise ScorerError(f"the classifier could not run: {type(error).__name__}") from error
        return embedding


def _open_session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would steal the core the gateway's event loop runs on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _load_head(folder: Path, card: Card) -> tuple[FloatArray, FloatArray]:
    """Return weights (width, k) and bias (k,), both already divided by the temperature."""
    try:
        with np.load(folder / HEAD, allow_pickle=False) as arrays:
            weights, bias = arrays["weights"].astype(np.float32), arrays["bias"].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(folder, f"{HEAD} cannot be read: {error}") from error
    if weights.ndim != 2 or weights.shape[1] != len(card.labels) or bias.shape != (len(card.labels),):
        raise ArtifactError(folder, f"{HEAD} does not fit {len(card.labels)} labels")
    return weights / np.float32(card.temperature), bias / np.float32(card.temperature)


def _softmax(logits: FloatArray) -> FloatArray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: FloatArray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
