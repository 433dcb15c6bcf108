"""Adds up decisions by reason, domain and expert, from sums by the minute, hour or day. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.stores.records.contract import Run
from gateway.stores.records.queries import RollupFilter
from gateway.stores.records.sums import Sum, sums
from gateway.types import GENERALIST, Reason

POINTS = 200


class Family(StrEnum):
    """What a reason says of who decided; in the order in which pages show them."""

    SCORED = "scored"
    """The scores chose the expert."""
    ABSTAINED = "abstained"
    """The classifier left the prompt to the generalist, or could not score it."""
    CONVERSATION = "conversation"
    """The conversation's own expert."""
    CONSTRAINED = "constrained"
    """The wanted expert could not take it."""
    GIVEN = "given"
    """The client or the configuration said so."""
    UNDECIDED = "undecided"
    """Refused before anything was decided."""


_FAMILIES: dict[Family, tuple[Reason, ...]] = {
    Family.SCORED: (Reason.CONFIDENT, Reason.EXPECTED_QUALITY, Reason.QUALITY_FLOOR, Reason.UNCOVERED_DOMAIN),
    Family.ABSTAINED: (
        *(Reason.LOW_CONFIDENCE, Reason.SMALL_MARGIN, Reason.OUT_OF_DOMAIN, Reason.DISAGREEMENT),
        *(Reason.NO_TEXT, Reason.SCORER_ERROR, Reason.SCORER_TIMEOUT),
    ),
    Family.CONVERSATION: (Reason.SESSION, Reason.TOOL_LOCK),
    Family.GIVEN: (Reason.PINNED, Reason.REQUESTED_DOMAIN, Reason.FIXED, Reason.SPLIT),
}
ABSTENTIONS: tuple[str, ...] = tuple(reason.value for reason in _FAMILIES[Family.ABSTAINED])


@dataclass(frozen=True, slots=True)
class Matrix:
    """Requests by two dimensions.

    Attributes:
        rows: domains, the most frequent first; "" where there is none.
        columns: experts that answered, the generalist first; "" for nobody.
        counts: requests by domain and expert.
    """

    rows: list[str]
    columns: list[str]
    counts: Mapping[tuple[str, str], int]

    def row_total(self, row: str) -> int:
        """Return the requests of a domain."""
        return sum(self.counts.get((row, column), 0) for column in self.columns)

    def column_total(self, column: str) -> int:
        """Return the requests of an expert."""
        return sum(self.counts.get((row, column), 0) for row in self.rows)

    def level(self, row: str, column: str) -> int:
        """Return the share of its row as one of five steps; 0: nothing."""
        count, total = self.counts.get((row, column), 0), self.row_total(row)
        return min(5, 1 + int(5 * count / total)) if count else 0


@dataclass(frozen=True, slots=True)
class Decided:
    """Decisions of a span of time.

    Attributes:
        total: requests.
        by_reason: requests by reason code, the most frequent first; "" where nothing was decided.
        matrix: by domain and by who answered.
        over_time: requests by start of a part of the span, and reason.
    """

    total: int
    by_reason: dict[str, int]
    matrix: Matrix
    over_time: Mapping[int, Mapping[str, int]]

    def of(self, family: Family) -> int:
        """Return the requests of a family of reasons."""
        return sum(count for reason, count in self.by_reason.items() if family_of(reason) is family)


def family_of(reason: str) -> Family:
    """Return which family a reason code belongs to; codes that are not known count as constraints."""
    if not reason:
        return Family.UNDECIDED
    return next((family for family, reasons in _FAMILIES.items() if reason in reasons), Family.CONSTRAINED)


def decided(run: Run, wanted: RollupFilter) -> Decided:
    """Ask for the decisions of a span of time; rollups only.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    over_time: dict[int, dict[str, int]] = {}
    for one in sums(run, wanted, ("reason",), over_time=True, points=POINTS):
        over_time.setdefault(one.at_s or 0, {})[one.names[0]] = int(one["requests"])
    by_reason = _added(over_time.values())
    cells = sums(run, wanted, ("domain", "chosen"), points=POINTS)
    return Decided(sum(by_reason.values()), by_reason, matrix_of(cells), over_time)


def matrix_of(cells: Iterable[Sum]) -> Matrix:
    """Return a matrix of sums by domain and expert."""
    counts = {(one.names[0], one.names[1]): int(one["requests"]) for one in cells}
    rows, columns = {row for row, _ in counts}, {column for _, column in counts}
    by_row = {row: sum(count for (name, _), count in counts.items() if name == row) for row in rows}
    return Matrix(
        sorted(rows, key=lambda row: (row == "", -by_row[row], row)),
        sorted(columns, key=lambda column: (column == "", column != GENERALIST, column)),
        counts,
    )


def _added(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for reason, count in part.items():
            total[reason] = total.get(reason, 0) + count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
