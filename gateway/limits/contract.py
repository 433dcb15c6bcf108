"""What limits are, in values: terms, shortages, standings, and the two stores behind them. Counts nothing.

Requests and tokens go by GCRA, kept as a level that drains: a bucket of one minute's amount, drained by `limit / 60` a
second. Chosen over sliding windows because it is one number and one time by limit, a correction is one addition, and
its "time until full again" is what OpenAI's `x-ratelimit-reset-*` say. What it allows: after a quiet minute the whole
amount at once and, while that drains, as much again, so at most twice the limit within any 60 seconds, and never more
than the limit a minute on average. (A sliding window of two counters has the same worst case.)

Money is counted by UTC day and calendar month in whole billionths, so that sums are exact. It is charged as estimated
before the request and corrected afterwards: a process that dies has charged too much, never too little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

MINUTE_S = 60.0
DAY_S = 86_400
NANOS = 1_000_000_000
MOST_NANOS = 10**15
"""A million of any currency: more in one request is a defect of a server, and sums must fit into 64 bits."""
MOST_BUDGET_NANOS = 10**18
MOST_TOKENS = 10**10


class Kind(StrEnum):
    """What a limit counts; also the word in messages and metrics."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"
    DAY = "day"
    MONTH = "month"


MONEY = frozenset({Kind.DAY, Kind.MONTH})


@dataclass(frozen=True, slots=True)
class Terms:
    """How much one key, or one expert, may use; None is not limited.

    Attributes:
        scope: `key:NAME` or `expert:NAME`.
        requests: by minute.
        tokens: by minute.
        concurrent: at once.
        day: billionths of the currency by UTC day.
        month: the same by calendar month.
        limited: whether any of these is set.
        money: whether a budget is.
    """

    scope: str
    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None
    day: int | None = None
    month: int | None = None
    limited: bool = False
    money: bool = False

    @classmethod
    def of(
        cls,
        scope: str,
        requests: int | None = None,
        tokens: int | None = None,
        concurrent: int | None = None,
        daily_budget: float | None = None,
        monthly_budget: float | None = None,
    ) -> Terms:
        """Return terms with budgets in whole units of the currency."""
        day = None if daily_budget is None else nanos_of(daily_budget, MOST_BUDGET_NANOS)
        month = None if monthly_budget is None else nanos_of(monthly_budget, MOST_BUDGET_NANOS)
        limits = (requests, tokens, concurrent, day, month)
        money = day is not None or month is not None
        return cls(scope, *limits, limited=any(limit is not None for limit in limits), money=money)


class Shortage(NamedTuple):
    """The limit that a request does not fit.

    Attributes:
        scope: whose.
        kind: which.
        limit: the limit; billionths for money.
        wait_s: seconds until the request would fit if nothing else came; None: never, it alone is over the limit.
    """

    scope: str
    kind: Kind
    limit: int
    wait_s: float | None


class Standing(NamedTuple):
    """How a key stands with one of its limits by minute.

    Attributes:
        kind: `requests` or `tokens`.
        limit: the limit.
        remaining: what is left, never below 0.
        reset_s: seconds until all of it is there again.
    """

    kind: Kind
    limit: int
    remaining: int
    reset_s: float


class Spent(NamedTuple):
    """Money of one key or expert, in billionths."""

    scope: str
    day: int
    month: int


class SpendingStore(Protocol):
    """Keeps money over a restart, and shares it between the processes that use the same store."""

    async def open(self, day: int) -> Sequence[Spent]:
        """Return everybody's money of a day (days since the epoch) and of its month.

        Raises:
            OSError, RuntimeError: the store cannot be used.
        """
        ...

    async def exchange(self, spent: Mapping[tuple[str, int], int], day: int) -> Sequence[Spent]:
        """Add what was spent by scope and day, all or nothing; return whose money changed since the last call.

        Raises:
            OSError, RuntimeError: nothing was added.
        """
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...


def nanos_of(money: float | None, most: int = MOST_NANOS) -> int:
    """Return money in billionths, rounded; what is unknown, negative or not a number is nothing."""
    if money is None or not money > 0:
        return 0
    return most if money >= most / NANOS else round(money * NANOS)


def tokens_of(tokens: float | None) -> int:
    """Return a count of tokens within bounds; what is unknown, negative or not a number is none."""
    if tokens is None or not tokens > 0:
        return 0
    return MOST_TOKENS if tokens >= MOST_TOKENS else math.ceil(tokens)


def wait_for(kind: Kind, limit: int, level: float, amount: float, day_s: float, month_s: float) -> float | None:
    """Return how long a request that does not fit has to wait.

    Args:
        kind: of the limit.
        limit: the limit.
        level: what is used of it.
        amount: what the request wants.
        day_s: seconds to the next day.
        month_s: seconds to the next month.

    Returns:
        Seconds; None where waiting does not help.
    """
    if amount > limit:
        return None
    if kind is Kind.CONCURRENT:
        return 1.0
    if kind in MONEY:
        return day_s if kind is Kind.DAY else month_s
    return (level + amount - limit) / limit * MINUTE_S
