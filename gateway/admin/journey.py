"""Lays a stored request out in time: what it waited for, one stage after the other. Asks no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a request's time.

    Attributes:
        name: what happened.
        start_s: since the request's first byte.
        took_s: how long it took.
        note: what else there is to say.
        kind: `own`: the gateway's doing; `expert`: an expert's; `failed`: a try that failed; `client`: the client's.
    """

    name: str
    start_s: float
    took_s: float
    note: str = ""
    kind: str = "own"

    @property
    def end_s(self) -> float:
        """Return when it was over, since the request's first byte."""
        return self.start_s + self.took_s


def stages(row: Row, tries: Sequence[Row] = ()) -> list[Stage]:
    """Return the stages in the order of time; what was not stored is left out."""
    total, received = row.get("duration_s"), row.get("receive_s")
    if total is None:
        return []
    found = [] if received is None else [Stage("received", 0.0, received, "until the body was there", "client")]
    sent_at = (received or 0.0) + (row.get("overhead_s") or 0.0)
    found += _decided(row, received or 0.0, sent_at)
    found += [_tried(one) for one in tries if one.get("began_s") is not None and one.get("took_s") is not None]
    first = row.get("time_to_first_byte_s")
    if first is not None and total > first:
        tokens = row.get("output_tokens")
        per_token = f", {1000 * (total - first) / tokens:.3g} ms for each token" if tokens else ""
        found.append(Stage("answer sent", first, total - first, f"from the first byte to the end{per_token}", "expert"))
    return sorted(found, key=lambda stage: (stage.start_s, stage.end_s))


def _decided(row: Row, received: float, sent_at: float) -> list[Stage]:
    classify, own = row.get("classify_s"), max(0.0, sent_at - received)
    if not row.get("attempts"):
        return [Stage("decided", received, own, "nothing was sent on")]
    if classify is None:
        return [Stage("decided", received, own, "no classifier was asked")]
    # When within it the classifier ran is not stored; what is before it (parsing, keys) is short.
    classify = min(classify, own)
    return [
        Stage("classified", received, classify, "the classifier, its queue included"),
        Stage("decided", received + classify, own - classify, "parsing, rules, limits"),
    ]


def _tried(one: Row) -> Stage:
    failed = one["outcome"] not in ("ok", "passed")
    name = f"{one['expert']}, try {one['n']}"
    note = f"{one['outcome']}, until the answer was whole or, of a stream, began" if not failed else one["outcome"]
    return Stage(name, one["began_s"], one["took_s"], str(note).replace("_", " "), "failed" if failed else "expert")


def waits(row: Row) -> list[tuple[str, float]]:
    """Return what is part of the tries: waiting for a place at the servers, and connecting; in seconds."""
    named = (("waiting for a place", row.get("queue_s")), ("connecting", row.get("connect_s")))
    return [(name, value) for name, value in named if value is not None]
