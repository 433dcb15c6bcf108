"""Answers from the cache where it may, else lets others answer and keeps what is whole. Decides and sends nothing.

Comes after the decision, because the expert is part of the key: a request that would now go to another expert does not
get the former one's answer. What is kept is what the upstream sent, so that a stream given again goes through the same
relay as a new one, with or without the usage chunk as each client wants it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.answers import Held, Opened, Stream
from gateway.cache.rules import Bypass, Wish, cacheable, key_of, scope_of
from gateway.cache.store import Entry, ResponseCache
from gateway.cache.whole import is_whole
from gateway.errors import PointsmanError
from gateway.openai import ApiRequest
from gateway.settings.cache import CacheSettings
from gateway.types import Reason

if TYPE_CHECKING:
    from gateway.context import RequestContext
    from gateway.cutoff import Cutoff

BLOCK_BYTES = 16 * 1024
"""A stream given again is written in pieces of this size, so that a slow reader does not get all of it at once."""


class Outcome(StrEnum):
    """What the cache had to do with an answer."""

    HIT = "hit"
    """It comes from the cache."""
    MISS = "miss"
    """It was asked for and not there, or `cache-control` wanted a new one."""
    BYPASS = "bypass"
    """The request is not cacheable, or said `no-store`."""


class Use(NamedTuple):
    """What became of a request in the cache.

    Attributes:
        outcome: of these three.
        age_s: of a hit, how old the answer is.
        why: of a bypass, its reason.
    """

    outcome: Outcome
    age_s: int | None = None
    why: Bypass | None = None


def cache_headers(outcome: str | None, age_s: int | None) -> list[tuple[bytes, bytes]]:
    """Return what the client is told: `x-pointsman-cache`, and of a hit `age` (RFC 9111, 5.1); nothing without a cache.

    Args:
        outcome: an `Outcome`; None while the cache is off.
        age_s: seconds since the answer was made.
    """
    if outcome is None:
        return []
    headers = [(b"x-pointsman-cache", outcome.encode())]
    return headers if age_s is None else [*headers, (b"age", b"%d" % age_s)]


class Answers(Protocol):
    """Who answers what the cache cannot; `answering.Answering` is that."""

    def open(
        self, request: ApiRequest, context: RequestContext, cutoff: Cutoff, asked: str | None
    ) -> Awaitable[Opened]:
        """Return the answer, ready to be sent; see `Answering.open`."""
        ...

    def is_strategic(self, request: ApiRequest, context: RequestContext, asked: str | None) -> bool:
        """Tell whether a strategy makes the answer."""
        ...


class CachedAnswering:
    """Answers decided requests, from memory where it may. One per configuration; the cache outlives it.

    Args:
        settings: the section `cache`.
        cache: the process's answers.
        answers: who answers the rest.
    """

    def __init__(self, settings: CacheSettings, cache: ResponseCache, answers: Answers) -> None:
        self._settings = settings
        self._cache = cache
        self._answers = answers

    async def open(
        self, request: ApiRequest, context: RequestContext, cutoff: Cutoff, asked: str | None, wish: Wish
    ) -> tuple[Opened, Use]:
        """Return the answer, ready to be sent, and what the cache had to do with it.

        Args:
            request: what the client sent.
            context: has the decision; takes what became of it.
            cutoff: ends the waiting.
            asked: value of `x-pointsman-strategy`.
            wish: what `cache-control` says.

        Raises:
            InvalidRequest, UpstreamError, ClientLeft: as `Answering.open`.
        """
        key = self._key(request, context, asked, wish)
        if isinstance(key, Bypass):
            return await self._answers.open(request, context, cutoff, asked), Use(Outcome.BYPASS, why=key)
        entry = self._cache.look(key, wish.max_age_s) if wish.look else None
        if entry is not None:
            return _replay(entry, request, context), Use(Outcome.HIT, self._cache.age_s(entry))
        opened = await self._answers.open(request, context, cutoff, asked)
        return self._kept(key, opened, context), Use(Outcome.MISS)

    def _key(self, request: ApiRequest, context: RequestContext, asked: str | None, wish: Wish) -> bytes | Bypass:
        decision = context.decision
        assert decision is not None, "not decided"
        if not wish.keep:
            return Bypass.NO_STORE
        why = cacheable(request)
        if why is not None:
            return why
        if self._answers.is_strategic(request, context, asked):
            return Bypass.STRATEGY
        scope, pinned = scope_of(self._settings, context.grant), decision.reason is Reason.PINNED
        return key_of(scope, request, decision.expert, context.catalog.version, pinned=pinned) or Bypass.TOO_LONG

    def _kept(self, key: bytes, opened: Opened, context: RequestContext) -> Opened:
        """Keep a plain answer; have a stream kept once it has ended well."""
        decision = context.decision
        if opened.status != 200 or decision is None or context.chosen != decision.expert.name:
            # An error, or a fallback's answer, which the expert itself would not have given.
            return opened

        def keep(body: bytes) -> None:
            if is_whole(body, stream=opened.stream is not None):
                usage = replace(context.usage)
                self._cache.keep(key, Entry(opened.content_type, body, usage, context.rewrite))

        if opened.stream is None:
            keep(opened.first)
            return opened
        recorded = _Recorded(opened.stream, opened.lease, self._cache, keep)
        recorded.add(opened.first)
        return replace(opened, stream=recorded, lease=recorded)


def _replay(entry: Entry, request: ApiRequest, context: RequestContext) -> Opened:
    """Return a kept answer as if it had just been opened, and note in the context what a dispatcher would."""
    assert context.decision is not None
    context.chosen, context.rewrite = context.decision.expert.name, entry.rewrite
    context.usage, context.dispatched = replace(entry.usage), time.perf_counter()
    if not request.stream:
        return Opened(200, entry.content_type, entry.body, _NothingHeld())
    stream = _Replayed(entry.body)
    return Opened(200, entry.content_type, stream.next_block(), _NothingHeld(), stream)


class _NothingHeld:
    def close(self) -> None:
        pass

    def ended(self, error: PointsmanError | None) -> None:
        pass


class _Replayed:
    """A stream that is all here."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    async def read_chunk(self) -> bytes:
        return self.next_block()

    def next_block(self) -> bytes:
        block = self._body[self._at : self._at + BLOCK_BYTES]
        self._at += len(block)
        return block


class _Recorded:
    """A stream and its lease, copied as they go by; what is not whole at the end, or too long, is thrown away.

    Args:
        stream: the upstream's.
        lease: the open request there.
        cache: lends the memory.
        keep: takes the whole stream when it has ended well.
    """

    def __init__(self, stream: Stream, lease: Held, cache: ResponseCache, keep: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._lease = lease
        self._cache = cache
        self._keep = keep
        self._seen: bytearray | None = bytearray()

    def add(self, chunk: bytes) -> None:
        seen = self._seen
        if seen is None:
            return
        if len(seen) + len(chunk) > self._cache.answer_limit() or not self._cache.lend(len(chunk)):
            self._forget()
        else:
            seen += chunk

    async def read_chunk(self) -> bytes:
        chunk = await self._stream.read_chunk()
        self.add(chunk)
        return chunk

    def ended(self, error: PointsmanError | None) -> None:
        seen = self._seen
        self._forget()
        if error is None and seen:
            self._keep(bytes(seen))
        self._lease.ended(error)

    def close(self) -> None:
        self._forget()
        self._lease.close()

    def _forget(self) -> None:
        if self._seen is not None:
            self._cache.give_back(len(self._seen))
            self._seen = None
