"""Which requests are meant, as conditions on a row of records that both databases understand. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LATEST_US = 2**62
NOTHING = "-"
"""As a value it means: requests that have none."""

EQUAL = (
    *("domain", "chosen", "decided", "reason", "key", "policy", "endpoint", "variant", "error", "unpriced"),
    *("strategy", "finish", "conversation", "catalog_version"),
)
RANGES = ("confidence", "margin", "out_of_domain", "input_tokens")
_TRIED = "EXISTS (SELECT 1 FROM attempt WHERE attempt.at_us = scanned.at_us AND attempt.id = scanned.id AND {} = ?)"


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which requests are meant; None and empty mean all.

    Attributes:
        since_us: from when on, microseconds since the epoch.
        until_us: before when.
        domain, chosen, ..., catalog_version: equal to this; `NOTHING`: has none.
        status: exactly this one.
        status_class: first digit of the status, 1 to 5.
        stream: whether a stream was wanted.
        failed_over: whether a try failed before the one that answered.
        not_chosen: somebody answered, and not this expert.
        expert_tried: one of the tries was at this expert.
        upstream: one of the tries was at this server.
        ids: one of these.
        ..._from: at least so much.
        ..._below: less than this.
    """

    since_us: int = 0
    until_us: int = LATEST_US
    domain: str | None = None
    chosen: str | None = None
    decided: str | None = None
    reason: str | None = None
    key: str | None = None
    policy: str | None = None
    endpoint: str | None = None
    variant: str | None = None
    error: str | None = None
    unpriced: str | None = None
    strategy: str | None = None
    finish: str | None = None
    conversation: str | None = None
    catalog_version: str | None = None
    status: int | None = None
    status_class: int | None = None
    stream: bool | None = None
    failed_over: bool | None = None
    not_chosen: str | None = None
    expert_tried: str | None = None
    upstream: str | None = None
    ids: tuple[str, ...] | None = None
    confidence_from: float | None = None
    confidence_below: float | None = None
    margin_from: float | None = None
    margin_below: float | None = None
    out_of_domain_from: float | None = None
    out_of_domain_below: float | None = None
    input_tokens_from: int | None = None
    input_tokens_below: int | None = None

    @property
    def asks_tries(self) -> bool:
        """Tell whether every row's tries have to be looked at: that takes longer."""
        return self.expert_tried is not None or self.upstream is not None

    @property
    def looked_at(self) -> set[str]:
        """Return the columns, time and id apart, that the condition is on."""
        found = {name for name in EQUAL if getattr(self, name) is not None}
        found |= {name for name in RANGES for end in ("from", "below") if getattr(self, f"{name}_{end}") is not None}
        others = {
            "status": (self.status, self.status_class),
            "stream": (self.stream,),
            "attempts": (self.failed_over,),
            "calls": (self.failed_over,),
            "chosen": (self.not_chosen,),
        }
        return found | {name for name, values in others.items() if any(value is not None for value in values)}

    def conditions(self) -> tuple[str, list[Any]]:
        """Return the condition on a row of `scanned` apart from its time, and its parameters."""
        found = [*self._equal(), *self._ranges(), *self._others()]
        return " AND ".join(text for text, _ in found) or "1 = 1", [value for _, values in found for value in values]

    def _equal(self) -> list[tuple[str, list[Any]]]:
        given = [(name, value) for name in EQUAL if (value := getattr(self, name)) is not None]
        return [(f"{name} IS NULL", []) if value == NOTHING else (f"{name} = ?", [value]) for name, value in given]

    def _ranges(self) -> list[tuple[str, list[Any]]]:
        signs = {"from": ">=", "below": "<"}
        bounds = [
            (f"{name} {sign} ?", getattr(self, f"{name}_{end}")) for name in RANGES for end, sign in signs.items()
        ]
        return [(text, [value]) for text, value in bounds if value is not None]

    def _others(self) -> list[tuple[str, list[Any]]]:
        found: list[tuple[str, list[Any]]] = []
        if self.status is not None:
            found.append(("status = ?", [self.status]))
        if self.status_class is not None:
            found.append(("status >= ? AND status < ?", [self.status_class * 100, self.status_class * 100 + 100]))
        if self.stream is not None:
            found.append(("stream = ?", [int(self.stream)]))
        if self.failed_over is not None:
            found.append((f"attempts {'>' if self.failed_over else '<='} calls", []))
        if self.not_chosen is not None:
            found.append(("chosen <> ?", [self.not_chosen]))
        if self.expert_tried is not None:
            found.append((_TRIED.format("attempt.expert"), [self.expert_tried]))
        if self.upstream is not None:
            found.append((_TRIED.format("attempt.upstream"), [self.upstream]))
        if self.ids is not None:
            found.append((f"id IN ({', '.join('?' * len(self.ids))})" if self.ids else "1 = 0", list(self.ids)))
        return found
