"""Keeps classifiers loaded while a configuration uses them, so that one in use is not loaded again. Scores nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.filestamps import stamps
from gateway.scoring import AsyncScorer
from gateway.settings import RouterSettings
from router import Scorer, load_scorer

_GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A classifier that is ready to run.

    Attributes:
        key: equal for classifiers that are the same.
        scorer: the classifier.
    """

    key: Hashable
    scorer: Scorer


@dataclass(slots=True)
class _Used:
    running: AsyncScorer
    users: int = 0


class Scorers:
    """All classifiers in use.

    Args:
        given: used instead of the live artifact, whatever the settings name.
    """

    def __init__(self, given: Scorer | None = None) -> None:
        self._given = given
        self._used: dict[Hashable, _Used] = {}

    def live(self, settings: RouterSettings) -> Loaded:
        """Return the classifier of these settings; see `load`."""
        if self._given is not None:
            return Loaded(_GIVEN, self._given)
        return self.load(settings.artifact, settings.threads)

    def load(self, artifact: str, threads: int) -> Loaded:
        """Return an artifact's classifier: the one in use where nothing has changed, else a new one. Reads files.

        Raises:
            router.ArtifactError: the artifact cannot be used.
        """
        key = (artifact, threads, stamps([Path(artifact)]))
        used = self._used.get(key)
        return Loaded(key, used.running.scorer if used else load_scorer(artifact, threads=threads))

    def adjust(self, settings: RouterSettings) -> None:
        """Let all classifiers work within these limits from now on."""
        for used in self._used.values():
            used.running.adjust(
                deadline_s=settings.deadline_s, batch_size=settings.batch_size, queue_size=settings.queue_size
            )

    @asynccontextmanager
    async def use(self, loaded: Loaded, settings: RouterSettings) -> AsyncIterator[AsyncScorer]:
        """Run a classifier, in the thread it has already if others use it. The last user's leaving ends the thread."""
        used = self._used.get(loaded.key)
        if used is None:
            running = AsyncScorer(
                loaded.scorer,
                deadline_s=settings.deadline_s,
                batch_size=settings.batch_size,
                queue_size=settings.queue_size,
            )
            await running.__aenter__()
            used = self._used[loaded.key] = _Used(running)
        used.users += 1
        try:
            yield used.running
        finally:
            used.users -= 1
            if not used.users:
                del self._used[loaded.key]
                await used.running.__aexit__(None, None, None)
