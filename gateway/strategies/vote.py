"""Vote: several samples of one prompt, and the answer that most of them reach (arXiv 2203.11171, 2402.05120).

Samples are calls of their own, so that the rest is stopped once nothing can change the outcome (Adaptive-Consistency,
arXiv 2305.11860); without that, one call with `n`. For answers that can be compared: numbers, options, JSON.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from gateway.answers import Opened, Usage
from gateway.errors import PointsmanError, UpstreamError
from gateway.strategies import Options, _made
from gateway.strategies._calls import Call, Calls, Job, Result, Skip
from gateway.strategies._extract import Extract, extract
from gateway.types import Expert

MAXIMUM_SAMPLES = 16


class Sample(NamedTuple):
    """One sample: which, out of which answer, and what it votes for; None abstains."""

    number: int
    call: Call
    body: dict[str, Any]
    choice: dict[str, Any]
    vote: str | None


class Strategy(Options):
    """The majority of several samples."""

    samples: int = Field(5, ge=2, le=MAXIMUM_SAMPLES, description="How many samples are asked for.")
    experts: tuple[str, ...] = Field((), description="Who is asked in turn; left out: the decided expert.")
    temperature: float = Field(
        0.7, gt=0, le=2, description="Used where the request has none, or 0, at which all samples are the same."
    )
    extract: Extract = Field(
        "auto", description="What samples are compared by: `auto`, `number`, `choice`, `boxed`, `json`, `text`."
    )
    early_stop: bool = Field(
        True, description="Stop the rest once the majority stands; false asks one expert for all samples in one call."
    )

    @field_validator("experts")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("an expert is listed twice")
        return names

    def named_experts(self) -> tuple[str, ...]:
        """Return who is asked."""
        return self.experts

    def participants(self, job: Job) -> tuple[Expert, ...] | Skip:
        """Return the expert of each sample; experts that cannot take the request are left out."""
        if not self.experts:
            return (job.decision.expert,) * self.samples
        able = [expert for name in self.experts if (expert := job.candidate(name)) is not None]
        return tuple(able[i % len(able)] for i in range(self.samples)) if able else Skip.INELIGIBLE

    async def answer(self, job: Job, calls: Calls) -> Result:
        """Sample, count, and answer with the first sample of the majority."""
        experts = self.participants(job)
        assert not isinstance(experts, Skip), "skipped otherwise"
        one_call = not self.early_stop and len(set(experts)) == 1
        voting = _Voting(self, job, calls, experts)
        samples = await (voting.at_once() if one_call else voting.one_by_one())
        if voting.refused is not None:
            return Result(voting.refused, voting.refused.answer, "refused")
        if not samples:
            # Nobody sampled; whoever is left answers the plain way.
            left = [expert for expert in job.chain if expert not in experts]
            call = await calls.open(job.body, left or job.chain)
            return Result(call, call.answer, "failed_over")
        winner, outcome = decide(samples, len(experts))
        return Result(winner.call, _opened(job, winner, samples), outcome)


def decide(samples: list[Sample], asked: int) -> tuple[Sample, str]:
    """Return the first sample of the most frequent vote, and how clear it was.

    Args:
        samples: at least one.
        asked: how many were asked for, stopped and failed ones too.
    """
    samples = sorted(samples, key=lambda sample: sample.number)
    counts = Counter(sample.vote for sample in samples if sample.vote is not None)
    if not counts:
        return samples[0], "no_majority"
    # Votes in order of their first sample: of equals the earlier wins.
    (vote, most), *others = counts.most_common()
    winner = next(sample for sample in samples if sample.vote == vote)
    if 2 * most > asked:
        return winner, "majority"
    tied = most == 1 or bool(others and others[0][1] == most)
    return winner, "no_majority" if tied else "plurality"


def settled(votes: list[str | None], open_calls: int) -> bool:
    """Tell whether the winner stands whatever the calls that are still open bring."""
    counts = [count for _, count in Counter(vote for vote in votes if vote is not None).most_common(2)]
    return bool(counts) and counts[0] > (counts[1] if len(counts) > 1 else 0) + open_calls


class _Voting:
    """The samples of one request.

    Attributes:
        refused: an answer that blames the request; it ends the vote.
    """

    def __init__(self, options: Strategy, job: Job, calls: Calls, experts: tuple[Expert, ...]) -> None:
        self._options = options
        self._body = dict(job.body)
        self._calls = calls
        self._experts = experts
        self.refused: Call | None = None
        if not self._body.get("temperature"):
            self._body["temperature"] = options.temperature
        self._body.pop("n", None)

    async def at_once(self) -> list[Sample]:
        """Ask for all samples in one call; who refuses `n`, which is ours, is asked for each alone."""
        asked = len(self._experts)
        try:
            call = await self._calls.ask({**self._body, "n": asked}, self._experts[:1])
        except UpstreamError:
            return []
        if call.refused:
            return await self.one_by_one()
        samples = self._samples(0, call) if call.answered else []
        _share(call, len(samples))
        return samples

    async def one_by_one(self) -> list[Sample]:
        """Ask for each sample in a call of its own, all at the same time, until the winner stands.

        Raises:
            PointsmanError: something else than an expert's failure.
        """
        samples: list[Sample] = []
        finished: asyncio.Queue[tuple[int, Call | PointsmanError]] = asyncio.Queue()
        failure: PointsmanError | None = None
        refused: Call | None = None
        # What one expert cannot take, another may.
        one_expert = len(set(self._experts)) == 1
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(number, finished)) for number in range(len(self._experts))]
            for left in reversed(range(len(tasks))):
                number, call = await finished.get()
                if isinstance(call, PointsmanError):
                    failure = None if isinstance(call, UpstreamError) else call
                elif call.refused:
                    refused = refused or call
                elif call.answered:
                    samples += self._samples(number, call)
                if (refused and one_expert) or failure or settled([sample.vote for sample in samples], left):
                    break
            for task in tasks:
                task.cancel()
        if failure is not None:
            raise failure
        self.refused = None if samples else refused
        return samples

    async def _ask(self, number: int, finished: asyncio.Queue[tuple[int, Call | PointsmanError]]) -> None:
        body = self._body
        seed = body.get("seed")
        if isinstance(seed, int):
            # As vLLM does for `n`: the same seed would give the same sample every time.
            body = {**body, "seed": seed + number}
        try:
            finished.put_nowait((number, await self._calls.ask(body, [self._experts[number]])))
        except PointsmanError as error:
            # Told, not raised: one failed sample must not end the others.
            finished.put_nowait((number, error))

    def _samples(self, number: int, call: Call) -> list[Sample]:
        body = call.body()
        choices = body.get("choices")
        found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
        return [Sample(number + i, call, body, choice, self._vote(choice)) for i, choice in enumerate(found)]

    def _vote(self, choice: dict[str, Any]) -> str | None:
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        # What was cut off has not reached its answer.
        if not isinstance(text, str) or choice.get("finish_reason") == "length":
            return None
        return extract(text, self._options.extract)


def _opened(job: Job, winner: Sample, samples: list[Sample]) -> Opened:
    """Make the answer that the client gets; its usage is that of all samples, because all were made for it."""
    bodies = {id(sample.call): sample.body for sample in samples}
    usages = [usage for body in bodies.values() if isinstance(usage := body.get("usage"), dict)]
    body = _made.alone(winner.body, winner.choice, _made.summed(usages))
    return (_made.streamed if job.stream else _made.plain)(body, winner.call.usage)


def _share(call: Call, choices: int) -> None:
    """Count one of several choices as the answer; vLLM tells only the sum of their tokens."""
    total = call.usage.output_tokens
    if total is not None and choices > 1:
        call.usage = Usage(call.usage.input_tokens, -(-total // choices), call.usage.cached_tokens)
        call.spare = Usage(0, total - -(-total // choices))
