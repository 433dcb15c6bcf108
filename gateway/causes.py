"""Remembers whose requests failed at a server lately, to tell a bad server from a bad request. Judges neither."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MOST = 64


class Cause(NamedTuple):
    """What a request was that failed.

    Attributes:
        key: the caller's name; empty where callers have no keys.
        request: stands for what was asked: the same for the same request.
    """

    key: str
    request: int


def cause_of(key: str, body: bytes) -> Cause:
    """Return a request's cause; of a long body only length and end count, which is where conversations differ."""
    return Cause(key, hash((len(body), body[-2048:])))


class Causes:
    """The causes of the last failures, at most `MOST`.

    Args:
        window_s: how long one counts.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._known: deque[tuple[float, Cause | None]] = deque(maxlen=MOST)

    def note(self, cause: Cause | None, now: float) -> None:
        """Note a failure; None: no request alone can have caused it."""
        self._known.append((now, cause))

    def independent(self, enough: int, now: float) -> bool:
        """Tell whether the failures are more than one caller's doing.

        That is so when two keys met them; among callers without keys, who cannot be told apart, when `enough` different
        requests did.
        """
        recent = {cause for at, cause in self._known if now - at < self._window_s}
        known = {cause for cause in recent if cause is not None}
        keys = {cause.key for cause in known}
        return len(known) < len(recent) or len(keys) > 1 or (keys == {""} and len(known) >= enough)
