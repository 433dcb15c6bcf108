"""Rows of the token table, read from its file as they are needed.

A memory map would count every page it ever touched, with its neighbours, as the process's memory (68 MB here after some
thousand prompts); a read of 512 bytes from the page cache takes under a microsecond and keeps nothing.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """A two-dimensional uint8 array in an npy file; safe to share between threads.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no such array, or shorter than it says.
    """

    def __init__(self, file: Path) -> None:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"npy version {version}")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            self._start = stream.tell()
        if len(shape) != 2 or fortran or dtype != np.uint8:
            raise ValueError(f"expected rows of uint8, found {dtype} of shape {shape}")
        if file.stat().st_size < self._start + shape[0] * shape[1]:
            raise ValueError("the file is cut short")
        self.shape: tuple[int, int] = (shape[0], shape[1])
        self._descriptor = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def rows(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the rows (n, width) of these indices."""
        descriptor, start, width = self._descriptor, self._start, self.shape[1]
        content = b"".join([os.pread(descriptor, width, start + index * width) for index in indices])
        return np.frombuffer(content, dtype=np.uint8).reshape(len(indices), width)
