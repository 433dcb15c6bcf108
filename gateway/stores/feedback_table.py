"""The table of ratings: its schema, its rows and its statements. Opens no file and commits nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

NAME = "feedback"
# More than a batch adds, so that a lowered `keep` is reached in the end without one long transaction.
DELETED_AT_ONCE = 1_000

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE feedback (
            number INTEGER PRIMARY KEY,
            record_id TEXT NOT NULL,
            key TEXT NOT NULL,
            score REAL NOT NULL CHECK (score BETWEEN 0 AND 1),
            right_domain TEXT,
            comment TEXT,
            expert TEXT NOT NULL,
            domain TEXT,
            confidence REAL,
            policy TEXT NOT NULL,
            reason TEXT,
            variant TEXT NOT NULL,
            strategy TEXT,
            finished_at REAL NOT NULL,
            first_at REAL NOT NULL,
            last_at REAL NOT NULL,
            UNIQUE (record_id, key)
        )""",
    ),
)

_OWNER = ("record_id", "key")
_GIVEN = ("score", "right_domain", "comment")
_RATED = ("expert", "domain", "confidence", "policy", "reason", "variant", "strategy", "finished_at")
COLUMNS = (*_OWNER, *_GIVEN, *_RATED, "first_at", "last_at")
_UPSERT = f"""
INSERT INTO feedback ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (record_id, key) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*_GIVEN, *_RATED, "last_at"))}
"""
# Numbers rise by one, so the last `keep` of them hold at most `keep` rows; nothing has to be counted.
_FORGET = """
DELETE FROM feedback WHERE number IN (
    SELECT number FROM feedback WHERE number <= (SELECT max(number) FROM feedback) - ? ORDER BY number LIMIT ?
)
"""
SELECT_SCORES = """
SELECT meant, expert, score, CASE WHEN right_domain IS NULL THEN confidence END, key FROM (
    SELECT *, row_number() OVER (PARTITION BY key, meant, expert ORDER BY last_at DESC, number DESC) AS place
    FROM (SELECT *, coalesce(right_domain, domain) AS meant FROM feedback WHERE strategy IS NULL)
    WHERE meant IS NOT NULL
) WHERE place <= ? ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """One rating and what it rates.

    Attributes:
        record_id: the rated request's id.
        key: name of the caller's key, which is also the rated request's.
        score: 0 to 1.
        right_domain: what the caller says the domain was.
        comment: the caller's own words.
        expert: who answered.
        domain: the request's domain, as decided; None when nothing was scored.
        confidence: its calibrated probability.
        policy: which policy decided, "" when none had to.
        reason: why.
        variant: `live` or `canary`.
        strategy: which strategy made the answer; None when the expert alone did.
        finished_at: when the request was over, seconds since the epoch.
        rated_at: when the rating came, seconds since the epoch.
    """

    record_id: str
    key: str
    score: float
    right_domain: str | None
    comment: str | None
    expert: str
    domain: str | None
    confidence: float | None
    policy: str
    reason: str | None
    variant: str
    strategy: str | None
    finished_at: float
    rated_at: float

    def values(self) -> tuple[str | float | None, ...]:
        """Return the values of all columns."""
        row: list[str | float | None] = [getattr(self, name) for name in (*_OWNER, *_GIVEN, *_RATED)]
        return (*row, self.rated_at, self.rated_at)


@dataclass(frozen=True, slots=True)
class FeedbackScore:
    """One rating as a quality table is fitted from it.

    Attributes:
        domain: the right domain when the caller named it, else the request's.
        expert: who answered.
        score: 0 to 1.
        confidence: the classifier's probability of `domain`, which the rating counts with; None when the caller named
            the domain, in the rating or in the request.
        key: name of the caller's key, "" where the gateway is open.
    """

    domain: str
    expert: str
    score: float
    confidence: float | None
    key: str


def put(connection: sqlite3.Connection, rows: Sequence[FeedbackRow], keep: int) -> list[bool]:
    """Write rows, and let the first rated ones over `keep` go, inside the caller's transaction.

    Returns:
        Which rows replaced one.
    """
    replaced = [_put(connection, row) for row in rows]
    connection.execute(_FORGET, (keep, DELETED_AT_ONCE))
    return replaced


def _put(connection: sqlite3.Connection, row: FeedbackRow) -> bool:
    found = connection.execute("SELECT 1 FROM feedback WHERE record_id = ? AND key = ?", (row.record_id, row.key))
    replaced = found.fetchone() is not None
    connection.execute(_UPSERT, row.values())
    return replaced
