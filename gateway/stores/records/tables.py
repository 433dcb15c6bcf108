"""The tables of records: columns, schema steps, and how a record becomes a row. Opens nothing and commits nothing.

One list of columns makes the schema of both databases. A step once released is never changed, only added to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
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
JSON = ("excluded", "scores", "estimates")
"""Columns that hold a JSON object; empty ones are NULL."""
# What records do not have yet; NULL until they do.
_LATER_TEXTS = ("trace_id",)
# Since the second step.
_ADDED_TEXTS = ("conversation", "classifier")
_ADDED_REALS = (
    *("minimum_margin", "maximum_out_of_domain", "maximum_disagreement", "receive_s", "queue_s", "connect_s"),
)

_FIRST: dict[str, str] = {
    "at_us": "BIGINT NOT NULL",
    "id": "TEXT NOT NULL",
    **dict.fromkeys((*_TEXTS, "finish", *_LATER_TEXTS), "TEXT"),
    **dict.fromkeys(_REALS, "DOUBLE PRECISION"),
    **dict.fromkeys((*_NUMBERS, *FLAGS), "BIGINT"),
    "excluded": "TEXT",
}
_ADDED: dict[str, str] = {
    **dict.fromkeys(("scores", "estimates", *_ADDED_TEXTS), "TEXT"),
    **dict.fromkeys(_ADDED_REALS, "DOUBLE PRECISION"),
}
TYPES = {**_FIRST, **_ADDED}
COLUMNS = tuple(TYPES)
_FIRST_ATTEMPT = ("at_us", "id", "n", "expert", "upstream", "outcome", "status")
_ADDED_ATTEMPT = ("began_s", "took_s")
ATTEMPT_COLUMNS = (*_FIRST_ATTEMPT, *_ADDED_ATTEMPT)
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

_RECORD = ", ".join(f"{name} {kind}" for name, kind in _FIRST.items())
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
_ADDITIONS = (
    *(f"ALTER TABLE record ADD COLUMN {name} {kind}" for name, kind in _ADDED.items()),
    *(f"ALTER TABLE attempt ADD COLUMN {name} DOUBLE PRECISION" for name in _ADDED_ATTEMPT),
)

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
    _ADDITIONS,
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
    _ADDITIONS,
)

_TAKEN = attrgetter(*_TEXTS, "finish")
_MEASURED = attrgetter(*_REALS)
_COUNTED = attrgetter(*_NUMBERS, *FLAGS)
_ADDED_MEASURED = attrgetter(*_ADDED_REALS)


def row_of(record: RouteRecord, attempts: Sequence[Attempt] = ()) -> RecordRow:
    """Return a record as it is stored: long text is cut, what no database takes is replaced."""
    at_us, name = microseconds(record.timestamp), clean(record.request_id)
    later = [getattr(record, column, None) for column in _LATER_TEXTS]
    values = (
        at_us,
        name,
        # Sixty values a row: what is as it should be, which is nearly all, is not handed to a function.
        *[
            text if text is None or (text.isascii() and len(text) <= TEXT_LIMIT and "\0" not in text) else clean(text)
            for text in (*_TAKEN(record), *later)
        ],
        *_reals(_MEASURED(record)),
        *[
            None if number is None else int(number) if -_LARGEST <= number <= _LARGEST else _bounded(number)
            for number in _COUNTED(record)
        ],
        _json(record.excluded),
        _json(record.scores),
        _json({name: (_rounded(quality, 4), _rounded(cost, 9)) for name, (quality, cost) in record.estimates.items()}),
        *[None if text is None else clean(text) for text in (record.conversation, record.classifier)],
        *_reals(_ADDED_MEASURED(record)),
    )
    tries = tuple(
        (clean(a.expert), clean(a.upstream), clean(a.outcome), a.status, *_reals((a.began_s, a.took_s)))
        for a in attempts
    )
    return RecordRow(at_us, name or "", values, tries)


def _reals(values: Sequence[float | None]) -> list[float | None]:
    return [real if real is None or -_LARGEST <= real <= _LARGEST else _bounded(real) for real in values]


def _bounded(number: float) -> float | None:
    """Return what databases take of a number: NaN and infinite are nothing, and sums must fit 64 bits."""
    return min(max(number, -_LARGEST), _LARGEST) if -inf < number < inf else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _json(value: Mapping[str, object]) -> str | None:
    return clean(orjson.dumps(value).decode(), 4_000) if value else None


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
