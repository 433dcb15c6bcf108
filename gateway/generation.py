"""One configuration, planned and running: all that can be wrong with it is found before anything of it is used.

A running request keeps the generation it began with; the last one to end lets go of it. Swaps nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway import catalog as catalogs
from gateway import grants, language
from gateway.answering import Answering
from gateway.cache import CachedAnswering
from gateway.dispatch import Dispatcher
from gateway.errors import PointsmanError
from gateway.grants import OpenDoor, SameKey
from gateway.health import Fleet
from gateway.pipeline import Pipeline
from gateway.scorers import Loaded, Scorers
from gateway.scoring import AsyncScorer
from gateway.settings import MissingSecret, Settings
from gateway.stores.keys.choosing import check_key_store
from gateway.stores.sqlite import StoreError
from gateway.thresholds import UnknownDomain, check_domains, thresholds_of
from gateway.types import Catalog, Grant
from gateway.variants import load_table
from router import RouterError

if TYPE_CHECKING:
    from router import QualityTable

UNUSABLE = (RouterError, MissingSecret, SameKey, OpenDoor, UnknownDomain, StoreError)
"""Why a configuration that is well-formed cannot be used; the message says what to change."""


class Stoppable(Protocol):
    """A running request."""

    def stop(self, error: PointsmanError) -> None:
        """End it with this error."""
        ...


class Running:
    """The requests that use one generation. For the event loop only."""

    def __init__(self) -> None:
        self._requests: set[Stoppable] = set()
        self._ended: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._requests)

    def begin(self, request: Stoppable) -> None:
        """Count a request."""
        self._requests.add(request)

    def end(self, request: Stoppable) -> None:
        """Count it no more."""
        self._requests.discard(request)
        if self._ended is not None and not self._requests:
            self._ended.set()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the generation for the block, which nobody stops."""
        bystander = _Bystander()
        self.begin(bystander)
        try:
            yield
        finally:
            self.end(bystander)

    def stop(self, error: Callable[[], PointsmanError]) -> None:
        """End all requests, each with an error of its own."""
        for request in tuple(self._requests):
            request.stop(error())

    async def wait(self, limit_s: float) -> bool:
        """Wait until no request is left; False when some are after `limit_s`."""
        self._ended = asyncio.Event()
        if not self._requests:
            return True
        try:
            async with asyncio.timeout(limit_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True


class _Bystander:
    def stop(self, error: PointsmanError) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration that was checked, with everything it names read. Nothing of it runs yet."""

    settings: Settings
    catalog: Catalog
    grants: Mapping[bytes, Grant]
    scorer: Loaded
    table: QualityTable | None
    canary: Loaded | None
    canary_table: QualityTable | None


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """All that follows from one configuration.

    Attributes:
        cached: answers from the cache where it may; None while the cache is off.
        running: the requests that use it.
        resources: what has to be closed after the last of them.
    """

    settings: Settings
    catalog: Catalog
    grants: Mapping[bytes, Grant]
    fleet: Fleet
    scorer: AsyncScorer
    pipeline: Pipeline
    dispatcher: Dispatcher
    answering: Answering
    cached: CachedAnswering | None
    running: Running
    resources: AsyncExitStack


def plan(settings: Settings, scorers: Scorers) -> Plan:
    """Check a configuration against everything outside of it: environment, artifacts, quality tables.

    Reads files and may load a classifier: on a running gateway, call it in a thread.

    Raises:
        MissingSecret: an environment variable that the settings name is not set.
        SameKey: two of the callers' keys are the same.
        OpenDoor: there are no keys and the address is public.
        StoreError: the store of keys cannot be used.
        UnknownDomain: the settings name a domain that the classifier does not have.
        router.ArtifactError: an artifact cannot be used.
        router.QualityError: a quality table cannot be used.
    """
    grants.refuse_open_door(settings)
    check_key_store(settings.key_store)
    catalog, granted = catalogs.build(settings), grants.build(settings)
    loaded = scorers.live(settings.router)
    _check(settings, loaded)
    table = load_table(settings.policy.quality_table, catalog, loaded.scorer)
    canary, canary_table = _canary(settings, catalog, scorers, loaded)
    if any(expert.languages for expert in catalog.experts.values()):
        language.prepare()
    return Plan(settings, catalog, granted, loaded, table, canary, canary_table)


def _canary(
    settings: Settings, catalog: Catalog, scorers: Scorers, live: Loaded
) -> tuple[Loaded | None, QualityTable | None]:
    canary = settings.canary
    if canary is None:
        return None, None
    loaded = live
    if canary.artifact is not None:
        loaded = scorers.load(canary.artifact, settings.router.threads)
        _check(settings, loaded)
    path = canary.quality_table or settings.policy.quality_table
    return loaded, load_table(path, catalog, loaded.scorer)


def _check(settings: Settings, loaded: Loaded) -> None:
    labels = loaded.scorer.labels
    thresholds_of(settings.router, labels, loaded.scorer.thresholds)
    check_domains("strategies.domains", settings.strategies.domains, labels)
