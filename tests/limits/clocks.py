"""A clock that stands still until it is moved, and limits that go by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.limits.accounts import Accounts
from gateway.limits.calendar import Calendar
from gateway.limits.limits import Limits
from gateway.settings.quotas import QuotaSettings

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()


@dataclass
class Clock:
    """Both clocks: `mono` for intervals, `wall` for days."""

    mono: float = 1_000.0
    wall: float = NOON

    def pass_s(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


def limits_of(clock: Clock, hold_s: float = 900.0, **settings: Any) -> Limits:
    accounts = Accounts(Calendar(lambda: clock.wall), lambda: clock.mono, hold_s=hold_s)
    return Limits(QuotaSettings.model_validate(settings), accounts=accounts)
