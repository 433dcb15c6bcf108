"""Gathers reports for pages and routes: slow work in threads, live state on the event loop. Renders nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.admin.config_changes import file_of
from gateway.admin.cost_report import CostReport, cost_report
from gateway.admin.differences import Line, differences
from gateway.admin.draft import MOST_ROWS, DraftReport, try_draft
from gateway.admin.errors import QueryTooSlowError, StoreDown, explained
from gateway.admin.key_report import (
    USAGE_COLUMNS,
    KeyUse,
    Lately,
    LimitUse,
    StoredKey,
    configured_keys,
    lately_by_key,
    limits_used,
    read_keys,
    stored_keys,
)
from gateway.admin.latency_report import LatencyReport, latency_report
from gateway.admin.plane import Plane
from gateway.admin.stored_scores import COLUMNS, rows_of
from gateway.generation import UNUSABLE, Plan
from gateway.state import Gateway
from gateway.stores.keys.choosing import key_store
from gateway.stores.records.breathing import breathing
from gateway.stores.records.columns import Columns, newest
from gateway.stores.records.queries import Queries
from gateway.stores.spending import spent_by_day
from gateway.stores.sqlite import StoreError

LEAST_DAYS = 14
"""Days of spending that are shown at least, where they are kept."""
MOST_OTHERS = 50
_DAY_S = 86_400
_LATEST_US = 2**62


@dataclass(frozen=True, slots=True)
class Spend:
    """What one key spent in one part of the time."""

    at_s: int
    key: str
    cost: float


@dataclass(frozen=True, slots=True)
class KeyReport:
    """All keys and what they use.

    Attributes:
        configured: those of configuration and environment.
        stored: those of the store, the newest first; None without a store.
        others: what callers did whose name is none of these keys': without a key ("" is their name), or a key that is
            no longer listed; the busiest first.
        experts: by expert, what all keys together use of the limits it has.
        spend: by time and key; of `spend_step_s` seconds, from `spend_since_s` on.
        spend_exact: whether `spend` is of all requests (`quotas.database`), not of the newest rows only.
        looked_at: rows that `lately` is of.
        whole: whether they are all of the span.
        counted_by: where limits are counted: `process`, `file` (money of all workers), `valkey` (all gateways).
        store_problem, records_problem: error codes, None when all is well; `records_disabled` without records.
    """

    configured: tuple[KeyUse, ...]
    stored: tuple[KeyUse, ...] | None
    others: tuple[tuple[str, Lately], ...]
    experts: tuple[tuple[str, tuple[LimitUse, ...]], ...]
    spend: tuple[Spend, ...]
    spend_since_s: int
    spend_step_s: int
    spend_exact: bool
    looked_at: int
    whole: bool
    counted_by: str
    store_problem: str | None
    records_problem: str | None

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """Return all, those of the configuration first."""
        return (*self.configured, *(self.stored or ()))

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DraftTrial:
    """A checked draft of the configuration.

    Attributes:
        file_version: of the file that it was compared with.
        lines: what differs from the file; None: too long to compare.
        report: what it would have decided; None without records.
        records_problem: why there is no report; an error code.
        settings_changed: top-level sections whose settings differ from those in use.
    """

    file_version: str
    lines: tuple[Line, ...] | None
    report: DraftReport | None
    records_problem: str | None
    settings_changed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


async def costs(plane: Plane, since_s: int, until_s: int) -> CostReport:
    """Return the money of a span.

    Raises:
        NotThere, StoreDown, QueryTooSlowError: there are no records, or they cannot be asked.
    """
    return await plane.ask(lambda queries: cost_report(queries, since_s, until_s))


async def latencies(plane: Plane, since_s: int, until_s: int) -> LatencyReport:
    """Return the times of a span.

    Raises:
        NotThere, StoreDown, QueryTooSlowError: there are no records, or they cannot be asked.
    """
    return await plane.ask(lambda queries: latency_report(queries, since_s, until_s))


async def keys(plane: Plane, since_s: int, until_s: int) -> KeyReport:
    """Return all keys; a store that cannot be asked leaves out what only it knows."""
    days_since_s = min(since_s, until_s - LEAST_DAYS * _DAY_S)
    (stored, store_problem), (rows, records_problem), days = await asyncio.gather(
        _stored(plane), _rows(plane, since_s, until_s), _days(plane, days_since_s)
    )
    gateway, named, limits = plane.gateway, plane.gateway.settings.keys, plane.gateway.limits
    lately: dict[str, Lately] = {} if rows is None else lately_by_key(rows)
    step_s = _step(until_s - since_s)
    quotas = gateway.settings.quotas
    configured = configured_keys(list(gateway.current.grants.values()), named, limits, lately)
    kept = None if stored is None else stored_keys(stored, limits, lately)
    return KeyReport(
        configured=tuple(configured),
        stored=None if kept is None else tuple(kept),
        others=_others(lately, [key.name for key in (*configured, *(kept or ()))]),
        experts=tuple((name, limits_used(terms, limits)) for name, terms in limits.expert_terms.items()),
        spend=tuple(days) if days is not None else tuple(_spend(rows, step_s)),
        spend_since_s=days_since_s if days is not None else since_s,
        spend_step_s=_DAY_S if days is not None else step_s,
        spend_exact=days is not None,
        looked_at=0 if rows is None else len(rows),
        whole=rows is None or rows.whole,
        counted_by="valkey" if quotas.valkey else "file" if quotas.database else "process",
        store_problem=store_problem,
        records_problem=records_problem,
    )


async def try_out(plane: Plane, text: str, last: int = MOST_ROWS) -> DraftTrial:
    """Check a draft, compare it with the file, and decide the latest stored requests with it.

    Args:
        plane: whose configuration it may become.
        text: the whole file.
        last: how many of the latest requests; at most `draft.MOST_ROWS`.

    Raises:
        Conflict: the configuration comes from no file.
        ConfigInvalid: the draft cannot be used.
        StoreDown: the file cannot be read.
    """
    config, gateway = file_of(plane), plane.gateway
    draft = await config.plan(text)
    used = gateway.settings
    using = await plane.threads.files(lambda: plan_in_use(gateway))
    now, version = await config.read()
    changed = tuple(name for name in type(used).model_fields if getattr(used, name) != getattr(draft.settings, name))
    lines = await plane.threads.query(lambda: differences(now, text))
    if gateway.records is None or using is None:
        why = "records_disabled" if gateway.records is None else "current_unusable"
        return DraftTrial(version, lines, None, why, changed)
    run = plane.queries.run

    def ask() -> DraftReport:
        with explained():
            columns = newest(run, COLUMNS, 0, _LATEST_US, min(last, MOST_ROWS))
        return try_draft(breathing(rows_of(columns.values, len(columns))), using, draft)

    try:
        return DraftTrial(version, lines, await plane.threads.query(ask), None, changed)
    except (StoreDown, QueryTooSlowError) as error:
        return DraftTrial(version, lines, None, error.code, changed)


def plan_in_use(gateway: Gateway) -> Plan | None:
    """Return all that follows from the configuration in use; None when what it names cannot be read any more."""
    try:
        return gateway.plan(gateway.settings)
    except UNUSABLE:
        return None


async def _stored(plane: Plane) -> tuple[list[StoredKey] | None, str | None]:
    settings = plane.gateway.settings
    store, now = key_store(settings.key_store), datetime.now(UTC).timestamp()
    if store is None:
        return None, None
    try:
        return await plane.threads.query(lambda: read_keys(store.load(), settings.keys, now)), None
    except (StoreError, QueryTooSlowError):
        return [], "key_store_unavailable"


async def _rows(plane: Plane, since_s: int, until_s: int) -> tuple[Columns | None, str | None]:
    if plane.gateway.records is None:
        return None, "records_disabled"

    def ask(queries: Queries) -> Columns:
        return newest(queries.run, USAGE_COLUMNS, since_s * 1_000_000, until_s * 1_000_000)

    try:
        return await plane.ask(ask), None
    except (StoreDown, QueryTooSlowError) as error:
        return None, error.code


async def _days(plane: Plane, since_s: int) -> Sequence[Spend] | None:
    """Return the money of whole days from the file of budgets; None where there is none or it cannot be read."""
    path = plane.gateway.settings.quotas.database
    if path is None:
        return None

    def ask() -> list[Spend]:
        found = spent_by_day(path, since_s // _DAY_S)
        return [
            Spend(day * _DAY_S, scope.removeprefix("key:"), nanos / 1e9)
            for day, scope, nanos in found
            if scope.startswith("key:")
        ]

    try:
        return await plane.threads.query(ask)
    except (StoreError, QueryTooSlowError):
        return None


def _others(lately: dict[str, Lately], known: Sequence[str]) -> tuple[tuple[str, Lately], ...]:
    names = set(known)
    found = [(name, did) for name, did in lately.items() if name not in names]
    return tuple(sorted(found, key=lambda item: (-item[1].requests, item[0]))[:MOST_OTHERS])


def _spend(rows: Columns | None, step_s: int) -> list[Spend]:
    if rows is None:
        return []
    found: dict[tuple[int, str], float] = {}
    costs_of: Any = rows.values["cost"]
    for at_us, key, cost in zip(rows.values["at_us"], rows.texts("key"), costs_of, strict=True):
        place = at_us // 1_000_000 // step_s * step_s, key
        found[place] = found.get(place, 0.0) + (cost or 0.0)
    return [Spend(at_s, key, cost) for (at_s, key), cost in sorted(found.items())]


def _step(length_s: int) -> int:
    """Return the length of a point in seconds: a minute, an hour or a day, so that there are some thirty of them."""
    return 60 if length_s <= 7_200 else 3_600 if length_s <= 3 * _DAY_S else _DAY_S
