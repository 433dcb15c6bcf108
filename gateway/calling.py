"""The calls of a strategy: each goes out by the dispatcher, under limits of its own. Chooses nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.answers import Usage
from gateway.context import Attempt, RequestContext
from gateway.cutoff import Cutoff
from gateway.dispatch import Dispatcher
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.openai import ApiRequest
from gateway.strategies import Call
from gateway.types import Expert


class RequestCalls:
    """All calls that are made for one request; implements `strategies.Calls`.

    Args:
        dispatcher: sends requests.
        request: what the client sent.
        context: of the client's request.
        cutoff: of the client's request; ends all calls, in whatever task they run.
        event_limit_bytes: longest single event of a stream.

    Attributes:
        made: all calls, in the order in which they were made.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: ApiRequest,
        context: RequestContext,
        cutoff: Cutoff,
        event_limit_bytes: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._context = context
        self._cutoff = cutoff
        self._contexts: list[RequestContext] = []
        self._stopped: list[Call] = []
        self.event_limit_bytes = event_limit_bytes
        self.made: list[Call] = []

    @property
    def attempts(self) -> list[Attempt]:
        """The tries of all calls."""
        return [attempt for context in self._contexts for attempt in context.attempts]

    async def open(self, body: Mapping[str, Any], experts: Sequence[Expert]) -> Call:
        """Ask in the client's own mode; see `strategies.Calls.open`."""
        return await self._open(replace(self._request, body=dict(body)), experts, self._cutoff)

    async def ask(self, body: Mapping[str, Any], experts: Sequence[Expert], limit_s: float | None = None) -> Call:
        """Ask for a plain answer; see `strategies.Calls.ask`."""
        plain = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        request = replace(self._request, body=plain, stream=False, include_usage=False)
        # The client's cutoff belongs to its task, which waits for this one and ends it with its own end.
        cutoff = Cutoff(experts[0].timeouts.total_s * len(experts) if limit_s is None else limit_s)
        try:
            return await self._open(request, experts, cutoff)
        except UpstreamError:
            # Both limits may pass at once; a client that left must not be kept waiting for.
            self._cutoff.check()
            raise
        finally:
            cutoff.close()

    async def read(self, call: Call) -> bytes:
        """Read on in a stream; see `strategies.Calls.read`."""
        stream = call.answer.stream
        assert stream is not None, "a plain answer"
        with self._cutoff.phase(call.expert.timeouts.idle_s, _idle):
            return await stream.read_chunk()

    def note_answer(self, answering: Call) -> None:
        """Note in the client's context who answered."""
        context = self._contexts[self.made.index(answering)]
        self._context.chosen, self._context.usage = context.chosen, answering.usage
        self._context.rewrite, self._context.finish = context.rewrite, context.finish
        self._context.queue_s, self._context.connect_s = context.queue_s, context.connect_s

    def estimate_stopped(self) -> None:
        """Estimate what calls have cost that were stopped: they do not say so themselves."""
        for call in self._stopped:
            # One server gives the calls of one prompt about the same pace, so the last that finished tells best.
            alike = [other.usage for other in self.made if other.answered and other.expert is call.expert]
            call.usage = alike[-1] if alike else Usage(self._estimate(), None)

    async def _open(self, request: ApiRequest, experts: Sequence[Expert], cutoff: Cutoff) -> Call:
        call, context = self._begin(experts)
        try:
            call.opened = await self._dispatcher.open(request, context, cutoff)
        except BaseException as error:  # a cancellation among them
            self._note_stopped(call, context, error)
            raise
        call.usage = context.usage
        call.expert = context.catalog.experts[context.chosen or call.expert.name]
        return call

    def _note_stopped(self, call: Call, context: RequestContext, error: BaseException) -> None:
        """Note a call that we stopped while its server was at work; one whose server failed has cost nothing known."""
        failed = isinstance(error, UpstreamError) and not isinstance(error, UpstreamTimeout)
        if context.attempts and context.attempts[-1].sent and not failed:
            call.expert = context.catalog.experts[context.attempts[-1].expert]
            self._stopped.append(call)

    def _begin(self, experts: Sequence[Expert]) -> tuple[Call, RequestContext]:
        whole, number = self._context, len(self.made) + 1
        assert whole.decision is not None, "not decided"
        # vLLM names an answer by its request's id and wants no two of one name at once.
        request_id = whole.request_id if number == 1 else f"{whole.request_id}-{number}"
        context = RequestContext(request_id, whole.endpoint, whole.catalog, grant=whole.grant)
        context.running, context.conversation, context.started = whole.running, whole.conversation, whole.started
        context.decision = replace(whole.decision, expert=experts[0], fallbacks=tuple(experts[1:]))
        whole.dispatched = whole.dispatched or time.perf_counter()
        call = Call(experts[0])
        self.made.append(call)
        self._contexts.append(context)
        return call, context

    def _estimate(self) -> int | None:
        features = self._context.features
        return None if features is None else features.token_estimate


def _idle() -> UpstreamTimeout:
    return UpstreamTimeout("The expert's server fell silent in the middle of its answer.", code="upstream_idle")
