"""Open and run ONNX graphs the same way in every tier; knows nothing of prompts or domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from router.errors import ArtifactError, ScorerError

_RUN_ERRORS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    ValueError,  # a graph whose inputs have other names
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.RuntimeException,
    ort_state.NotImplemented,
)
_LOAD_ERRORS: Final[tuple[type[Exception], ...]] = (
    *_RUN_ERRORS,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
)


class Graph:
    """One ONNX graph on the CPU; safe to share between threads.

    Args:
        file: the graph, inside an artifact folder.
        threads: threads one run may use.

    Raises:
        ArtifactError: it cannot be loaded.
    """

    def __init__(self, file: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would steal the core the gateway's event loop runs on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except _LOAD_ERRORS as error:
            raise ArtifactError(file.parent, f"{file.name} cannot be run: {error}") from error

    def run(self, inputs: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> list[Any]:
        """Return the named outputs, all when None; what others need alone is not computed.

        Raises:
            ScorerError: the graph fails, or has no such output.
        """
        try:
            outputs: list[Any] = self._session.run(names, dict(inputs))
        except _RUN_ERRORS as error:
            raise ScorerError(f"the classifier could not run: {type(error).__name__}") from error
        return outputs
