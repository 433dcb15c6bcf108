"""What a request says about its own routing, in headers. Read strictly: a control that cannot be read is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SESSION = re.compile(r"[\x21-\x7e]{1,256}")


@dataclass(frozen=True, slots=True)
class Controls:
    """Controls of one request.

    Attributes:
        policy: `x-pointsman-policy`, the policy that decides.
        strategy: `x-pointsman-strategy`, the strategy that answers; `none` turns the configured one off.
        session: `x-session-id`, the caller's own name of the conversation.
        price_cap: `x-pointsman-max-cost`, most that the request may be expected to cost, in the catalog's currency.
        latency_s: `x-pointsman-max-latency-ms`, the latency objective, here in seconds.
    """

    policy: str | None = None
    strategy: str | None = None
    session: str | None = None
    price_cap: float | None = None
    latency_s: float | None = None


NONE = Controls()
_HEADERS = frozenset(
    {
        b"x-pointsman-policy",
        b"x-pointsman-strategy",
        b"x-session-id",
        b"x-pointsman-max-cost",
        b"x-pointsman-max-latency-ms",
    }
)


def read_controls(headers: Mapping[bytes, bytes]) -> Controls:
    """Read the controls.

    Raises:
        InvalidRequest: one of them cannot be understood; the message names the header.
    """
    if headers.keys().isdisjoint(_HEADERS):
        return NONE
    latency_ms = _number(headers, "x-pointsman-max-latency-ms")
    return Controls(
        policy=_text(headers, "x-pointsman-policy", _NAME),
        strategy=_text(headers, "x-pointsman-strategy", _NAME),
        session=_text(headers, "x-session-id", _SESSION),
        price_cap=_number(headers, "x-pointsman-max-cost"),
        latency_s=None if latency_ms is None else latency_ms / 1000,
    )


def _text(headers: Mapping[bytes, bytes], name: str, form: re.Pattern[str]) -> str | None:
    value = headers.get(name.encode(), b"").decode("latin-1").strip()
    if not value:
        return None
    if not form.fullmatch(value):
        raise InvalidRequest(f"The header `{name}` is not acceptable.", code="invalid_header")
    return value


def _number(headers: Mapping[bytes, bytes], name: str) -> float | None:
    value = headers.get(name.encode(), b"").decode("latin-1").strip()
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InvalidRequest(f"The header `{name}` must be a number that is not negative.", code="invalid_header")
    return number
