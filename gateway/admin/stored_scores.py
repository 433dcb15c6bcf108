"""Stored requests as something that can be decided anew: scores, exclusions, draws. Decides nothing, runs no SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import orjson

from gateway.types import Reason
from router import DomainScores

COLUMNS = (
    *(
        "id",
        "at_us",
        "decided",
        "chosen",
        "reason",
        "policy",
        "domain",
        "confidence",
        "margin",
        "out_of_domain",
        "disagreement",
    ),
    *("scores", "excluded", "prompt_token_estimate", "input_tokens", "output_tokens", "cached_tokens", "extra_cost"),
    *("stream", "cached", "status"),
)

Row = Mapping[str, Any]


def scores_of(row: Row, labels: tuple[str, ...]) -> DomainScores | None:
    """Return what is stored of a request's scores; None when it was not scored, or by domains that are not `labels`.

    The stored domains keep their probabilities and what is left is spread evenly over the others. Without stored
    scores, the second place (confidence less margin) goes to the first other domain: enough for thresholds, not for
    expected quality.
    """
    known = _stored(row)
    if row["domain"] not in labels or not known or any(name not in labels for name in known):
        return None
    if len(known) == 1 and len(labels) > 1 and row["margin"] is not None:
        second = next(label for label in labels if label not in known)
        known[second] = max(0.0, next(iter(known.values())) - float(row["margin"]))
    others = [label for label in labels if label not in known]
    rest = max(0.0, 1.0 - sum(known.values())) / len(others) if others else 0.0
    values = np.array([known.get(label, rest) for label in labels], dtype=np.float32)
    return DomainScores(labels, values, float(row["out_of_domain"] or 0.0), float(row["disagreement"] or 0.0))


def _stored(row: Row) -> dict[str, float]:
    """Return domain to probability, the best first; a list of pairs and an object are both understood."""
    try:
        found = orjson.loads(row.get("scores") or "null")
    except orjson.JSONDecodeError:
        found = None
    pairs = found.items() if isinstance(found, dict) else found if isinstance(found, list) else ()
    try:
        known = {str(name): float(value) for name, value in pairs}
    except (TypeError, ValueError):
        known = {}
    if row["domain"] not in known or not all(isfinite(value) for value in known.values()):
        known = {str(row["domain"]): float(row["confidence"])} if row["confidence"] is not None else {}
    return known


def excluded_of(row: Row) -> dict[str, str]:
    """Return which experts could not take a request then, and why, in words of `Reason`."""
    excluded = row["excluded"]
    try:
        found = orjson.loads(excluded) if isinstance(excluded, str) else excluded
    except orjson.JSONDecodeError:
        return {}
    known = {reason.value for reason in Reason}
    return {name: why for name, why in found.items() if why in known} if isinstance(found, dict) else {}


def draw_of(request_id: str) -> float:
    """Return a number 0 to 1 that is the same for the same request: the session's own is not stored."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:4]) / 2**32


def rows_of(values: Mapping[str, Sequence[Any]], count: int) -> Iterator[Row]:
    """Return columns as rows; columns that are not there are None."""
    missing: dict[str, None] = dict.fromkeys(name for name in COLUMNS if name not in values)
    names = [name for name in COLUMNS if name in values]
    for place in range(count):
        yield {**missing, **{name: values[name][place] for name in names}}
