"""Read arrays of an artifact; never unpickles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.errors import ArtifactError
from router.scores import FloatArray


def load_arrays(folder: Path, name: str) -> dict[str, FloatArray]:
    """Return the arrays of an npz file as float32; `ArtifactError` when it cannot be read."""
    try:
        return {key: array.astype(np.float32) for key, array in load_npz(folder, name).items()}
    except ValueError as error:
        raise ArtifactError(folder, f"{name} holds something else than numbers: {error}") from error


def load_npz(folder: Path, name: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an npz file as they are; `ArtifactError` when it cannot be read."""
    try:
        with np.load(folder / name, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(folder, f"{name} cannot be read: {error}") from error
