"""How far confidence is deserved, from labels that people gave to stored requests. Reads and changes no label.

Only requests that chance picked stand for all traffic: those picked for a small margin, or because a caller was not
content, are wrong more often at the same confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.admin.reliability import Reliability, reliability, wilson
from gateway.stores.prompts.contract import Label
from router import Thresholds

Picked = Literal["chance", "all"]
FEW = 30
"""With fewer labels than this a diagram says little."""


@dataclass(frozen=True, slots=True)
class Side:
    """Labelled requests on one side of their domain's threshold.

    Attributes:
        count: how many.
        right: how many the classifier had right.
        low, high: 95 % interval of the share of right ones.
    """

    count: int
    right: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Return the share of right ones; None of nothing."""
        return self.right / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Labelled:
    """What labels say.

    Attributes:
        picked: which requests are counted: those that chance picked, or all labelled ones.
        by_chance: how many labels there are of requests that chance picked.
        all: how many there are at all, of scored requests.
        diagram: of those counted.
        acted, abstained: those at or above their domain's threshold, and those below.
    """

    picked: Picked
    by_chance: int
    all: int
    diagram: Reliability
    acted: Side
    abstained: Side

    @property
    def is_thin(self) -> bool:
        """Tell whether so few labels say little."""
        return self.diagram.count < FEW


def labelled(
    labels: Sequence[Label], thresholds: Thresholds, picked: Picked = "chance", domain: str | None = None
) -> Labelled:
    """Compare confidence with labels.

    Args:
        labels: as the store has them; those of requests that were not scored do not count.
        thresholds: those in effect.
        picked: which are counted.
        domain: only requests predicted to be of it; None: all.
    """
    scored = [(one, one.predicted, one.confidence) for one in labels if one.confidence is not None]
    mine = [(one, name, sure) for one, name, sure in scored if name is not None and domain in (None, name)]
    counted = [(one.agrees, name, sure) for one, name, sure in mine if picked == "all" or one.random]
    return Labelled(
        picked=picked,
        by_chance=sum(one.random for one, _, _ in mine),
        all=len(mine),
        diagram=reliability([sure for _, _, sure in counted], [right for right, _, _ in counted]),
        acted=_side([right for right, name, sure in counted if sure >= thresholds.of(name)]),
        abstained=_side([right for right, name, sure in counted if sure < thresholds.of(name)]),
    )


def _side(right: Sequence[bool]) -> Side:
    return Side(len(right), sum(right), *wilson(sum(right), len(right)))
