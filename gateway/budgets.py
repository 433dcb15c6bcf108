"""What keys may still spend, as eligibility and refusals ask for it. Counts and answers; refuses nobody.

A view of the accounts that `limits` keeps. Whoever reserves there must not `note` here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.callers import Grant
from gateway.limits.accounts import Accounts
from gateway.limits.calendar import Calendar, utc_now
from gateway.limits.contract import DAY_S as DAY_S
from gateway.limits.contract import Terms, nanos_of
from gateway.limits.limits import Limits
from gateway.settings.quotas import QuotaSettings


class Budgets:
    """Money by key, day and month (UTC).

    Args:
        clock: seconds since the epoch, where no limits are given.
        limits: whose accounts these are; None: of its own, in this process.
    """

    def __init__(self, clock: Callable[[], float] = utc_now, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits(QuotaSettings(), accounts=Accounts(Calendar(clock)))

    def note(self, key: str, cost: float | None) -> None:
        """Count what a key has spent without a reservation."""
        if cost:
            self._limits.accounts.spend(Terms(f"key:{key}"), nanos_of(cost))

    def left(self, grant: Grant) -> float | None:
        """Return what a key may still spend, never below 0; None without a budget."""
        return self._limits.left(grant)

    def thrifty(self, grant: Grant) -> bool:
        """Tell whether a key has used so much of its budget that its requests go to the cheapest expert."""
        return self._limits.thrifty(grant)

    def full(self) -> frozenset[str]:
        """Return the experts whose own limits would refuse the smallest request now."""
        return self._limits.full_experts()

    def resets_in_s(self, grant: Grant | None = None) -> int:
        """Return the seconds until the key has money again, at least 1; of the day's budget without a key."""
        if grant is not None:
            return self._limits.resets_in_s(grant)
        calendar = self._limits.accounts.calendar
        calendar.turn()
        return math.ceil(calendar.day_left_s())
