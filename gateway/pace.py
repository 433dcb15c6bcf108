"""What traffic teaches about time and length: seconds to the first token, seconds per token, tokens per answer.

Running means over finished requests, in this process only; lost at a restart, because they are relearned in minutes.
"""

from __future__ import annotations

from gateway.context import RouteRecord

# The last hundred or so answers count; a server that becomes slow shows within a minute of traffic.
WEIGHT = 0.02
LEAST_ANSWERS = 20


class _Mean:
    """A mean that forgets: plain at first, exponential once `1 / WEIGHT` values are in."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) * max(WEIGHT, 1 / self.count)


class Pace:
    """Lengths by domain, speeds by expert. Both names come from configuration and classifier, so it stays small."""

    def __init__(self) -> None:
        self._lengths: dict[str, _Mean] = {}
        self._first: dict[str, _Mean] = {}
        self._per_token: dict[str, _Mean] = {}

    def note(self, record: RouteRecord) -> None:
        """Learn from one finished request; failed ones teach nothing."""
        if record.chosen is None or record.status != 200 or record.error is not None or not record.output_tokens:
            return
        # What a strategy made of several calls is no expert's own pace, nor is what the cache gave again.
        if record.calls > 1 or record.extra_output_tokens or record.cached:
            return
        tokens = record.output_tokens
        if record.domain is not None:
            self._lengths.setdefault(record.domain, _Mean()).add(tokens)
        first = record.time_to_first_byte_s
        if record.stream and first is not None:
            self._first.setdefault(record.chosen, _Mean()).add(first)
            spent = record.duration_s - first
        else:
            spent = record.duration_s
        self._per_token.setdefault(record.chosen, _Mean()).add(spent / tokens)

    def completion_tokens(self, domain: str | None, otherwise: float) -> float:
        """Return the typical length of an answer in a domain, `otherwise` until enough were seen."""
        seen = self._lengths.get(domain) if domain is not None else None
        return seen.value if seen is not None and seen.count >= LEAST_ANSWERS else otherwise

    def latency_s(self, expert: str, completion_tokens: float, *, stream: bool) -> float | None:
        """Return the expected seconds to an expert's first token (streams) or whole answer; None until it is known."""
        first, per_token = self._first.get(expert), self._per_token.get(expert)
        if stream:
            return None if first is None else first.value
        return None if per_token is None else (first.value if first else 0.0) + completion_tokens * per_token.value
