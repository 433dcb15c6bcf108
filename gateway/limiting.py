"""Puts together the limits that a configuration wants, and reads off records what to settle. Admits nobody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.cache import Outcome
from gateway.context import RequestContext, RouteRecord
from gateway.limits.accounts import Accounts
from gateway.limits.limits import Limits
from gateway.settings import QuotaSettings, Settings, secret
from gateway.stores.spending import SpendingFile

# A request is over after `timeouts.total_s`; what is left are the last steps of its ending.
AFTER_S = 30.0


def make_limits(settings: Settings, tell: Callable[..., None] = lambda kind, **detail: None) -> Limits:
    """Return limits; nothing is opened yet.

    Args:
        settings: the configuration.
        tell: called with the kind and the details of what happens to the file of money.

    Raises:
        MissingSecret: the variable with the Valkey server's address is not set.
    """
    quotas = settings.quotas
    moved = partial(_tell_moved, tell)
    store = None if quotas.database is None else SpendingFile(quotas.database, moved)
    accounts = Accounts(hold_s=settings.timeouts.total_s + AFTER_S)
    if quotas.valkey is None:
        return Limits(quotas, store=store, accounts=accounts)
    # The client library takes tens of milliseconds to load: not for everybody.
    from gateway.limits.valkey import ValkeyLimits
    from gateway.limits.wire import Wire

    url = secret(quotas.valkey.url_env) or ""
    return Limits(quotas, valkey=ValkeyLimits(Wire(quotas.valkey, url), quotas.valkey.prefix), accounts=accounts)


def _tell_moved(tell: Callable[..., None], name: str) -> None:
    tell("spending_moved_aside", file=name)


def in_same_place(quotas: QuotaSettings, running: QuotaSettings) -> tuple[QuotaSettings, tuple[str, ...]]:
    """Return other limits that go on counting where the running ones do, and the settings that need a restart."""
    place = {"database": running.database, "valkey": running.valkey}
    changed = tuple(f"quotas.{name}" for name, value in place.items() if getattr(quotas, name) != value)
    return quotas.model_copy(update=place), changed


def used_by(context: RequestContext, record: RouteRecord) -> tuple[int | None, float | None]:
    """Return the tokens and the money that a finished request has used.

    Returns:
        None for what is not known, so that the estimate stands: a stream that was left before it told its usage, an
        expert without a price. Nothing where no expert has begun an answer, or the answer came from the cache.
    """
    if context.cache == Outcome.HIT.value:
        return 0, 0.0
    extra = record.extra_input_tokens + record.extra_output_tokens
    if record.input_tokens is not None:
        return record.input_tokens + (record.output_tokens or 0) + extra, record.cost
    begun = any(attempt.status == 200 or attempt.outcome == "open" for attempt in context.attempts)
    return (None, None) if begun else (extra, record.extra_cost)
