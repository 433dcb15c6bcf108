"""What a comparison is told beside outcomes and choices. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from router.replay.noise import Noisy


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a comparison.

    Attributes:
        generalist: name of an expert.
        groups: n labels for the domain oracle, None when nobody knows them.
        labels: what these labels are, for readers.
        noisy: the policy whose break-even accuracy is wanted.
        title: heading of the report.
        currency: of the costs.
        notes: what a reader must know, in sentences.
        draws: bootstrap draws, at least 1.
        seed: seeds them.
    """

    generalist: str
    groups: tuple[str, ...] | None = None
    labels: str = ""
    noisy: Noisy | None = None
    title: str = "outcomes"
    currency: str = "USD"
    notes: tuple[str, ...] = ()
    draws: int = 1000
    seed: int = 7
