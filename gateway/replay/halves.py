"""Splits prompts into those that a quality table is fitted on and those that are replayed with it. Nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router import DataError

HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows to fit on and rows to replay; no prompt is in both.

    Attributes:
        fitted: int, rows in rising order; empty when nothing is fitted.
        replayed: int, the same.
    """

    fitted: NDArray[np.intp]
    replayed: NDArray[np.intp]


def splits(prompts: Sequence[str], share: float, seed: int) -> list[Split]:
    """Split at random. At one half both halves are replayed, each with what was fitted on the other.

    Args:
        prompts: n texts; equal ones stay together, "" is equal to none.
        share: part of the prompts that is fitted on, above 0 and below 1.
        seed: seeds the draw.

    Raises:
        DataError: there are fewer than two different prompts.
    """
    texts = [prompt or f"\0{row}" for row, prompt in enumerate(prompts)]
    distinct, members = np.unique(np.array(texts, dtype=object), return_inverse=True)
    if len(distinct) < 2:
        raise DataError("fewer than two different prompts: nothing to fit on and replay")
    order = np.random.default_rng(seed).permutation(len(distinct))
    fitted = np.isin(members, order[: min(max(1, round(share * len(distinct))), len(distinct) - 1)])
    first = Split(np.flatnonzero(fitted), np.flatnonzero(~fitted))
    return [first, Split(first.replayed, first.fitted)] if share == HALF else [first]
