"""Takes over a changed configuration while the gateway runs: read, check, swap. A wrong one changes nothing.

A changed file is read once it has been left alone for a moment, and what was read counts only if nothing changed
meanwhile: a half-written file, or an old file beside a new one, is never used. Files are looked at by their paths again
and again, because notifications are lost on network file systems and on links that are swapped.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

import structlog

from gateway.filestamps import Stamp, stamps
from gateway.generation import UNUSABLE, Plan
from gateway.limiting import in_same_place
from gateway.settings import Settings
from gateway.settings_file import ConfigError, Problem, load
from gateway.state import Gateway

log = structlog.get_logger(__name__)

EVERY_S = 1.0
TRIES = 5
PAUSE_S = 0.05
# Of `server`: set up once, before the first request, as are whole sections.
NEED_RESTART = ("host", "port", "workers", "log_level")
FIXED_SECTIONS = ("records", "admin")


class Outcome(StrEnum):
    """What became of one attempt: the metric's label and the log's word."""

    APPLIED = "applied"
    """New requests get the new configuration."""
    INVALID = "invalid"
    """Something is wrong with it; the one in use stays."""
    UNCHANGED = "unchanged"
    """It says what the one in use says."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of one attempt.

    Attributes:
        outcome: the word for it.
        version: of the configuration in use now.
        problems: what is wrong with the new one, a line each, with file and line where they are known.
        need_restart: settings that have changed, but will only count after a restart.
    """

    outcome: Outcome
    version: str
    problems: tuple[str, ...] = ()
    need_restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where the configuration comes from.

    Attributes:
        path: the file.
        adjust: puts over it what the command line says.
    """

    path: Path
    adjust: Callable[[Settings], Settings] = lambda settings: settings

    def load(self) -> Settings:
        """Read and check the file.

        Raises:
            ConfigError: see `settings_file.load`.
        """
        return self.adjust(load(self.path))


@dataclass(frozen=True, slots=True)
class _Read:
    """A configuration as read, with what tells it from another: settings, tables' digests, artifacts' stamps."""

    planned: Plan
    content: tuple[Settings, tuple[bytes | None, ...], tuple[Stamp, ...]]
    need_restart: tuple[str, ...]


class Reloader:
    """Watches the files of an open gateway; an async context manager.

    Args:
        gateway: whose configuration it is.
        source: where it comes from.
        every_s: time between two looks; a change is taken over after one to two of them.

    Attributes:
        source: the same.
        last: what became of the last attempt, and when (UTC); None before the first.
    """

    def __init__(self, gateway: Gateway, source: ConfigSource, *, every_s: float = EVERY_S) -> None:
        self._gateway = gateway
        self.source = source
        self.last: tuple[datetime, Reload] | None = None
        self._every_s = every_s
        self._lock = asyncio.Lock()
        self._asked = asyncio.Event()
        self._content = _content(gateway.settings)
        self._watched = (source.path, *_tables(gateway.settings), *_artifacts(gateway.settings))
        self._tried = stamps(self._watched)
        self._unrest: tuple[Stamp, ...] | None = None
        self._task: asyncio.Task[None] | None = None
        for outcome in Outcome:
            gateway.metrics.reloads.labels(outcome.value)

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop watching; an attempt under way is given up."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def ask(self) -> None:
        """Have the files read soon, changed or not: for signal handlers. Many calls may become one attempt."""
        self._asked.set()

    async def reload(self, trigger: str) -> Reload:
        """Read the files now and use what they say, if it is good. One at a time; what is read last counts.

        Args:
            trigger: who wants it, for the log.
        """
        async with self._lock:
            result = await self._attempt()
        self.last = datetime.now(UTC), result
        self._gateway.metrics.reloads.labels(result.outcome.value).inc()
        told = {"trigger": trigger, "file": str(self.source.path), "version": result.version}
        if result.outcome is not Outcome.UNCHANGED:
            self._gateway.event("config", outcome=result.outcome.value, version=result.version, trigger=trigger)
        if result.outcome is Outcome.INVALID:
            log.error("config_invalid", problems=result.problems, **told)
        elif result.outcome is Outcome.APPLIED:
            log.info("config_applied", **told)
        else:
            log.info("config_unchanged", **told)
        if result.need_restart:
            log.warning("config_needs_restart", settings=result.need_restart)
        return result

    async def _attempt(self) -> Reload:
        try:
            read = await asyncio.to_thread(self._read)
            changed = read.content != self._content
            if changed:
                await self._gateway.switch(read.planned)
                self._content = read.content
        except ConfigError as error:
            return self._invalid(*error.lines())
        except UNUSABLE as error:
            return self._invalid(f"{self.source.path}: {error}")
        except Exception as error:  # a defect of ours must not end the watching
            log.error("config_reload_failed", exc_info=error)
            return self._invalid(f"{self.source.path}: {type(error).__name__}")
        outcome = Outcome.APPLIED if changed else Outcome.UNCHANGED
        return Reload(outcome, self._gateway.catalog.version, need_restart=read.need_restart)

    def _invalid(self, *problems: str) -> Reload:
        return Reload(Outcome.INVALID, self._gateway.catalog.version, problems)

    def _read(self) -> _Read:
        """Read and check everything, again while something changes under our hands. Runs in a thread.

        Raises:
            ConfigError: the file is wrong.
            generation.UNUSABLE: what it names cannot be used.
        """
        for _ in range(TRIES):
            self._watched = (self.source.path,)
            self._tried = stamps(self._watched)
            try:
                return self._read_once()
            except (ConfigError, *UNUSABLE):
                if self._is_quiet():
                    raise
            time.sleep(PAUSE_S)
        raise self._restless()

    def _read_once(self) -> _Read:
        settings, need_restart = self._keep_fixed(self.source.load())
        files = (*_tables(settings), *_artifacts(settings))
        self._watched, self._tried = (*self._watched, *files), (*self._tried, *stamps(files))
        planned, content = self._gateway.plan(settings), _content(settings)
        if not self._is_quiet():
            raise self._restless()
        return _Read(planned, content, need_restart)

    def _restless(self) -> ConfigError:
        return ConfigError(str(self.source.path), [Problem(0, "", "changes while it is read")])

    def _is_quiet(self) -> bool:
        return stamps(self._watched) == self._tried

    def _keep_fixed(self, settings: Settings) -> tuple[Settings, tuple[str, ...]]:
        """Return the settings with those of the running server where only a restart changes them, and their names."""
        running = self._gateway.settings.server
        fixed = {name: getattr(running, name) for name in NEED_RESTART}
        differ = [f"server.{name}" for name in fixed if getattr(settings.server, name) != fixed[name]]
        sections = {name: getattr(self._gateway.settings, name) for name in FIXED_SECTIONS}
        differ += [name for name, section in sections.items() if getattr(settings, name) != section]
        server = settings.server.model_copy(update=fixed)
        quotas, elsewhere = in_same_place(settings.quotas, self._gateway.settings.quotas)
        kept = {"server": server, "quotas": quotas, **sections}
        return settings.model_copy(update=kept), (*differ, *elsewhere)

    async def _watch(self) -> None:
        while not self._gateway.draining:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._asked.wait()
            except TimeoutError:
                if await self._has_changed():
                    await self.reload("watch")
            else:
                self._asked.clear()
                await self.reload("signal")

    async def _has_changed(self) -> bool:
        """Tell whether the files differ from what was tried last, and have been left alone since the last look."""
        async with self._lock:
            seen = await asyncio.to_thread(stamps, self._watched)
        before, self._unrest = self._unrest, None if seen == self._tried else seen
        return seen != self._tried and seen == before


def _tables(settings: Settings) -> tuple[Path, ...]:
    """Return the quality tables and the files of cells beside them."""
    named = (settings.policy.quality_table, settings.canary.quality_table if settings.canary else None)
    tables = [Path(path) for path in named if path is not None]
    return (*tables, *(table.with_name(table.name.removesuffix(".csv") + ".cells.npz") for table in tables))


def _artifacts(settings: Settings) -> tuple[Path, ...]:
    named = (settings.router.artifact, settings.canary.artifact if settings.canary else None)
    return tuple(Path(path) for path in named if path is not None)


def _content(settings: Settings) -> tuple[Settings, tuple[bytes | None, ...], tuple[Stamp, ...]]:
    return settings, tuple(map(_digest, _tables(settings))), stamps(_artifacts(settings))


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
