"""Reads what a server says of its load: vLLM's response header, or its page of metrics. Asks nobody.

The header is ORCA's `endpoint-load-metrics`; vLLM sends it with plain answers, not with streams, to requests that
have `endpoint-load-metrics-format`. Everything else a server could write there is passed over.

Source: vLLM 0.32, `entrypoints/serve/utils/orca_metrics.py`; its two gauges have the same names in `/metrics`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

HEADER = "endpoint-load-metrics"
ASKING = ("endpoint-load-metrics-format", "json")
LONGEST_HEADER = 4_096
MOST_WAITING = 1e6

_WAITING, _USAGE = "num_requests_waiting", "kv_cache_usage_perc"
_TEXT = re.compile(r"named_metrics\.(\w{1,64})=([^,\s]{1,32})")
_GAUGE = re.compile(rb"^vllm:(num_requests_waiting|kv_cache_usage_perc)(?:\{.*\})? +(\S{1,32})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """What a server said.

    Attributes:
        waiting: requests in the server's own queue, whoever sent them.
        usage: share of its KV cache that is in use, 0 to 1.
        told_at: when, in monotonic seconds.
    """

    waiting: float = 0.0
    usage: float = 0.0
    told_at: float = -math.inf


UNKNOWN = Load()


def from_header(value: str | None, now: float) -> Load | None:
    """Read the header in either of its forms; None when it is missing or unreadable."""
    if value is None or len(value) > LONGEST_HEADER:
        return None
    form, _, report = value.partition(" ")
    if form == "JSON":
        return _load(_json_metrics(report), now)
    return _load(_TEXT.findall(report), now) if form == "TEXT" else None


def from_metrics(page: bytes, now: float) -> Load | None:
    """Read a page of metrics; None when it has none of vLLM's gauges.

    A server with several engines has a row for each: their queues add up, of the caches the fullest counts.
    """
    return _load([(name.decode(), value.decode("ascii", "replace")) for name, value in _GAUGE.findall(page)], now)


def _json_metrics(report: str) -> list[tuple[str, object]]:
    try:
        metrics = orjson.loads(report)["named_metrics"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return []
    return list(metrics.items()) if isinstance(metrics, dict) else []


def _load(metrics: Iterable[tuple[str, object]], now: float) -> Load | None:
    waiting, usage = 0.0, 0.0
    known = False
    for name, value in metrics:
        number = _number(value)
        if number is None or name not in (_WAITING, _USAGE):
            continue
        known = True
        if name == _WAITING:
            waiting = min(waiting + number, MOST_WAITING)
        else:
            usage = max(usage, min(number, 1.0))
    return Load(waiting, usage, now) if known else None


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
