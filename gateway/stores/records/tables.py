"""The tables of records: columns, schema steps, and how a record becomes a row. Opens nothing and commits nothing.

One list of columns makes the schema of both databases. A step once released is never changed, only added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import attrgetter

import orjson

from gateway.context import Attempt, RouteRecord
from gateway.stores.records.contract import RecordRow, microseconds

NAME = "records"
TEXT_LIMIT = 500
# Far beyond anything real; an expert may report any number, and sums of these must still fit 64 bits.
_LARGEST = 2**40

# What `RouteRecord` has under the same name, by type.
_TEXTS = (
    *("endpoint", "request_model", "decided", "chosen", "response_model", "domain", "tier", "reason", "policy", "key"),
    *("variant", "session", "shadow_chosen", "shadow_reason", "error", "strategy", "strategy_outcome", "rewrite"),
    *("catalog_version", "price_version", "currency", "unpriced", "cache"),
)
_REALS = (
    *("confidence", "margin", "threshold", "out_of_domain", "disagreement", "expected_quality", "expected_cost"),
    *("duration_s", "overhead_s", "classify_s", "time_to_first_byte_s", "extra_cost", "cost"),
    *("baseline_cost", "saving"),
)
_NUMBERS = (
    *("status", "attempts", "calls", "input_tokens", "output_tokens", "cached_tokens", "extra_input_tokens"),
    *("extra_output_tokens", "prompt_token_estimate", "resumed"),
)
FLAGS = ("stream", "rewritten", "cached")
# What records do not have yet; NULL until they do.
_LATER_TEXTS = ("finish", "trace_id")
_LATER_REALS: tuple[str, ...] = ()

TYPES: dict[str, str] = {
    "at_us": "BIGINT NOT NULL",
    "id": "TEXT NOT NULL",
    **dict.fromkeys((*_TEXTS, *_LATER_TEXTS), "TEXT"),
    **dict.fromkeys((*_REALS, *_LATER_REALS), "DOUBLE PRECISION"),
    **dict.fromkeys((*_NUMBERS, *FLAGS), "BIGINT"),
    "excluded": "TEXT",
}
COLUMNS = tuple(TYPES)
ATTEMPT_COLUMNS = ("at_us", "id", "n", "expert", "upstream", "outcome", "status")
PLACE = {name: place for place, name in enumerate(COLUMNS)}
FACET_LIMIT = 10_000
FACETS = ("endpoint", "domain", "chosen", "reason", "policy", "key", "variant")

DIMENSIONS = ("domain", "chosen", "reason", "status_class")
SUMS = (
    *("requests", "failovers", "priced", "input_tokens", "output_tokens", "cached_tokens"),
    *("cost", "baseline_cost", "saving", "duration_s", "overhead_s"),
)
ROLLUP_KEY = ("span_s", "at_s", *DIMENSIONS)
ROLLUP_COLUMNS = (*ROLLUP_KEY, *SUMS, "histograms")

_RECORD = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
_ATTEMPT = (
    "at_us BIGINT NOT NULL, id TEXT NOT NULL, n BIGINT NOT NULL, expert TEXT, upstream TEXT, outcome TEXT, "
    "status BIGINT, PRIMARY KEY (at_us, id, n)"
)
_ROLLUP = (
    "span_s BIGINT NOT NULL, at_s BIGINT NOT NULL, "
    + ", ".join(f"{name} TEXT NOT NULL" for name in DIMENSIONS)
    + ", "
    + ", ".join(f"{name} {'DOUBLE PRECISION' if i > 5 else 'BIGINT'} NOT NULL" for i, name in enumerate(SUMS))
    + ", histograms {blob} NOT NULL, PRIMARY KEY ("
    + ", ".join(ROLLUP_KEY)
    + ")"
)
_EVENT = "id TEXT PRIMARY KEY, at_us BIGINT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL"
_DIM = "kind TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, value)"

SQLITE_STEPS: tuple[tuple[str, ...], ...] = (
    (
        f"CREATE TABLE record ({_RECORD})",
        "CREATE UNIQUE INDEX record_at ON record (at_us, id)",
        "CREATE INDEX record_id ON record (id)",
        f"CREATE TABLE attempt ({_ATTEMPT}) WITHOUT ROWID",
        f"CREATE TABLE rollup ({_ROLLUP.format(blob='BLOB')}) WITHOUT ROWID",
        f"CREATE TABLE event ({_EVENT})",
        "CREATE INDEX event_at ON event (at_us, id)",
        f"CREATE TABLE dim ({_DIM}) WITHOUT ROWID",
    ),
)
POSTGRES_STEPS: tuple[tuple[str, ...], ...] = (
    (
        f"CREATE TABLE record ({_RECORD}, PRIMARY KEY (at_us, id)) PARTITION BY RANGE (at_us)",
        "CREATE INDEX record_id ON record (id)",
        f"CREATE TABLE attempt ({_ATTEMPT}) PARTITION BY RANGE (at_us)",
        f"CREATE TABLE rollup ({_ROLLUP.format(blob='BYTEA')})",
        f"CREATE TABLE event ({_EVENT})",
        "CREATE INDEX event_at ON event (at_us, id)",
        f"CREATE TABLE dim ({_DIM})",
    ),
)

_TAKEN = attrgetter(*_TEXTS)
_MEASURED = attrgetter(*_REALS)
_COUNTED = attrgetter(*_NUMBERS, *FLAGS)


def row_of(record: RouteRecord, attempts: Sequence[Attempt] = ()) -> RecordRow:
    """Return a record as it is stored: long text is cut, what no database takes is replaced."""
    at_us, name = microseconds(record.timestamp), clean(record.request_id)
    later = [getattr(record, column, None) for column in (*_LATER_TEXTS, *_LATER_REALS)]
    texts, reals = (*_TAKEN(record), *later[: len(_LATER_TEXTS)]), (*_MEASURED(record), *later[len(_LATER_TEXTS) :])
    values = (
        at_us,
        name,
        *[None if text is None else clean(text) for text in texts],
        *[None if real is None or not isfinite(real) else min(max(real, -_LARGEST), _LARGEST) for real in reals],
        *[None if number is None else int(min(max(number, -_LARGEST), _LARGEST)) for number in _COUNTED(record)],
        clean(orjson.dumps(record.excluded).decode(), 4_000) if record.excluded else None,
    )
    tries = tuple((clean(a.expert), clean(a.upstream), clean(a.outcome), a.status) for a in attempts)
    return RecordRow(at_us, name or "", values, tries)


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return text that both databases take: no NUL, no lone surrogate, at most `limit` characters."""
    if len(text) > limit:
        text = text[:limit]
    if text.isascii():
        return text if "\0" not in text else text.replace("\0", "\ufffd")
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def facets_of(rows: Sequence[RecordRow]) -> set[tuple[str, str]]:
    """Return which values occur in the columns that pages can filter by."""
    return {(name, str(value)) for row in rows for name in FACETS if (value := row.values[PLACE[name]]) is not None}
