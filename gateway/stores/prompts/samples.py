"""Kept prompts: written in batches, read one or a few at a time. Decides neither what is kept nor who may read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.stores.prompts.contract import Database, Limits, Sample, Session, Why

FLAGS = {
    Why.RANDOM: "by_chance",
    Why.LOW_MARGIN: "by_low_margin",
    Why.OUT_OF_DOMAIN: "by_out_of_domain",
    Why.THUMBS_DOWN: "by_thumbs_down",
}
DELETED_AT_ONCE = 500
_LATEST = (2**62, "")

_PLAIN = ("at_us", "id", "text", "predicted", "confidence", "margin", "out_of_domain", "chosen", "reason")
_COLUMNS = (*_PLAIN, *FLAGS.values())
_INSERTED = (*_COLUMNS, "size")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM prompt_sample"
# A prompt that is kept for a second reason has both.
_PUT = (
    f"INSERT INTO prompt_sample ({', '.join(_INSERTED)}) VALUES ({', '.join('?' * len(_INSERTED))}) "
    "ON CONFLICT (at_us, id) DO UPDATE SET "
    + ", ".join(
        f"{flag} = CASE WHEN prompt_sample.{flag} = 1 THEN 1 ELSE excluded.{flag} END" for flag in FLAGS.values()
    )
)
_IS_LABELLED = (
    "EXISTS (SELECT 1 FROM domain_label WHERE domain_label.at_us = prompt_sample.at_us "
    "AND domain_label.id = prompt_sample.id)"
)
_WAITING = f"NOT {_IS_LABELLED}"
_DELETE = "DELETE FROM prompt_sample WHERE at_us < ? AND "
_OLDEST = f"SELECT at_us, id, size FROM prompt_sample WHERE {_WAITING} ORDER BY at_us, id LIMIT {DELETED_AT_ONCE}"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many prompts are kept.

    Attributes:
        total: all of them.
        size: their characters.
        waiting: those that nobody labelled yet.
        waiting_by: the same by why they are kept; some for several reasons.
        oldest_us: when the oldest one came; None: there is none.
    """

    total: int
    size: int
    waiting: int
    waiting_by: dict[Why, int]
    oldest_us: int | None


class Samples:
    """Reads and writes kept prompts; all methods block.

    All raise RecordsUnavailable when the database cannot be used now.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, samples: Sequence[Sample]) -> None:
        """Write some; what is there already gets the new reasons besides its own."""
        with self._database.writing() as session:
            for sample in samples:
                session.run(_PUT, _values(sample))

    def find(self, at_us: int, id: str) -> Sample | None:
        """Return one; None: it is not kept."""
        with self._database.reading() as session:
            rows = session.run(f"{_SELECT} WHERE at_us = ? AND id = ?", (at_us, id))
        return _sample(rows[0]) if rows else None

    def waiting(
        self,
        limit: int,
        *,
        before: tuple[int, str] = _LATEST,
        why: Why | None = None,
        domain: str | None = None,
    ) -> list[Sample]:
        """Return those that nobody labelled, the newest first.

        Args:
            limit: most of them.
            before: only older ones than this key.
            why: only those kept for this reason.
            domain: only those predicted to be of this domain.
        """
        where, values = f"{_WAITING} AND (at_us, id) < (?, ?)", list[Any](before)
        if why is not None:
            where += f" AND {FLAGS[why]} = 1"
        if domain is not None:
            where, values = f"{where} AND predicted = ?", [*values, domain]
        with self._database.reading() as session:
            rows = session.run(f"{_SELECT} WHERE {where} ORDER BY at_us DESC, id DESC LIMIT ?", [*values, limit])
        return [_sample(row) for row in rows]

    def counts(self) -> Counts:
        """Count what is kept."""
        sums = ", ".join(f"COALESCE(SUM({flag}), 0)" for flag in FLAGS.values())
        with self._database.reading() as session:
            ((total, size, oldest),) = session.run(
                "SELECT COUNT(*), COALESCE(SUM(size), 0), MIN(at_us) FROM prompt_sample"
            )
            ((waiting, *by),) = session.run(f"SELECT COUNT(*), {sums} FROM prompt_sample WHERE {_WAITING}")
        return Counts(
            int(total), int(size), int(waiting), {why: int(n) for why, n in zip(FLAGS, by, strict=True)}, oldest
        )

    def clear(self) -> int:
        """Delete all kept prompts; labels stay. Returns how many there were."""
        with self._database.writing() as session:
            ((count,),) = session.run("SELECT COUNT(*) FROM prompt_sample")
            session.run("DELETE FROM prompt_sample")
        return int(count)

    def retain(self, limits: Limits, now_us: int) -> int:
        """Delete what is too old or too much, a step of it. Returns how many rows went; 0: all is done."""
        with self._database.writing() as session:
            before = _rows(session)
            session.run(_DELETE + _WAITING, (now_us - limits.prompts_s * 1_000_000,))
            session.run(_DELETE + _IS_LABELLED, (now_us - limits.labelled_s * 1_000_000,))
            session.run("DELETE FROM domain_label WHERE labelled_us < ?", (now_us - limits.labels_s * 1_000_000,))
            _evict(session, limits)
            return before - _rows(session)


def _evict(session: Session, limits: Limits) -> None:
    """Delete the oldest prompts that nobody labelled, while there are too many."""
    ((rows, size),) = session.run("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM prompt_sample")
    if rows <= limits.rows and size <= limits.size:
        return
    for at_us, id, length in session.run(_OLDEST):
        if rows <= limits.rows and size <= limits.size:
            break
        session.run("DELETE FROM prompt_sample WHERE at_us = ? AND id = ?", (at_us, id))
        rows, size = rows - 1, size - length


def _rows(session: Session) -> int:
    ((count,),) = session.run("SELECT (SELECT COUNT(*) FROM prompt_sample) + (SELECT COUNT(*) FROM domain_label)")
    return int(count)


def _values(sample: Sample) -> list[Any]:
    flags = [int(why in sample.why) for why in FLAGS]
    return [*(getattr(sample, name) for name in _PLAIN), *flags, len(sample.text)]


def _sample(row: Sequence[Any]) -> Sample:
    why = tuple(why for why, flag in zip(FLAGS, row[len(_PLAIN) :], strict=True) if flag)
    return Sample(**dict(zip(_PLAIN, row, strict=False)), why=why)
