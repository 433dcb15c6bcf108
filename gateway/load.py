"""Reads what a server says of its load on its page of metrics. Asks nobody.

The page and not ORCA's `endpoint-load-metrics` header: vLLM sends that with plain answers only, not with streams, and
writes a line into its log each time.

Source: vLLM 0.32, `entrypoints/serve/utils/orca_metrics.py`; the gauges it reports are those read here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

MOST_WAITING = 1e6

_WAITING, _USAGE = "num_requests_waiting", "kv_cache_usage_perc"
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


def from_metrics(page: bytes, now: float) -> Load | None:
    """Read a page of metrics; None when it has none of vLLM's gauges.

    A server with several engines has a row for each: their queues add up, of the caches the fullest counts.
    """
    return _load([(name.decode(), value.decode("ascii", "replace")) for name, value in _GAUGE.findall(page)], now)


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
