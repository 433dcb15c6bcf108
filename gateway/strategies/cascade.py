"""Cascade: the decided expert answers, and another does when the words came hesitantly. Judges nothing but that.

The measure is the mean log-probability of the answer's tokens, of a stream its first ones: the client waits for these
at most. It is a weak sign (Gupta et al. 2024, arXiv 2404.10136), so set the threshold on traffic of your own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from gateway.errors import UpstreamError
from gateway.strategies import Options
from gateway.strategies._calls import Call, Calls, Job, Result, Skip
from gateway.strategies._logprobs import Confidence, Unasked, without_logprobs
from gateway.types import GENERALIST, Expert


class Strategy(Options):
    """A cheap expert first, a better one when that was unsure."""

    threshold: float = Field(
        -0.5, le=0, ge=-20, description="Least mean log-probability of a token (natural logarithm)."
    )
    tokens: int = Field(32, ge=1, le=1024, description="Of a stream, how many tokens are held back and judged.")
    to: str = Field(GENERALIST, description="Who answers instead.")

    def named_experts(self) -> tuple[str, ...]:
        """Return who answers instead."""
        return (self.to,)

    def participants(self, job: Job) -> tuple[Expert, ...] | Skip:
        """Return both experts."""
        if job.decision.expert.name == self.to:
            return Skip.SAME_EXPERT
        if "logprobs" not in job.decision.expert.capabilities:
            return Skip.CAPABILITY
        better = job.candidate(self.to)
        return Skip.INELIGIBLE if better is None else (job.decision.expert, better)

    async def answer(self, job: Job, calls: Calls) -> Result:
        """Ask, judge, and ask again if need be."""
        body, first_expert = _with_logprobs(job), [job.decision.expert]
        try:
            first = await calls.open(body, first_expert)
            if first.refused and body != job.body:
                # What we asked for besides may be what it refuses; only a refusal of the client's own words is passed.
                first.drop()
                body, first = dict(job.body), await calls.open(job.body, first_expert)
        except UpstreamError:
            return await self._escalate(job, calls, "failed_over")
        if first.refused:
            return Result(first, first.answer, "refused")
        if not first.answered:
            first.drop()
            return await self._escalate(job, calls, "failed_over")
        if body == job.body and not job.body.get("logprobs"):
            return Result(first, first.answer, "unjudged")
        return await (self._streamed if job.stream else self._plain)(job, calls, first)

    async def _plain(self, job: Job, calls: Calls, first: Call) -> Result:
        body, confidence = first.body(), Confidence()
        confidence.add(body)
        untouched = not body or bool(job.body.get("logprobs"))
        opened = first.answer if untouched else replace(first.answer, first=without_logprobs(body))
        if self._sure(confidence):
            return Result(first, opened, _accepted(confidence))
        try:
            escalated = await self._escalate(job, calls, "escalated")
        except UpstreamError:
            escalated = None
        if escalated is None or not escalated.call.answered:
            # An unsure answer is better than none.
            return Result(first, opened, "escalation_failed")
        return escalated

    async def _streamed(self, job: Job, calls: Calls, first: Call) -> Result:
        options = job.body.get("stream_options") or {}
        stream = Unasked(
            first.answer,
            calls.event_limit_bytes,
            logprobs=bool(job.body.get("logprobs")),
            running_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
        )
        try:
            held = await self._hold(calls, first, stream)
        except UpstreamError:
            self._drop(job, first, stream)
            return await self._escalate(job, calls, "failed_over")
        except BaseException:
            self._drop(job, first, stream)
            raise
        if stream.failed or not held:
            self._drop(job, first, stream)
            return await self._escalate(job, calls, "failed_over")
        if self._sure(stream.confidence):
            return Result(first, replace(first.answer, first=held, stream=stream), _accepted(stream.confidence))
        self._drop(job, first, stream)
        return await self._escalate(job, calls, "escalated")

    async def _hold(self, calls: Calls, first: Call, stream: Unasked) -> bytes:
        """Read until enough tokens are there, the stream ends, or it fails; return what the client may see of it."""
        held = stream.feed(first.answer.first)
        # Events without a log-probability (comments, reasoning) must not hold up the client for ever either.
        events, bytes_ = 2 * self.tokens + 8, calls.event_limit_bytes
        while stream.confidence.tokens < self.tokens and stream.events < events and len(held) < bytes_:
            if stream.failed:
                break
            chunk = await calls.read(first)
            if not chunk:
                # An end that is none: nothing has gone out yet, so another may still answer.
                stream.failed = stream.failed or b"[DONE]" not in held
                return held + stream.rest()
            held += stream.feed(chunk)
        return held

    def _sure(self, confidence: Confidence) -> bool:
        return confidence.mean >= self.threshold

    async def _escalate(self, job: Job, calls: Calls, outcome: str) -> Result:
        better = job.candidate(self.to)
        assert better is not None, "skipped otherwise"
        first = job.decision.expert
        if outcome == "escalated":
            # The domain's own expert, unsure, before any other; of a plain answer it is still here.
            others = [first] if job.stream else []
        else:
            others = [*(expert for expert in job.chain if expert not in (better, first)), first]
        call = await calls.open(job.body, [better, *others])
        if job.stream and call.refused and outcome == "escalated":
            # The first did take the request, so this is about the other's own limits.
            call.drop()
            call = await calls.open(job.body, job.chain)
        if outcome == "escalated" and call.expert is first:
            outcome = "escalation_failed"
        return Result(call, call.answer, outcome)

    def _drop(self, job: Job, call: Call, stream: Unasked) -> None:
        """Stop the first expert and note what it has cost so far."""
        call.drop()
        usage = call.usage
        usage.input_tokens = stream.usage.input_tokens or job.routing.features.token_estimate
        usage.output_tokens = stream.usage.output_tokens or stream.confidence.tokens


def _accepted(confidence: Confidence) -> str:
    return "accepted" if confidence.tokens else "unjudged"


def _with_logprobs(job: Job) -> dict[str, Any]:
    body = {**job.body, "logprobs": True}
    if job.stream:
        # Usage on every chunk says what a dropped stream has cost; it is taken out again.
        options = {"include_usage": True, "continuous_usage_stats": True}
        body["stream_options"] = {**(job.body.get("stream_options") or {}), **options}
    return body
