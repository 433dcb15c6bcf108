"""Consult: on a close call a specialist writes a note first, and the generalist answers with it at hand.

After Knowledge Card (arXiv 2305.09955). The note helps or is left out; it never fails the request.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from gateway.errors import UpstreamError
from gateway.rewriting import with_system
from gateway.strategies import Options
from gateway.strategies._calls import Call, Calls, Job, Result, Skip
from gateway.types import GENERALIST, Candidate, Expert

TEMPLATE = (
    "A specialist model wrote the following note on the user's last message. It may be wrong or beside the point: "
    "check it, use what helps, and do not mention it.\n<note>\n{passage}\n</note>"
)
# A note is prose, whatever form the answer must have.
_NOT_FOR_NOTES = frozenset(
    {"response_format", "structured_outputs", "logprobs", "top_logprobs", "ignore_eos", "min_tokens"}
    | {"max_completion_tokens", "n", "stop"}
)


class Strategy(Options):
    """A specialist's note for whoever answers."""

    margin: float = Field(
        0.3, ge=0, le=1, description="Largest lead of the best domain at which a specialist is asked; 1: always."
    )
    floor: float = Field(0.15, ge=0, le=1, description="Least probability of the asked specialist's domains.")
    max_tokens: int = Field(512, ge=1, le=8_192, description="Longest note, in tokens.")
    deadline_s: float = Field(10, gt=0, le=600, description="Longest wait for the note.")
    template: str = Field(TEMPLATE, max_length=65_536, description="How the note is put; must hold `{passage}`.")
    by: str = Field(GENERALIST, description="Who answers with the note.")

    @field_validator("template")
    @classmethod
    def _has_place(cls, template: str) -> str:
        if "{passage}" not in template:
            raise ValueError("must hold {passage}")
        return template

    def named_experts(self) -> tuple[str, ...]:
        """Return who answers."""
        return (self.by,)

    def participants(self, job: Job) -> tuple[Expert, ...] | Skip:
        """Return the specialist that is asked and who answers."""
        answering, scores = job.candidate(self.by), job.routing.scores
        if answering is None:
            return Skip.INELIGIBLE
        if scores is None:
            return Skip.NO_SCORES
        if scores.margin() > self.margin:
            return Skip.CLEAR
        specialist = self._specialist(job, answering)
        return Skip.NO_SPECIALIST if specialist is None else (specialist, answering)

    async def answer(self, job: Job, calls: Calls) -> Result:
        """Get the note, then the answer."""
        plan = self.participants(job)
        assert not isinstance(plan, Skip), "skipped otherwise"
        specialist, answering = plan
        chain = [answering, *(expert for expert in job.chain if expert is not answering)]
        note = await self._note(job, calls, specialist)
        if note is None:
            call = await calls.open(job.body, chain)
            return Result(call, call.answer, "left_out")
        text = self.template.replace("{passage}", note)
        body = {**job.body, "messages": with_system(list(job.body["messages"]), text, first=False)}
        call = await calls.open(body, chain)
        if call.refused:
            # Most likely the note made it too long.
            call.drop()
            call = await calls.open(job.body, chain)
            return Result(call, call.answer, "left_out")
        return Result(call, call.answer, "consulted")

    async def _note(self, job: Job, calls: Calls, specialist: Expert) -> str | None:
        body = {name: value for name, value in job.body.items() if name not in _NOT_FOR_NOTES}
        given = (job.body.get(name) for name in ("max_completion_tokens", "max_tokens"))
        body["max_tokens"] = min([self.max_tokens, *(limit for limit in given if limit)])
        try:
            call = await calls.ask(body, [specialist], self.deadline_s)
        except UpstreamError:
            return None
        return _text_of(call) if call.answered else None

    def _specialist(self, job: Job, answering: Expert) -> Expert | None:
        """Return the best one: by measured quality, then by how likely the prompt is of its domains."""
        assert job.routing.scores is not None, "skipped otherwise"
        likely = job.routing.scores.as_dict()

        def share(candidate: Candidate) -> float:
            return sum(likely.get(domain, 0.0) for domain in candidate.expert.domains)

        others = [c for c in job.routing.candidates if c.expert is not answering and share(c) >= self.floor]
        best = max(others, key=lambda c: (c.quality or 0.0, share(c)), default=None)
        return None if best is None else best.expert


def _text_of(call: Call) -> str | None:
    """Return the visible text of a plain answer, None when there is none."""
    choices: Any = call.body().get("choices")
    try:
        text = choices[0]["message"]["content"]
    except (TypeError, KeyError, IndexError):
        return None
    return text.strip() or None if isinstance(text, str) else None
