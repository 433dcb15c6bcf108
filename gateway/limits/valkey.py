"""Counts limits in a Valkey or Redis server, for several gateways together. Decides nothing when it does not answer.

Commands go out in pipelines over one connection at a time: what comes while one is under way goes with the next. So a
crowd of requests costs few round trips, and each waits for one or two of them. A pipeline that is not answered within
`timeout_s` opens a breaker of its own: nothing waits for the server any more, until a task in the background has had a
quick answer from it. Settlements wait for that in a bounded queue; they count once however often they are sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.limits.accounts import Charge, worse
from gateway.limits.calendar import first_day
from gateway.limits.contract import DAY_S, Kind, Shortage, Terms, wait_for

if TYPE_CHECKING:
    from gateway.limits.wire import Wire  # the client library is loaded only where it is wanted

_LETTERS = {Kind.REQUESTS: "r", Kind.TOKENS: "r", Kind.CONCURRENT: "c", Kind.DAY: "d", Kind.MONTH: "m"}
_Row = tuple[str, Kind, int]


@dataclass(frozen=True, slots=True)
class Command:
    """A call of a script: its name, keys and arguments."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[str | int, ...]


class Taken:
    """A request that the server has counted, or may have.

    Args:
        owner: where to tell of its end.
        ident: the request's own id there.
        rows: its limits.
        wanted: tokens and billionths that were estimated.
        hold_ms: how long the server remembers it.
        reply: what the server said; empty: the server is not known to have counted it.
    """

    __slots__ = ("_hold_ms", "_ident", "_owner", "_wanted", "reply", "rows")

    def __init__(
        self,
        owner: ValkeyLimits,
        ident: str,
        rows: Sequence[_Row],
        wanted: tuple[int, int],
        hold_ms: int,
        reply: Sequence[bytes] = (),
    ) -> None:
        self._owner = owner
        self._ident = ident
        self._wanted = wanted
        self._hold_ms = hold_ms
        self.rows = rows
        self.reply = reply

    def settle(self, tokens: int, nanos: int) -> None:
        """Tell the server what was used; it is told later when it does not answer now."""
        self._send(tokens, nanos, 1, late=not self.reply)

    def cancel(self) -> None:
        """Tell the server that the request was not served, so that it takes back what it may have counted."""
        self._send(0, 0, 0, late=False)

    def _send(self, tokens: int, nanos: int, requests: int, *, late: bool) -> None:
        arguments: list[str | int] = [self._ident, self._hold_ms, int(late)]
        before = _amounts(*self._wanted, 1)
        used = _amounts(tokens, nanos, requests)
        for _, kind, limit in self.rows:
            arguments += (_LETTERS[kind], limit, used[kind] - before[kind], used[kind])
        self._owner.wire.post(self._owner.command("settle", self._ident, self.rows, arguments))


class Unasked(Taken):
    """A request that the server did not answer for.

    Attributes:
        sent: whether it may have counted it all the same.
    """

    __slots__ = ("sent",)

    sent: bool

    def cancel(self) -> None:
        """See `Taken.cancel`; there is nothing to take back of what was never sent."""
        if self.sent:
            super().cancel()


class ValkeyLimits:
    """Asks the server.

    Args:
        wire: the connection.
        prefix: beginning of all keys.

    Attributes:
        wire: the connection; its counts are for metrics.
    """

    def __init__(self, wire: Wire, prefix: str) -> None:
        self.wire = wire
        # The braces are a cluster's hash tag: see `scripts`.
        self._prefix = f"{{{prefix}}}:"

    async def open(self) -> None:
        """Reach out for the server, as long as one answer may take; whether it is there or not."""
        await self.wire.open()

    async def close(self) -> None:
        """Send what has to be settled, as long as the server answers; close the connection."""
        await self.wire.close()

    async def take(self, terms: Sequence[Terms], tokens: int, nanos: int, hold_s: float) -> Taken | Unasked | Shortage:
        """Count a request with all its limits, or with none when it does not fit one.

        Returns:
            `Unasked` when the server does not answer: whoever goes on without it settles that later.
        """
        rows = [row for each in terms for row in _rows(each)]
        ident, hold_ms = secrets.token_hex(12), max(1_000, int(hold_s * 1000))
        amounts = _amounts(tokens, nanos, 1)
        arguments: list[str | int] = [ident, hold_ms]
        for _, kind, limit in rows:
            arguments += (_LETTERS[kind], limit, amounts[kind])
        unasked = Unasked(self, ident, rows, (tokens, nanos), hold_ms)
        unasked.sent = True
        try:
            reply = await self.wire.ask(self.command("reserve", ident, rows, arguments))
        except BaseException:  # the client has left meanwhile
            unasked.cancel()
            raise
        unasked.sent = reply is not None
        if not reply or reply[0] == b"-1":
            return unasked
        if reply[0] == b"0":
            return _shortage(rows, amounts, reply)
        return Taken(self, ident, rows, (tokens, nanos), hold_ms, reply)

    def mirror(self, taken: Taken, charge: Charge) -> None:
        """Bring this process's accounts to what the server says."""
        accounts = {account.scope: account for account in charge.accounts}
        day, month = int(taken.reply[1]), int(taken.reply[2])
        for (scope, kind, _), told in zip(taken.rows, taken.reply[4:], strict=True):
            account, level = accounts[scope], float(told)
            if kind is Kind.REQUESTS:
                account.requests = level
            elif kind is Kind.TOKENS:
                account.tokens = level
            elif kind is Kind.DAY and account.day == day:
                account.spent_day = int(level)
            elif kind is Kind.MONTH and account.month == month:
                account.spent_month = int(level)

    def command(self, script: str, ident: str, rows: Sequence[_Row], arguments: Sequence[str | int]) -> Command:
        """Return a call of a script."""
        prefix = self._prefix
        keys = (f"{prefix}request:{ident}", *(f"{prefix}{scope}:{kind.value}" for scope, kind, _ in rows))
        return Command(script, keys, tuple(arguments))


def _rows(terms: Terms) -> list[_Row]:
    limits = (terms.requests, terms.tokens, terms.concurrent, terms.day, terms.month)
    return [(terms.scope, kind, limit) for kind, limit in zip(Kind, limits, strict=True) if limit is not None]


def _amounts(tokens: int, nanos: int, requests: int) -> dict[Kind, int]:
    return {Kind.REQUESTS: requests, Kind.TOKENS: tokens, Kind.CONCURRENT: 1, Kind.DAY: nanos, Kind.MONTH: nanos}


def _shortage(rows: Sequence[_Row], amounts: dict[Kind, int], reply: Sequence[bytes]) -> Shortage:
    """Return the shortage to tell, of those that the server found."""
    day, month, now_s = int(reply[1]), int(reply[2]), float(reply[3]) / 1e6
    day_s = max(1.0, (day + 1) * DAY_S - now_s)
    month_s = max(1.0, first_day(month + 1) * DAY_S - now_s)
    short: Shortage | None = None
    for (scope, kind, limit), told in zip(rows, reply[4:], strict=True):
        level, amount = float(told), amounts[kind]
        if level + amount > limit + 1e-6 and not (kind in (Kind.DAY, Kind.MONTH) and not amount):
            wait_s = wait_for(kind, limit, level, amount, day_s, month_s)
            short = worse(short, Shortage(scope, kind, limit, wait_s))
    assert short is not None
    return short
