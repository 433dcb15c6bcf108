"""What is expected of every expert for one request: quality, cost, latency. Excludes nobody and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.costs import tokens_cost
from gateway.pace import Pace
from gateway.types import Candidate, Catalog, Expert
from router import DomainScores

if TYPE_CHECKING:
    from router import QualityTable


class Estimator:
    """Estimates for one catalog.

    Args:
        catalog: the experts.
        labels: the classifier's domains, in its order.
        table: measured quality; None leaves quality out.
        pace: what was observed of lengths and speeds.
        completion_tokens: length of an answer as long as nothing better is known.
    """

    def __init__(
        self,
        catalog: Catalog,
        labels: tuple[str, ...],
        table: QualityTable | None,
        pace: Pace,
        completion_tokens: float,
    ) -> None:
        self._experts = tuple(catalog.experts.values())
        self._generalist = self._experts.index(catalog.generalist)
        self._labels = labels
        self._table = table
        self._columns = [table.experts.index(expert.name) for expert in self._experts] if table else []
        self._pace = pace
        self._completion_tokens = completion_tokens
        lengths = table.completion_tokens if table is not None else None
        self._lengths = None if lengths is None else dict(zip(labels, map(float, lengths), strict=True))

    def estimate(
        self, scores: DomainScores | None, prompt_tokens: int, max_tokens: int | None, answers: int, *, stream: bool
    ) -> tuple[Candidate, ...]:
        """Return every expert with what is expected of it, in the catalog's order.

        Args:
            scores: of the prompt, None when there are none.
            prompt_tokens: estimated.
            max_tokens: the request's own limit.
            answers: how many answers it wants (`n`).
            stream: latency is that of the first token.
        """
        domain = None if scores is None else scores.top()[0]
        length = self._length(domain)
        if max_tokens is not None:
            length = min(length, max_tokens)
        qualities = self._qualities(scores)
        return tuple(
            Candidate(
                expert,
                qualities[index] if qualities else None,
                _cost(expert, prompt_tokens, length * answers),
                self._pace.latency_s(expert.name, length, stream=stream),
            )
            for index, expert in enumerate(self._experts)
        )

    def usage(
        self, expert: Expert, domain: str | None, prompt_tokens: int, max_tokens: int | None, answers: int
    ) -> tuple[float, float | None]:
        """Return the tokens, prompt and answers, and the money that one expert is expected to use for a request."""
        length = self._length(domain)
        if max_tokens is not None:
            length = min(length, max_tokens)
        return prompt_tokens + length * answers, _cost(expert, prompt_tokens, length * answers)

    def reference(self, candidates: tuple[Candidate, ...]) -> Candidate:
        """Return the generalist among what `estimate` returned."""
        return candidates[self._generalist]

    def _qualities(self, scores: DomainScores | None) -> list[float]:
        if self._table is None or scores is None:
            return []
        expected = self._table.expect(scores.probabilities, scores.embedding)
        return [expected[column] for column in self._columns]

    def _length(self, domain: str | None) -> float:
        measured = None if self._lengths is None or domain is None else self._lengths.get(domain)
        return self._pace.completion_tokens(domain, self._completion_tokens if measured is None else measured)


def _cost(expert: Expert, prompt_tokens: int, completion_tokens: float) -> float | None:
    return None if expert.price is None else tokens_cost(expert.price, prompt_tokens, completion_tokens)
