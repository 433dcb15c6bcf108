"""People's labels of requests: what the domain was. Holds no prompt; applies no label to anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.stores.prompts.contract import Agreement, Database, Label

MOST = 20_000
LATEST_US = 2**62
_COLUMNS = ("at_us", "id", "predicted", "confidence", "label", "by_chance", "who", "labelled_us")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM domain_label"
_PUT = (
    f"INSERT INTO domain_label ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (at_us, id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:])
)
_LABELLED = ", ".join(f"domain_label.{name}" for name in _COLUMNS)
_WITH_TEXT = (
    f"SELECT {_LABELLED}, prompt_sample.text FROM domain_label JOIN prompt_sample "
    "ON prompt_sample.at_us = domain_label.at_us AND prompt_sample.id = domain_label.id "
    "ORDER BY domain_label.labelled_us DESC, domain_label.at_us DESC LIMIT ?"
)
_AGREEMENT = (
    "SELECT predicted, by_chance, COUNT(*), SUM(CASE WHEN label = predicted THEN 1 ELSE 0 END) FROM domain_label "
    "WHERE predicted IS NOT NULL GROUP BY predicted, by_chance ORDER BY predicted, by_chance"
)


class Labels:
    """Reads and writes labels, one for each request; all methods block.

    All raise RecordsUnavailable when the database cannot be used now.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, label: Label) -> None:
        """Store one; an earlier one of the same request is replaced."""
        with self._database.writing() as session:
            session.run(_PUT, _values(label))

    def undo(self, who: str) -> Label | None:
        """Take back somebody's last label and return it; None: there is none of theirs."""
        with self._database.writing() as session:
            rows = session.run(
                f"{_SELECT} WHERE who = ? ORDER BY labelled_us DESC, at_us DESC, id DESC LIMIT 1", (who,)
            )
            if not rows:
                return None
            label = _label(rows[0])
            session.run("DELETE FROM domain_label WHERE at_us = ? AND id = ?", (label.at_us, label.id))
        return label

    def find(self, at_us: int, id: str) -> Label | None:
        """Return a request's label; None: it has none."""
        with self._database.reading() as session:
            rows = session.run(f"{_SELECT} WHERE at_us = ? AND id = ?", (at_us, id))
        return _label(rows[0]) if rows else None

    def newest(self, limit: int = 10_000, since_us: int = 0, until_us: int = LATEST_US) -> list[Label]:
        """Return the labels of the requests of a time, the newest request first."""
        with self._database.reading() as session:
            rows = session.run(
                f"{_SELECT} WHERE at_us >= ? AND at_us < ? ORDER BY at_us DESC, id DESC LIMIT ?",
                (since_us, until_us, min(limit, MOST)),
            )
        return [_label(row) for row in rows]

    def last(self, limit: int) -> list[Label]:
        """Return the labels that were given last, the last one first."""
        with self._database.reading() as session:
            rows = session.run(f"{_SELECT} ORDER BY labelled_us DESC LIMIT ?", (limit,))
        return [_label(row) for row in rows]

    def with_text(self, limit: int = MOST) -> list[tuple[Label, str]]:
        """Return labels of prompts that are kept, with their text, the last label first: of equal texts it counts."""
        with self._database.reading() as session:
            rows = session.run(_WITH_TEXT, (min(limit, MOST),))
        return [(_label(row[:-1]), row[-1]) for row in rows]

    def agreement(self) -> list[Agreement]:
        """Return how often labels and predictions agree, by predicted domain and by whether chance picked them."""
        with self._database.reading() as session:
            rows = session.run(_AGREEMENT)
        return [Agreement(domain, bool(random), int(count), int(agreed)) for domain, random, count, agreed in rows]


def _values(label: Label) -> list[Any]:
    plain = (label.at_us, label.id, label.predicted, label.confidence, label.label)
    return [*plain, int(label.random), label.who, label.labelled_us]


def _label(row: Sequence[Any]) -> Label:
    at_us, id, predicted, confidence, label, random, who, labelled_us = row
    return Label(at_us, id, predicted, confidence, label, bool(random), who, labelled_us)
