"""One request's share of all its limits, from admission to what it has used. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable

from gateway.limits.accounts import Accounts, Charge
from gateway.limits.contract import Standing, nanos_of, tokens_of
from gateway.limits.telling import Pairs, headers

Settle = Callable[[int, int], None]
"""Tells another place what was used: tokens and billionths."""


class Reservation:
    """Held while a request runs; a context manager.

    Left without `settle`, and also when it never ends (after `Accounts.hold_s`), what was estimated stays charged.

    Args:
        accounts: where it is charged.
        charge: as what.
        elsewhere: told of the settlement too.
    """

    __slots__ = ("_accounts", "_charge", "_elsewhere", "_open")

    def __init__(self, accounts: Accounts, charge: Charge, elsewhere: Settle | None = None) -> None:
        self._accounts = accounts
        self._charge = charge
        self._elsewhere = elsewhere
        self._open = True

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.settle(None, None)

    @property
    def open(self) -> bool:
        """Whether it has not been settled yet."""
        return self._open

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How the key stands with its limits by minute now, this request included."""
        return self._accounts.standings(self._charge.terms[0])

    @property
    def headers(self) -> Pairs:
        """The `x-ratelimit-*` headers of an answer that begins now."""
        return headers(self.standings)

    def settle(self, tokens: float | None, cost: float | None) -> None:
        """Charge what the request has used, and end it; every further call does nothing.

        Args:
            tokens: of prompts and answers; None: not known, the estimate stands.
            cost: in the currency; None: the same.
        """
        if not self._open:
            return
        self._open = False
        charge = self._charge
        used = charge.tokens if tokens is None else tokens_of(tokens)
        nanos = charge.nanos if cost is None else nanos_of(cost)
        self._accounts.correct(charge, used, nanos)
        if self._elsewhere is not None:
            self._elsewhere(used, nanos)
