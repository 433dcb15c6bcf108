"""The errors callers of this package may meet; no error message ever contains prompt text."""

from __future__ import annotations

from pathlib import Path


class RouterError(Exception):
    """Base of every error this package raises on purpose."""


class ScorerError(RouterError):
    """The model could not score; callers fall back to the generalist."""


class ArtifactError(RouterError):
    """An artifact folder cannot be used; the message names the folder and what is wrong with it."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"artifact {folder}: {problem}")
        self.folder = folder
        self.problem = problem


class DataError(RouterError):
    """Labelled data cannot be read or is not enough to train on; the message names file and line."""


class QualityError(RouterError):
    """A quality table cannot be read, fitted or used; the message says what is wrong and where."""


class MissingExtraError(RouterError):
    """Training was asked for without the training libraries."""

    def __init__(self, library: str) -> None:
        super().__init__(f'{library} is not installed; training needs: pip install "pointsman[train]"')
        self.library = library
