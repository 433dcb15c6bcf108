"""Callers' keys with what each may use, uses now, and has used. Knows no secret and changes nothing.

Limits and money are those that this worker knows: with Valkey those of all gateways, with `quotas.database` money is
of all workers. What keys did lately is counted in the newest rows of the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gateway.callers import Grant
from gateway.grants import grant_of
from gateway.limits.contract import MINUTE_S, NANOS, Kind, Terms
from gateway.limits.limits import Limits
from gateway.settings import StoredTerms
from gateway.stores.keys import KeyRow, Space, Stored
from gateway.stores.records.columns import Columns, Floats

USAGE_COLUMNS = ("key", "cost", "status", "error", "input_tokens", "output_tokens")
MOST_KEYS = 500

Source = Literal["configuration", "environment", "store"]
State = Literal["active", "expired", "revoked", "unreadable", "shadowed"]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit of a key.

    Attributes:
        kind: word of `limits.contract.Kind`.
        limit: per minute, at once, or money of the day or month.
        used: of it, now.
        resets_s: seconds until all of it is there again; None for requests at once.
    """

    kind: str
    limit: float
    used: float
    resets_s: float | None

    @property
    def left(self) -> float:
        """Return what is left, never below 0."""
        return max(0.0, self.limit - self.used)

    @property
    def share(self) -> float:
        """Return the share that is used, 0 to 1."""
        return min(1.0, self.used / self.limit) if self.limit > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Lately:
    """What a key did in the newest rows.

    Attributes:
        requests: all of them.
        refused: those answered with a status of 400 to 499.
        failed: those with a status of 500 and more.
        tokens: prompt and answer.
        cost: as far as it is known.
        last_us: when its last one came, microseconds since the epoch.
    """

    requests: int
    refused: int
    failed: int
    tokens: int
    cost: float
    last_us: int


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One key.

    Attributes:
        name: in records; "" for requests without a key.
        source: where it stands. `environment`: one of `server.api_keys_env`, without a name of its own.
        state: `shadowed`: a key of the configuration has its name, so it opens nothing; `unreadable`: its terms are.
        prefixes: beginnings of the secrets that are good now, of keys of the store.
        created_at, expires_at, revoked_at, last_used_at: seconds since the epoch, of keys of the store.
        terms: what it may do besides limits: words and values, in order.
        running: its requests that have not ended, where anything limits it.
        limits: one for each that it has.
        lately: None when no row of it was looked at.
    """

    name: str
    source: Source
    state: State
    prefixes: tuple[str, ...]
    created_at: float | None
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    terms: tuple[tuple[str, str], ...]
    running: int
    limits: tuple[LimitUse, ...]
    lately: Lately | None

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of the store, read: what it may do, its state, and the beginnings of its good secrets."""

    row: KeyRow
    grant: Grant
    state: State
    prefixes: tuple[str, ...]


def configured_keys(
    grants: Sequence[Grant], named: Mapping[str, object], limits: Limits, lately: Mapping[str, Lately]
) -> list[KeyUse]:
    """Return the keys of configuration and environment. For the event loop: limits are read.

    Args:
        grants: what they may do.
        named: the keys that the configuration names; the others come from `server.api_keys_env`.
        limits: counts their use.
        lately: see `lately_by_key`.
    """
    found = [
        _used("configuration" if grant.name in named else "environment", "active", grant, limits, lately)
        for grant in grants
    ]
    return sorted(found, key=lambda key: key.name)[:MOST_KEYS]


def read_keys(stored: Stored, named: Mapping[str, object], now: float) -> list[StoredKey]:
    """Read the keys of the store, the newest first, `MOST_KEYS` at most. Takes a while: call it in a thread.

    Args:
        stored: all that the store holds.
        named: the keys of the configuration, whose names count before the store's.
        now: seconds since the epoch.
    """
    prefixes = prefixes_of(stored, now)
    keys = [key for key in reversed(stored.keys) if key.space is Space.KEY][:MOST_KEYS]
    return [_read(key, prefixes.get(key.id, []), named, now) for key in keys]


def stored_keys(keys: Sequence[StoredKey], limits: Limits, lately: Mapping[str, Lately]) -> list[KeyUse]:
    """Return the keys of the store with what they use. For the event loop: limits are read.

    Args:
        keys: see `read_keys`.
        limits: counts their use.
        lately: see `lately_by_key`.
    """
    return [_used("store", key.state, key.grant, limits, lately, key) for key in keys]


def lately_by_key(rows: Columns) -> dict[str, Lately]:
    """Count what each key did, from `USAGE_COLUMNS` of the newest rows."""
    names, times = rows.texts("key"), np.array(rows.values["at_us"], dtype=np.int64)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    status, cost = rows.floats("status"), rows.floats("cost")
    tokens = np.nan_to_num(rows.floats("input_tokens")) + np.nan_to_num(rows.floats("output_tokens"))
    return {
        name: _counted(status[mine], cost[mine], tokens[mine], int(times[mine[0]])) for name, mine in places.items()
    }


def prefixes_of(stored: Stored, now: float) -> dict[str, list[str]]:
    """Return the beginnings of the secrets that are good at a moment, by key."""
    found: dict[str, list[str]] = {}
    for secret in stored.secrets:
        if secret.expires_at is None or now < secret.expires_at:
            found.setdefault(secret.id, []).append(secret.prefix)
    return found


def _counted(status: Floats, cost: Floats, tokens: Floats, last_us: int) -> Lately:
    return Lately(
        requests=len(status),
        refused=int(((status >= 400) & (status < 500)).sum()),
        failed=int((status >= 500).sum()),
        tokens=int(tokens.sum()),
        cost=float(np.nansum(cost)),
        last_us=last_us,
    )


def _read(key: KeyRow, prefixes: list[str], named: Mapping[str, object], now: float) -> StoredKey:
    try:
        terms = StoredTerms.model_validate_json(key.terms)
    except ValueError:
        terms = None
    grant = Grant(name=key.name) if terms is None else grant_of(key.name, terms, key.expires_at)
    return StoredKey(key, grant, _state(key, prefixes, named, now, readable=terms is not None), tuple(prefixes))


def _state(key: KeyRow, prefixes: list[str], named: Mapping[str, object], now: float, *, readable: bool) -> State:
    if key.revoked_at is not None:
        return "revoked"
    if (key.expires_at is not None and not now < key.expires_at) or not prefixes:
        return "expired"
    if not readable:
        return "unreadable"
    return "shadowed" if key.name in named else "active"


def _used(
    source: Source,
    state: State,
    grant: Grant,
    limits: Limits,
    lately: Mapping[str, Lately],
    stored: StoredKey | None = None,
) -> KeyUse:
    is_over = state in ("revoked", "expired")
    row = None if stored is None else stored.row
    return KeyUse(
        name=grant.name,
        source=source,
        state=state,
        prefixes=() if stored is None or is_over else stored.prefixes,
        created_at=None if row is None else row.created_at,
        expires_at=grant.expires_at,
        revoked_at=None if row is None else row.revoked_at,
        last_used_at=None if row is None else row.last_used_at,
        terms=_terms(grant),
        running=0 if is_over else limits.accounts.find(limits.terms_of(grant)).running,
        limits=() if is_over else limits_used(limits.terms_of(grant), limits),
        lately=lately.get(grant.name),
    )


def _terms(grant: Grant) -> tuple[tuple[str, str], ...]:
    lists = {"experts": grant.experts, "policies": grant.policies, "endpoints": grant.endpoints}
    found = [(name, ", ".join(sorted(values))) for name, values in lists.items() if values is not None]
    singles = {"policy": grant.policy, "price cap": None if grant.price_cap is None else f"{grant.price_cap:g}"}
    found += [(name, value) for name, value in singles.items() if value is not None]
    return (*found, ("tags", ", ".join(grant.tags))) if grant.tags else tuple(found)


def limits_used(terms: Terms, limits: Limits) -> tuple[LimitUse, ...]:
    """Return each limit of a key or an expert with what is used of it now. For the event loop."""
    if not terms.limited:
        return ()
    account, calendar = limits.accounts.find(terms), limits.accounts.calendar
    rates = ((Kind.REQUESTS, terms.requests, account.requests), (Kind.TOKENS, terms.tokens, account.tokens))
    found = [LimitUse(kind.value, limit, used, used / limit * MINUTE_S) for kind, limit, used in rates if limit]
    if terms.concurrent is not None:
        found.append(LimitUse(Kind.CONCURRENT.value, terms.concurrent, account.running, None))
    budgets = (
        (Kind.DAY, terms.day, account.spent_day, calendar.day_left_s()),
        (Kind.MONTH, terms.month, account.spent_month, calendar.month_left_s()),
    )
    money = [(kind.value, limit, used, left_s) for kind, limit, used, left_s in budgets if limit is not None]
    return (*found, *(LimitUse(kind, limit / NANOS, used / NANOS, left_s) for kind, limit, used, left_s in money))
