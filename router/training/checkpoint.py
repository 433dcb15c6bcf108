"""Save and restore an interrupted training run; it knows tensors and files, not what is being trained."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
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
        self._recipe = _as_text(recipe)

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


class KeptFile:
    """A finished file, kept beside the checkpoint with the recipe it belongs to.

    Args:
        kept: where it is kept; the recipe stands in a file beside it.
        file: where it is used.
        recipe: what it is made from.
    """

    def __init__(self, kept: Path, file: Path, recipe: Recipe) -> None:
        self._kept, self._file, self._recipe = kept, file, _as_text(recipe)
        self._note = kept.with_name(f"{kept.name}.recipe.json")

    def save(self) -> None:
        """Keep the file; the note comes last, so that half a file is never restored."""
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        self._note.unlink(missing_ok=True)
        shutil.copyfile(self._file, self._kept)
        self._note.write_text(json.dumps(self._recipe), encoding="utf-8")

    def restore(self) -> bool:
        """Put the kept file in its place; False when there is none of this recipe.

        Raises:
            DataError: the note cannot be read.
        """
        if not (self._note.is_file() and self._kept.is_file()):
            return False
        try:
            same = bool(json.loads(self._note.read_text(encoding="utf-8")) == self._recipe)
        except ValueError as error:
            raise DataError(f"{self._note}: not a checkpoint; delete it to start again") from error
        if same:
            shutil.copyfile(self._kept, self._file)
        return same


def _as_text(recipe: Recipe) -> dict[str, str]:
    return {name: str(value) for name, value in dataclasses.asdict(recipe).items()}
