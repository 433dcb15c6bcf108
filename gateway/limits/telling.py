"""What callers are told of limits: OpenAI's `x-ratelimit-*` headers and the two refusals. Counts nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gateway.errors import BudgetExhausted, Overloaded, PointsmanError, RateLimited
from gateway.limits.contract import MONEY, Kind, Shortage, Standing

Pairs = tuple[tuple[str, str], ...]

_WORDS = {
    Kind.REQUESTS: "requests per minute",
    Kind.TOKENS: "tokens per minute",
    Kind.CONCURRENT: "requests at once",
    Kind.DAY: "budget for today",
    Kind.MONTH: "budget for this month",
}


def headers(standings: Iterable[Standing]) -> Pairs:
    """Return the headers of a key's limits by minute, in OpenAI's names; only of limits that it has."""
    pairs: list[tuple[str, str]] = []
    for standing in standings:
        kind = standing.kind.value
        pairs += (
            (f"x-ratelimit-limit-{kind}", str(standing.limit)),
            (f"x-ratelimit-remaining-{kind}", str(standing.remaining)),
            (f"x-ratelimit-reset-{kind}", duration(standing.reset_s)),
        )
    return tuple(pairs)


def duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: `120ms`, `1s`, `1.5s`, `6m0s`. Rounded up, so that it is enough."""
    thousandths = max(0, math.ceil(seconds * 1000 - 1e-6))
    if thousandths < 1000:
        return f"{thousandths}ms" if thousandths else "0s"
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def refused(shortage: Shortage, standings: Iterable[Standing]) -> PointsmanError:
    """Return the error of a request that a limit does not let through.

    The SDKs try a 429 again unless `x-should-retry` says not to: sense where the wait is seconds, none where it is the
    rest of a day, or where no wait would be long enough.
    """
    told = list(headers(standings))
    never, money = shortage.wait_s is None, shortage.kind in MONEY
    if shortage.wait_s is not None:
        told.append(("retry-after", str(max(1, math.ceil(shortage.wait_s)))))
    if never or money:
        told.append(("x-should-retry", "false"))
    message = _message(shortage)
    if money:
        return BudgetExhausted(message, headers=tuple(told))
    return RateLimited(message, code="rate_limit_exceeded", headers=tuple(told))


def unavailable() -> PointsmanError:
    """Return the error of a request with a limit that nobody can count at the moment."""
    message = "Limits cannot be counted at the moment; try again."
    return Overloaded(message, code="limits_unavailable", headers=(("retry-after", "1"),))


def _message(shortage: Shortage) -> str:
    owner, _, name = shortage.scope.partition(":")
    whose = f"expert `{name}`" if owner == "expert" else "key"
    what = _WORDS[shortage.kind]
    if shortage.kind in MONEY:
        return f"The request is expected to cost more than is left of the {whose}'s {what}."
    if shortage.wait_s is None:
        return f"The request alone is over the {whose}'s limit of {shortage.limit} {what}."
    return f"The {whose}'s limit of {shortage.limit} {what} is reached."
