"""Outcomes as arrays: one row a prompt, one column an expert. It must not know a file or a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.errors import DataError

Array = NDArray[np.float64]
Prices = Mapping[str, tuple[float, float]]
"""Expert to its prices per million input tokens and per million output tokens."""

CHARS_PER_TOKEN: Final = 4
"""English text in common tokenizers; used where a file tells lengths in characters or not at all."""
USUAL_COMPLETION_TOKENS: Final = 256.0
_PER_MILLION: Final = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeTable:
    """What each of m experts scored on each of n prompts.

    Attributes:
        prompts: n texts; "" where only a domain is known.
        domains: n labels as given by the file, None where it gives none.
        groups: n names of the task, subject or source a prompt belongs to, "" when unknown.
        experts: m names, in column order.
        scores: float64 (n, m), 0 to 1, NaN where there is none.
        cost: float64 (n, m), money per request, NaN where there is none; None when nothing is known.
        input_tokens: float64 (n, m), NaN where unknown; None when nothing is known.
        output_tokens: float64 (n, m), the same.
        weights: float64 (n,), above 0, how much a row counts in the domain it names; None: one whole prompt each.
    """

    prompts: tuple[str, ...]
    domains: tuple[str | None, ...]
    groups: tuple[str, ...]
    experts: tuple[str, ...]
    scores: Array
    cost: Array | None = None
    input_tokens: Array | None = None
    output_tokens: Array | None = None
    weights: Array | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, indices: ArrayLike) -> Self:
        """Return the table of some rows (indices or a mask), in that order."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        return replace(
            self,
            prompts=tuple(self.prompts[row] for row in chosen),
            domains=tuple(self.domains[row] for row in chosen),
            groups=tuple(self.groups[row] for row in chosen),
            scores=self.scores[chosen],
            cost=_rows(self.cost, chosen),
            input_tokens=_rows(self.input_tokens, chosen),
            output_tokens=_rows(self.output_tokens, chosen),
            weights=_rows(self.weights, chosen),
        )

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Return the table with experts renamed (old name to new name).

        Raises:
            DataError: an old name is no expert, or two experts would have one name.
        """
        unknown = [name for name in names if name not in self.experts]
        if unknown:
            raise DataError(f"no expert {unknown[0]!r} in the outcomes; they have {', '.join(self.experts)}")
        experts = tuple(names.get(expert, expert) for expert in self.experts)
        if len(set(experts)) != len(experts):
            raise DataError("two experts would have the same name")
        return replace(self, experts=experts)

    def priced(self, prices: Prices, *, completion_tokens: float = USUAL_COMPLETION_TOKENS) -> Self:
        """Return the table with costs worked out from prices wherever none was recorded.

        Unknown input tokens are estimated from the prompt's length, unknown output tokens are `completion_tokens`.
        Experts without a price stay without cost.
        """
        shape = self.scores.shape
        guessed = np.array([len(prompt) / CHARS_PER_TOKEN for prompt in self.prompts]).reshape(-1, 1)
        inputs = _filled(self.input_tokens, np.broadcast_to(guessed, shape))
        outputs = _filled(self.output_tokens, np.full(shape, completion_tokens))
        rates = np.array([prices.get(expert, (np.nan, np.nan)) for expert in self.experts]).reshape(-1, 2)
        worked_out = (inputs * rates[:, 0] + outputs * rates[:, 1]) / _PER_MILLION
        return replace(self, cost=_filled(self.cost, worked_out))


def join(tables: Sequence[OutcomeTable]) -> OutcomeTable:
    """Return the rows of all tables, one after the other, over all their experts; scores that are not there are NaN.

    Raises:
        DataError: there is no table.
    """
    if not tables:
        raise DataError("no outcomes")
    experts = tuple(dict.fromkeys(expert for table in tables for expert in table.experts))
    return OutcomeTable(
        prompts=tuple(prompt for table in tables for prompt in table.prompts),
        domains=tuple(domain for table in tables for domain in table.domains),
        groups=tuple(group for table in tables for group in table.groups),
        experts=experts,
        scores=np.concatenate([_spread(table, table.scores, experts) for table in tables]),
        cost=_stacked([(table, table.cost) for table in tables], experts),
        input_tokens=_stacked([(table, table.input_tokens) for table in tables], experts),
        output_tokens=_stacked([(table, table.output_tokens) for table in tables], experts),
        weights=_joined_weights(tables),
    )


def from_scores(scores: Iterable[tuple[str, str, float]], weights: Sequence[float] | None = None) -> OutcomeTable:
    """Return a table with a row for each (domain, expert, score), as feedback gives them; no prompts.

    Args:
        scores: the rows.
        weights: how sure the domain of each row is, above 0 to 1; None: all are.

    Raises:
        DataError: there is none, a score is not a number from 0 to 1, or the weights do not fit.
    """
    rows = list(scores)
    if not rows or not all(0 <= score <= 1 for _, _, score in rows):
        raise DataError("needs scores, each a number from 0 to 1")
    if weights is not None and not (len(weights) == len(rows) and all(0 < weight <= 1 for weight in weights)):
        raise DataError("needs a weight for each score, above 0 and at most 1")
    experts = tuple(dict.fromkeys(expert for _, expert, _ in rows))
    values = np.full((len(rows), len(experts)), np.nan)
    for row, (_, expert, score) in enumerate(rows):
        values[row, experts.index(expert)] = score
    return OutcomeTable(
        prompts=("",) * len(rows),
        domains=tuple(domain for domain, _, _ in rows),
        groups=("",) * len(rows),
        experts=experts,
        scores=values,
        weights=None if weights is None else np.array(weights, dtype=np.float64),
    )


def _rows(values: Array | None, chosen: NDArray[np.intp]) -> Array | None:
    return None if values is None else values[chosen]


def _joined_weights(tables: Sequence[OutcomeTable]) -> Array | None:
    if all(table.weights is None for table in tables):
        return None
    return np.concatenate([np.ones(len(table)) if table.weights is None else table.weights for table in tables])


def _filled(values: Array | None, default: Array) -> Array:
    return np.array(default) if values is None else np.where(np.isnan(values), default, values)


def _stacked(parts: Sequence[tuple[OutcomeTable, Array | None]], experts: tuple[str, ...]) -> Array | None:
    if all(values is None for _, values in parts):
        return None
    return np.concatenate([_spread(table, values, experts) for table, values in parts])


def _spread(table: OutcomeTable, values: Array | None, experts: tuple[str, ...]) -> Array:
    spread = np.full((len(table), len(experts)), np.nan)
    if values is not None:
        spread[:, [experts.index(expert) for expert in table.experts]] = values
    return spread
