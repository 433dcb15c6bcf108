"""The exact response cache: gives answers again that cannot come out otherwise. Guesses nothing similar."""

from __future__ import annotations

from gateway.cache.answering import Answers, CachedAnswering, Outcome, Use, cache_headers
from gateway.cache.rules import Bypass, Wish, cacheable, key_of, scope_of, wish_of
from gateway.cache.store import CacheState, Entry, ResponseCache

__all__ = [
    "Answers",
    "Bypass",
    "CacheState",
    "CachedAnswering",
    "Entry",
    "Outcome",
    "ResponseCache",
    "Use",
    "Wish",
    "cache_headers",
    "cacheable",
    "key_of",
    "scope_of",
    "wish_of",
]
