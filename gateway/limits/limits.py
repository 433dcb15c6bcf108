"""Admits requests within the limits of their key and their expert. Chooses no expert and sends nothing.

Counted in this process, or by a Valkey server for several (`valkey`); then the counts here follow what it says, so
that they are a fair beginning when it does not answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from gateway.callers import Grant
from gateway.limits.accounts import Accounts
from gateway.limits.contract import NANOS, Shortage, SpendingStore, Terms, nanos_of, tokens_of
from gateway.limits.keeping import Keeping
from gateway.limits.reservation import Reservation
from gateway.limits.telling import headers, refused, unavailable
from gateway.limits.valkey import Unasked, ValkeyLimits
from gateway.settings.quotas import QuotaSettings, QuotaTerms

REMEMBERED_GRANTS = 4_096
_Amount = TypeVar("_Amount", int, float)


@dataclass(slots=True)
class LimitCounts:
    """What happened so far, for metrics.

    Attributes:
        refused: requests refused, by owner (`key` or `expert`) and kind of limit.
        local: requests with a limit that were admitted without the Valkey server.
        unavailable: requests refused because it did not answer.
    """

    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    local: int = 0
    unavailable: int = 0


class Limits:
    """All limits; an async context manager.

    Args:
        settings: the limits that are not the keys' own.
        store: keeps money over a restart; None: a restart forgets it. Not together with `valkey`.
        valkey: counts for several processes; None: this one counts for itself.
        accounts: the counts of this process.

    Attributes:
        accounts: the counts of this process.
        counts: what happened so far.
    """

    def __init__(
        self,
        settings: QuotaSettings,
        *,
        store: SpendingStore | None = None,
        valkey: ValkeyLimits | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self.accounts = Accounts() if accounts is None else accounts
        self.counts = LimitCounts()
        self.valkey = valkey
        self._keeping = None if store is None else Keeping(self.accounts, store)
        self._by_key: dict[str, tuple[Grant, Terms]] = {}
        self._by_expert: dict[str, Terms] = {}
        self._settings = settings
        self.configure(settings)

    async def __aenter__(self) -> Self:
        """Read what has been spent, reach out for the Valkey server.

        Raises:
            OSError, RuntimeError: the store of money cannot be used. A server that is down is no error.
        """
        if self._keeping is not None:
            await self._keeping.open()
        if self.valkey is not None:
            await self.valkey.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save what was spent, send what has to be settled."""
        if self._keeping is not None:
            await self._keeping.close()
        if self.valkey is not None:
            await self.valkey.close()

    def configure(self, settings: QuotaSettings, hold_s: float | None = None) -> None:
        """Take other limits; what has been used stays. Another `database` or `valkey` needs another `Limits`.

        Args:
            settings: the limits.
            hold_s: after this a request counts as ended; more than a request can take.
        """
        self._settings = settings
        self._by_key.clear()
        self._by_expert = {name: _terms(f"expert:{name}", terms) for name, terms in settings.experts.items()}
        if hold_s is not None:
            self.accounts.hold_s = hold_s

    async def reserve(self, grant: Grant, expert: str, tokens: float, cost: float | None) -> Reservation:
        """Take a request's share of all limits at once, or of none.

        Args:
            grant: the caller's key.
            expert: the chosen expert's name.
            tokens: estimated, prompt and answer.
            cost: estimated; None: not known, which no budget refuses.

        Raises:
            RateLimited: too many requests or tokens in a minute, or requests at once; `retry-after` says when again.
            BudgetExhausted: it is expected to cost more than is left.
            Overloaded: the Valkey server does not answer, and `quotas.valkey.when_down` is `refuse`.
        """
        terms, wanted, nanos = self._terms(grant, expert), tokens_of(tokens), nanos_of(cost)
        if self.valkey is None or not any(each.limited for each in terms):
            return self._local(terms, wanted, nanos)
        return await self._shared(self.valkey, terms, wanted, nanos)

    def limits(self, grant: Grant, expert: str) -> bool:
        """Tell whether anything limits such a request; if not, there is nothing to reserve."""
        return any(each.limited for each in self._terms(grant, expert))

    def check(self, grant: Grant) -> None:
        """Refuse early, before any work, a key that could not send the smallest request now; takes nothing.

        Budgets are left to `reserve`: an expert may cost nothing.

        Raises:
            RateLimited: see `reserve`.
        """
        terms = self.terms_of(grant)
        if not terms.limited:
            return
        short = self.accounts.shortage(terms, 0)
        if short is not None:
            raise self._refused(short, terms)

    def headers(self, grant: Grant) -> tuple[tuple[str, str], ...]:
        """Return the `x-ratelimit-*` headers of an answer that no reservation stands for."""
        terms = self.terms_of(grant)
        return headers(self.accounts.standings(terms)) if terms.limited else ()

    def left(self, grant: Grant) -> float | None:
        """Return what a key may still spend, the less of day and month; None without a budget."""
        terms = self.terms_of(grant)
        if not terms.money:
            return None
        account = self.accounts.find(terms)
        spent = ((terms.day, account.spent_day), (terms.month, account.spent_month))
        return min(max(0, limit - used) for limit, used in spent if limit is not None) / NANOS

    def near(self, grant: Grant) -> float:
        """Return the share of its budget that a key has used, the more of day and month, 0 to 1; 0 without a budget.

        Only money: that is what a cheaper expert saves.
        """
        terms = self.terms_of(grant)
        if not terms.money:
            return 0.0
        account = self.accounts.find(terms)
        spent = ((terms.day, account.spent_day), (terms.month, account.spent_month))
        return max(min(1.0, used / limit) if limit else 1.0 for limit, used in spent if limit is not None)

    def thrifty(self, grant: Grant) -> bool:
        """Tell whether a key has used so much of its budget that its requests go to the cheapest (`downgrade_at`)."""
        at = self._settings.downgrade_at
        return at is not None and self.terms_of(grant).money and self.near(grant) >= at

    def resets_in_s(self, grant: Grant) -> int:
        """Return the seconds until a key has money again, at least 1."""
        terms, calendar = self.terms_of(grant), self.accounts.calendar
        account = self.accounts.find(terms)
        monthly = terms.month is not None and (
            terms.day is None or terms.month - account.spent_month < terms.day - account.spent_day
        )
        return math.ceil(calendar.month_left_s() if monthly else calendar.day_left_s())

    def full_experts(self) -> frozenset[str]:
        """Return the experts whose own limits would refuse the smallest request now, so that others may get it."""
        return frozenset(
            name
            for name, terms in self._by_expert.items()
            if terms.limited and self.accounts.shortage(terms, 1) is not None
        )

    @property
    def expert_terms(self) -> Mapping[str, Terms]:
        """The limits that experts have of their own, by name."""
        return MappingProxyType(self._by_expert)

    def terms_of(self, grant: Grant) -> Terms:
        """Return a key's limits: its own, else the default ones."""
        known = self._by_key.get(grant.name)
        if known is not None and known[0] is grant:
            return known[1]
        if len(self._by_key) >= REMEMBERED_GRANTS:
            self._by_key.clear()
        terms = _terms_of_key(grant, self._settings.default)
        self._by_key[grant.name] = (grant, terms)
        return terms

    def _terms(self, grant: Grant, expert: str) -> tuple[Terms, ...]:
        key, other = self.terms_of(grant), self._by_expert.get(expert)
        return (key,) if other is None else (key, other)

    def _local(
        self, terms: tuple[Terms, ...], tokens: int, nanos: int, elsewhere: Callable[[int, int], None] | None = None
    ) -> Reservation:
        charge = self.accounts.take(terms, tokens, nanos)
        if isinstance(charge, Shortage):
            raise self._refused(charge, terms[0])
        return Reservation(self.accounts, charge, elsewhere)

    async def _shared(self, valkey: ValkeyLimits, terms: tuple[Terms, ...], tokens: int, nanos: int) -> Reservation:
        taken = await valkey.take(terms, tokens, nanos, self.accounts.hold_s)
        if isinstance(taken, Shortage):
            raise self._refused(taken, terms[0])
        if isinstance(taken, Unasked):
            return self._unshared(taken, terms, tokens, nanos)
        charge = self.accounts.force(terms, tokens, nanos)
        valkey.mirror(taken, charge)
        return Reservation(self.accounts, charge, taken.settle)

    def _unshared(self, unasked: Unasked, terms: tuple[Terms, ...], tokens: int, nanos: int) -> Reservation:
        """Go on without the server, or refuse: as the settings say."""
        if self._settings.valkey is not None and self._settings.valkey.when_down == "refuse":
            self.counts.unavailable += 1
            unasked.cancel()
            raise unavailable()
        try:
            reservation = self._local(terms, tokens, nanos, unasked.settle)
        except BaseException:
            unasked.cancel()
            raise
        self.counts.local += 1
        return reservation

    def _refused(self, short: Shortage, key: Terms) -> Exception:
        told = (short.scope.partition(":")[0], short.kind.value)
        self.counts.refused[told] = self.counts.refused.get(told, 0) + 1
        return refused(short, self.accounts.standings(key))


def _terms_of_key(grant: Grant, default: QuotaTerms) -> Terms:
    return Terms.of(
        f"key:{grant.name}",
        _own(grant.rpm, default.requests_per_minute),
        _own(grant.tpm, default.tokens_per_minute),
        _own(grant.concurrent, default.concurrent_requests),
        _own(grant.daily_budget, default.daily_budget),
        _own(grant.monthly_budget, default.monthly_budget),
    )


def _own(own: _Amount | None, default: _Amount | None) -> _Amount | None:
    return default if own is None else own


def _terms(scope: str, terms: QuotaTerms) -> Terms:
    return Terms.of(
        scope,
        terms.requests_per_minute,
        terms.tokens_per_minute,
        terms.concurrent_requests,
        terms.daily_budget,
        terms.monthly_budget,
    )
