"""What traffic teaches about time and length: seconds to the first token, seconds per token, tokens per answer.

Running means over finished requests, in this process only; lost at a restart, because they are relearned in minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.context import RouteRecord

# The last hundred or so answers count; a server that becomes slow shows within a minute of traffic.
WEIGHT = 0.02
LEAST_ANSWERS = 20
LEAST_SPEEDS = 3
FORGET_S = 60.0
"""Old news of speed says nothing: who was late and therefore gets no requests would never be asked again."""


class _Mean:
    """A mean that forgets: plain at first, exponential once `1 / WEIGHT` values are in."""

    __slots__ = ("at", "count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = self.at = 0.0

    def add(self, value: float, at: float = 0.0) -> None:
        self.count = 1 if at - self.at > FORGET_S else self.count + 1
        self.at = at
        self.value += (value - self.value) * max(WEIGHT, 1 / self.count)


class Pace:
    """Lengths by domain, speeds by expert. Both names come from configuration and classifier, so it stays small.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lengths: dict[str, _Mean] = {}
        self._first: dict[str, _Mean] = {}
        self._per_token: dict[str, _Mean] = {}
        self._plain_per_token: dict[str, _Mean] = {}

    def note(self, record: RouteRecord, answers: int = 1) -> None:
        """Learn from one finished request; failed ones teach nothing.

        Args:
            record: what became of it.
            answers: how many it asked for; they are made at the same time.
        """
        if record.chosen is None or record.status != 200 or record.error is not None or not record.output_tokens:
            return
        # What a strategy made of several calls is no expert's own pace, nor is what the cache gave again.
        if record.calls > 1 or record.extra_output_tokens or record.cached:
            return
        tokens = record.output_tokens / max(1, answers)
        if record.domain is not None:
            self._lengths.setdefault(record.domain, _Mean()).add(tokens)
        if record.attempts > 1 or record.resumed:
            return  # The time that others took is not this expert's.
        now, first = self._clock(), record.time_to_first_byte_s
        if record.stream and first is not None:
            self._first.setdefault(record.chosen, _Mean()).add(first - record.overhead_s, now)
            self._per_token.setdefault(record.chosen, _Mean()).add((record.duration_s - first) / tokens, now)
        elif not record.stream:
            spent = record.duration_s - record.overhead_s
            self._plain_per_token.setdefault(record.chosen, _Mean()).add(spent / tokens, now)

    def completion_tokens(self, domain: str | None, otherwise: float) -> float:
        """Return the typical length of an answer in a domain, `otherwise` until enough were seen."""
        seen = self._lengths.get(domain) if domain is not None else None
        return seen.value if seen is not None and seen.count >= LEAST_ANSWERS else otherwise

    def latency_s(self, expert: str, completion_tokens: float, *, stream: bool) -> float | None:
        """Return the expected seconds to an expert's first token (streams) or whole answer; None while not known."""
        first = self._known(self._first.get(expert))
        if stream:
            return first
        plain, per_token = (self._known(means.get(expert)) for means in (self._plain_per_token, self._per_token))
        if plain is not None:
            return completion_tokens * plain
        return None if first is None or per_token is None else first + completion_tokens * per_token

    def _known(self, mean: _Mean | None) -> float | None:
        if mean is None or mean.count < LEAST_SPEEDS or self._clock() - mean.at > FORGET_S:
            return None
        return mean.value
