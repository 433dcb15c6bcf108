"""Who is best where, with intervals, for people to read. It decides nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from router.quality.table import QualityTable


@dataclass(frozen=True, slots=True)
class Winner:
    """The best expert of one domain.

    Attributes:
        domain: the label.
        winner: the expert with the largest lower bound; the generalist wins a tie.
        mean: its posterior mean.
        low: lower end of the two-sided 95 % interval.
        high: upper end.
        generalist_mean: the generalist's posterior mean.
        count: prompts behind the winner.
    """

    domain: str
    winner: str
    mean: float
    low: float
    high: float
    generalist_mean: float
    count: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def winners(table: QualityTable) -> list[Winner]:
    """Return the winner of each domain, in the table's order."""
    low, high = table.interval()
    generalist = table.experts.index(table.generalist)
    rows = []
    for row, domain in enumerate(table.labels):
        best = int(np.argmax(table.lower[row]))
        column = generalist if table.lower[row, generalist] >= table.lower[row, best] else best
        rows.append(
            Winner(
                domain=domain,
                winner=table.experts[column],
                mean=table.mean[row, column].item(),
                low=low[row, column].item(),
                high=high[row, column].item(),
                generalist_mean=table.mean[row, generalist].item(),
                count=table.count[row, column].item(),
            )
        )
    return rows
