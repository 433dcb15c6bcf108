"""What keys and experts have used, in this process's memory. Reads no settings, raises no error of a request.

For the event loop only: there are no locks, and nothing awaits between looking at all limits and taking from all.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from gateway.limits.calendar import Calendar, first_day, month_of
from gateway.limits.contract import MINUTE_S, Kind, Shortage, Spent, Standing, Terms, wait_for

# Sums of floats: what drains is not exact to the last bit.
SLACK = 1e-6
SWEPT_AT_ONCE = 4
LONGEST_DEBT = 10
"""Minutes that an answer longer than estimated may lock a key for, at most."""


class Account:
    """What one key or expert has used. Levels drain; money is of `day` and `month`, in billionths."""

    __slots__ = ("at", "day", "month", "requests", "running", "scope", "spent_day", "spent_month", "tokens")

    def __init__(self, scope: str, now: float) -> None:
        self.scope = scope
        self.at = now
        self.requests = self.tokens = 0.0
        self.running = self.spent_day = self.spent_month = 0
        self.day = self.month = -1

    def advance(self, terms: Terms, now: float, day: int, month: int) -> None:
        """Drain the levels, and begin a new day or month where there is one."""
        passed = now - self.at
        if passed > 0:
            self.at = now
            if self.requests:
                level = self.requests - passed * (terms.requests or MINUTE_S) / MINUTE_S
                self.requests = level if level > 0 else 0.0
            if self.tokens:
                level = self.tokens - passed * (terms.tokens or MINUTE_S) / MINUTE_S
                self.tokens = level if level > 0 else 0.0
        if day != self.day:
            self.day, self.spent_day = day, 0
            if month != self.month:
                self.month, self.spent_month = month, 0

    def level(self, kind: Kind) -> float:
        """Return what is used of a limit."""
        if kind is Kind.REQUESTS:
            return self.requests
        if kind is Kind.TOKENS:
            return self.tokens
        if kind is Kind.CONCURRENT:
            return self.running
        return self.spent_day if kind is Kind.DAY else self.spent_month

    def idle(self, now: float, month: int) -> bool:
        """Tell whether forgetting it changes nothing."""
        if self.running or (self.spent_month and self.month == month):
            return False
        return now - self.at > MINUTE_S * (LONGEST_DEBT + 1)  # whatever its levels were, they have drained


class Charge:
    """What one request was charged with, to be corrected once."""

    __slots__ = ("accounts", "day", "expires", "nanos", "terms", "tokens")

    def __init__(
        self, terms: Sequence[Terms], accounts: Sequence[Account], tokens: int, nanos: int, day: int, expires: float
    ) -> None:
        self.terms = terms
        self.accounts = accounts
        self.tokens = tokens
        self.nanos = nanos
        self.day = day
        self.expires = expires


class Accounts:
    """All accounts.

    An account that has nothing to remember is forgotten; one with money of this month is not, so there are as many as
    keys that spent something since, about 300 bytes each.

    Args:
        calendar: days and months.
        clock: seconds, monotonic.
        hold_s: after this a request counts as ended, whatever became of it.

    Attributes:
        expired: requests that did not end within `hold_s`.
    """

    def __init__(
        self,
        calendar: Calendar | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        hold_s: float = 900.0,
    ) -> None:
        self.calendar = calendar or Calendar()
        self.clock = clock
        self.hold_s = hold_s
        self.expired = 0
        # Ordered, not plain: looking for the first of a plain one passes all places where one was taken out.
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._running: OrderedDict[Charge, None] = OrderedDict()
        self._unsaved: dict[tuple[str, int], int] | None = None

    def __len__(self) -> int:
        return len(self._accounts)

    @property
    def running(self) -> int:
        """Requests that have not ended."""
        return len(self._running)

    def find(self, terms: Terms) -> Account:
        """Return an account as it stands now."""
        return self._find((terms,))[0]

    def take(self, terms: Sequence[Terms], tokens: int, nanos: int) -> Charge | Shortage:
        """Charge a request with all its limits, or with none when it does not fit one."""
        accounts = self._find(terms)
        self._expire(accounts[0].at)
        short: Shortage | None = None
        for each, account in zip(terms, accounts, strict=True):
            if each.limited:
                short = worse(short, self._shortage(each, account, tokens, nanos))
        return short or self._put(terms, accounts, tokens, nanos)

    def force(self, terms: Sequence[Terms], tokens: int, nanos: int) -> Charge:
        """Charge a request whether it fits or not: another place has admitted it."""
        return self._put(terms, self._find(terms), tokens, nanos)

    def correct(self, charge: Charge, tokens: int, nanos: int) -> None:
        """Charge what a request has used instead of what was estimated, and end it. Once for each charge."""
        more, dearer = tokens - charge.tokens, nanos - charge.nanos
        now = self.clock()
        calendar = self.calendar
        calendar.turn()
        # Those of an expired one have been counted as ended.
        ended = self._running.pop(charge, 1) is None
        for terms, account in zip(charge.terms, charge.accounts, strict=True):
            account.advance(terms, now, calendar.day, calendar.month)
            if ended and account.running:
                account.running -= 1
            if more and terms.tokens is not None:
                account.tokens = min(max(0.0, account.tokens + more), float(LONGEST_DEBT * terms.tokens))
            if dearer:
                self._spend(account, charge.day, dearer)

    def spend(self, terms: Terms, nanos: int) -> None:
        """Count money that no charge stands for."""
        self._spend(self.find(terms), self.calendar.day, nanos)

    def standings(self, terms: Terms) -> tuple[Standing, ...]:
        """Return how a key stands with its limits by minute."""
        account = self.find(terms)
        limits = ((Kind.REQUESTS, terms.requests, account.requests), (Kind.TOKENS, terms.tokens, account.tokens))
        return tuple(
            Standing(kind, limit, max(0, int(limit - level + SLACK)), level / limit * MINUTE_S)
            for kind, limit, level in limits
            if limit is not None
        )

    def shortage(self, terms: Terms, nanos: int) -> Shortage | None:
        """Return which limit a request of one token and so much money would not fit."""
        account = self.find(terms)
        self._expire(account.at)
        return self._shortage(terms, account, 1, nanos)

    def keep_unsaved(self) -> None:
        """Remember from now on what has not been saved; see `unsaved`."""
        self._unsaved = {} if self._unsaved is None else self._unsaved

    def unsaved(self) -> dict[tuple[str, int], int]:
        """Take what was spent since the last call, by scope and day."""
        taken, self._unsaved = self._unsaved or {}, {}
        return taken

    def put_back(self, spent: dict[tuple[str, int], int]) -> None:
        """Take back what could not be saved."""
        for key, nanos in spent.items():
            self._note_unsaved(key, nanos)

    def learn(self, totals: Iterable[Spent], day: int) -> None:
        """Take over what has been saved, by all processes together.

        Args:
            totals: without what is unsaved here.
            day: the day they are of.
        """
        now, month, unsaved = self.clock(), month_of(day), self._unsaved or {}
        self.calendar.turn()
        if day != self.calendar.day:
            return  # midnight has passed meanwhile: the next exchange brings what counts now
        for scope, spent_day, spent_month in totals:
            account = self._accounts.get(scope) or self._open(scope, now)
            today, before = unsaved.get((scope, day), 0), unsaved.get((scope, day - 1), 0)
            account.day, account.month = day, month
            account.spent_day = max(0, spent_day + today)
            account.spent_month = max(0, spent_month + today + (before if first_day(month) < day else 0))

    def _find(self, terms: Sequence[Terms]) -> list[Account]:
        calendar, now, known = self.calendar, self.clock(), self._accounts
        calendar.turn()
        day, month = calendar.day, calendar.month
        found = []
        for each in terms:
            account = known.get(each.scope)
            if account is None:
                account = self._open(each.scope, now)
            account.advance(each, now, day, month)
            found.append(account)
        return found

    def _open(self, scope: str, now: float) -> Account:
        account = self._accounts[scope] = Account(scope, now)
        # A new one pays for looking at a few old ones, the least recently looked at first: no long sweep, no timer.
        for _ in range(min(SWEPT_AT_ONCE, len(self._accounts) - 1)):
            oldest = next(iter(self._accounts))
            if self._accounts[oldest].idle(now, self.calendar.month):
                del self._accounts[oldest]
            else:
                self._accounts.move_to_end(oldest)
        return account

    def _shortage(self, terms: Terms, account: Account, tokens: int, nanos: int) -> Shortage | None:
        short: Shortage | None = None
        if terms.money and nanos:
            if terms.day is not None and account.spent_day + nanos > terms.day:
                short = self._short(terms.scope, Kind.DAY, terms.day, account.spent_day, nanos)
            if terms.month is not None and account.spent_month + nanos > terms.month:
                short = worse(short, self._short(terms.scope, Kind.MONTH, terms.month, account.spent_month, nanos))
        if terms.requests is not None and account.requests + 1 > terms.requests + SLACK:
            short = worse(short, self._short(terms.scope, Kind.REQUESTS, terms.requests, account.requests, 1))
        if terms.tokens is not None and account.tokens + tokens > terms.tokens + SLACK:
            short = worse(short, self._short(terms.scope, Kind.TOKENS, terms.tokens, account.tokens, tokens))
        if terms.concurrent is not None and account.running >= terms.concurrent:
            short = worse(short, self._short(terms.scope, Kind.CONCURRENT, terms.concurrent, account.running, 1))
        return short

    def _short(self, scope: str, kind: Kind, limit: int, level: float, amount: float) -> Shortage:
        calendar = self.calendar
        wait_s = wait_for(kind, limit, level, amount, calendar.day_left_s(), calendar.month_left_s())
        return Shortage(scope, kind, limit, wait_s)

    def _put(self, terms: Sequence[Terms], accounts: Sequence[Account], tokens: int, nanos: int) -> Charge:
        day = self.calendar.day
        for each, account in zip(terms, accounts, strict=True):
            if each.requests is not None:
                account.requests += 1
            if each.tokens is not None:
                account.tokens += tokens
            account.running += 1
            if nanos:
                self._spend(account, day, nanos)
        charge = Charge(terms, accounts, tokens, nanos, day, accounts[0].at + self.hold_s)
        self._running[charge] = None
        return charge

    def _spend(self, account: Account, day: int, nanos: int) -> None:
        """Count money, negative to take some back, for a day that may be over."""
        if day == account.day:
            account.spent_day = max(0, account.spent_day + nanos)
        if day == account.day or month_of(day) == account.month:
            account.spent_month = max(0, account.spent_month + nanos)
        self._note_unsaved((account.scope, day), nanos)

    def _note_unsaved(self, key: tuple[str, int], nanos: int) -> None:
        if self._unsaved is not None:
            self._unsaved[key] = self._unsaved.get(key, 0) + nanos

    def _expire(self, now: float) -> None:
        """Count those as ended that should have long ago. All are held equally long, so the first are the oldest."""
        running = self._running
        while running and (oldest := next(iter(running))).expires <= now:
            del running[oldest]
            self.expired += 1
            for account in oldest.accounts:
                account.running -= 1


def worse(one: Shortage | None, other: Shortage | None) -> Shortage | None:
    """Return the shortage to tell: one that waiting does not help, else the longest wait."""
    if one is None or other is None:
        return one or other
    if one.wait_s is None or other.wait_s is None:
        return one if one.wait_s is None else other
    return one if one.wait_s >= other.wait_s else other
