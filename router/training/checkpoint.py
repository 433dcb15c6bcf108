"""Save and restore an interrupted training run; it knows tensors and a file, not what is being trained."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from router.errors import DataError
from router.recipe import Recipe


class Checkpoint:
    """One file with the weights, the optimiser's state and the recipe they belong to."""

    def __init__(self, file: Path, classifier: Any, optimiser: Any, schedule: Any, recipe: Recipe) -> None:
        self._file = file
        self._parts = {
            "encoder": classifier.encoder,
            "head": classifier.head,
            "optimiser": optimiser,
            "schedule": schedule,
        }
        self._recipe = {name: str(value) for name, value in dataclasses.asdict(recipe).items()}

    def save(self, step: int) -> None:
        """Write the state after `step` steps; a kill while writing leaves the file before it."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._file.with_suffix(".partial")
        states = {name: part.state_dict() for name, part in self._parts.items()}
        torch.save({"step": step, "recipe": self._recipe, **states}, scratch)
        os.replace(scratch, self._file)

    def restore(self) -> int:
        """Load the saved state and return its number of steps; 0 without a file, or with another recipe's.

        Raises:
            DataError: the file cannot be read.
        """
        if not self._file.is_file():
            return 0
        try:
            saved = torch.load(self._file, weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise DataError(f"{self._file}: not a checkpoint; delete it to start again") from error
        if saved["recipe"] != self._recipe:
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        return int(saved["step"])
