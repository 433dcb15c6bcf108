"""Opens the upstream: tries the chosen expert's servers, then the fallbacks, until one answers. Relays nothing.

A try may fail over as long as no byte of its answer has gone to the client: plain answers are read whole first
(they arrive in one piece anyway, and a cut one is then a clean 502 or another expert's answer), streams up to
their first bytes. What the client did wrong (4xx) is passed through, never retried; a 404 for the served model name,
which is ours, is a failed try.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import orjson

from gateway.adapters import denies_model
from gateway.answers import Opened
from gateway.breaker import Rank
from gateway.causes import cause_of
from gateway.context import Attempt, RequestContext
from gateway.cutoff import Cutoff
from gateway.errors import (
    UpstreamBadResponse,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamRefused,
    UpstreamReset,
    UpstreamSaturated,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.health import Fleet
from gateway.leases import Lease, UpstreamState
from gateway.limiter import Place
from gateway.metrics import Metrics
from gateway.openai import ApiRequest
from gateway.opening import Opening
from gateway.retry_budget import RetryBudget
from gateway.rewriting import rewritten
from gateway.settings import LimitSettings
from gateway.streaming import finish_of, note_usage
from gateway.types import Endpoint, Expert, Reason
from gateway.upstream import UpstreamClient, UpstreamResponse

# Another candidate may well answer; everything else is the request's own fault or needs an administrator.
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
USAGE_TAIL_BYTES = 4096
PARSED_WHOLE_BYTES = 256 * 1024


class Dispatcher:
    """Sends requests to upstreams."""

    def __init__(
        self, client: UpstreamClient, fleet: Fleet, metrics: Metrics, limits: LimitSettings, budget: RetryBudget
    ) -> None:
        self.budget = budget
        self._client = client
        self._fleet = fleet
        self._metrics = metrics
        self._limits = limits

    async def open(self, request: ApiRequest, context: RequestContext, cutoff: Cutoff) -> Opened:
        """Return the first answer that can be sent to the client.

        Args:
            request: what to send.
            context: has the decision; attempts are noted in it.
            cutoff: ends the waiting.

        Raises:
            UpstreamError: every candidate failed; the last one's error.
            ClientLeft: nobody waits any more.
        """
        failure: UpstreamError | Opened | None = None
        for expert, state in self._candidates(context):
            if failure is not None:
                if not await self._may_retry(context, failure):
                    self._metrics.reliability.exhausted.inc()
                    break
                self._metrics.retries.labels(context.attempts[-1].outcome).inc()
            attempt = Attempt(expert.name, state.url, began_s=context.since_start_s())
            context.attempts.append(attempt)
            try:
                opened = await self._timed(request, context, cutoff, expert, state)
            except UpstreamError as error:
                attempt.outcome = error.code
                self._note_failure(state, error)
                if not error.retryable:
                    raise
                # Whoever answered an error before did not answer this: the error shown is the last one's.
                failure, context.chosen = error, None
                continue
            attempt.status = opened.status
            attempt.outcome = "ok" if opened.status < 400 else "passed"
            context.chosen = expert.name
            if context.running is not None:
                context.running.began()
            if opened.status not in RETRYABLE_STATUSES:
                return opened
            attempt.outcome = f"status_{opened.status}"
            failure = opened
        if isinstance(failure, Opened):
            return failure
        raise failure or UpstreamUnreachable("The expert's servers are switched off.", code="upstream_disabled")

    def note_resume(self, outcome: str) -> None:
        """Count a stream that broke and was to go on at another server."""
        self._metrics.reliability.resumes.labels(outcome).inc()

    async def _may_retry(self, context: RequestContext, failure: UpstreamError | Opened) -> bool:
        """Ask the budget; what cost no server anything is free."""
        if isinstance(failure, UpstreamUnreachable | UpstreamSaturated) or context.running is None:
            return True
        return await context.running.retry(context.grant.name)

    def _candidates(self, context: RequestContext) -> Iterator[tuple[Expert, UpstreamState]]:
        """Yield whom to try: the chosen expert's servers, then each fallback's best.

        A lone server gets a second try after a reset, which a connection it closed while idle looks like.
        """
        decision = context.decision
        assert decision is not None
        key = None if context.conversation is None else str(context.conversation.draw).encode()
        states = [state for state in self._fleet.candidates(decision.expert, key) if state.url != context.avoided]
        for state in states:
            if self._fleet.takes(state, decision.expert):
                yield decision.expert, state
        if len(states) == 1 and context.attempts and context.attempts[-1].outcome == UpstreamReset.code:
            yield decision.expert, states[0]
        for expert in decision.fallbacks:
            best = next(iter(self._fleet.candidates(expert, key)), None)
            if best is not None and self._fleet.takes(best, expert):
                yield expert, best
        if not context.attempts:
            # Nobody takes requests: trying beats refusing.
            yield from ((decision.expert, state) for state in states)
            yield from (
                (expert, best) for expert in decision.fallbacks for best in self._fleet.candidates(expert, key)[:1]
            )

    async def _timed(
        self, request: ApiRequest, context: RequestContext, cutoff: Cutoff, expert: Expert, state: UpstreamState
    ) -> Opened:
        attempt = context.attempts[-1]
        try:
            return await self._try(request, context, cutoff, expert, state)
        finally:
            attempt.took_s = context.since_start_s() - (attempt.began_s or 0.0)

    async def _place(self, context: RequestContext, state: UpstreamState) -> Place:
        """Wait for a place at a server, and note how long that took."""
        asked = time.perf_counter()
        try:
            return await state.limiter.place(context.grant.name)
        finally:
            context.queue_s = (context.queue_s or 0.0) + time.perf_counter() - asked

    async def _try(
        self, request: ApiRequest, context: RequestContext, cutoff: Cutoff, expert: Expert, state: UpstreamState
    ) -> Opened:
        body = _as_sent(request, context, expert).encode(expert.model)
        context.dispatched = context.dispatched or time.perf_counter()
        url, timeouts = state.url + request.endpoint.path, expert.timeouts
        if state.breaker.rank is Rank.SATURATED:
            seconds = str(max(1, ceil(state.breaker.busy_s)))
            raise UpstreamSaturated("The expert's servers are busy.", headers=(("retry-after", seconds),))
        lease = Lease(state, await self._place(context, state), cause_of(context.grant.name, body))
        context.attempts[-1].sent = True
        try:
            with cutoff.phase(timeouts.first_token_s if request.stream else timeouts.total_s, _no_first_token):
                lease.response = await self._client.post(url, body, _headers(context, expert), timeouts.connect_s)
                context.connect_s = lease.response.connect_s
                opened = await self._read_opening(request, context, lease)
        except UpstreamError as error:
            lease.ended(error)
            raise
        except BaseException:
            lease.close()
            raise
        self._fleet.succeeded(state)
        if opened.stream is None:
            lease.answered(opened.status, opened.retry_after)
        else:
            lease.began()
        if denies_model(opened.status, opened.first, expert.model):
            self._fleet.lost(state, expert.model)
            raise UpstreamModelMissing("The expert's server does not have its model at the moment.")
        return opened

    async def _read_opening(self, request: ApiRequest, context: RequestContext, lease: Lease) -> Opened:
        response = lease.response
        assert response is not None
        status, content_type = response.status, response.header("content-type") or ""
        if status in (401, 403):
            raise UpstreamRefused("The expert's server refused the gateway's credentials.")
        if status < 200 or 300 <= status < 400:
            raise UpstreamRefused("The expert's server answered with a redirect.", code="upstream_redirect")
        if response.header("content-encoding") not in (None, "identity"):
            raise UpstreamBadResponse("The expert's server sent a compressed answer.")
        if status == 200 and request.stream:
            return await self._read_stream_start(request.endpoint, response, content_type, lease)
        body = await response.read_all(self._limits.response_bytes)
        if status == 200:
            if not content_type.startswith("application/json"):
                raise UpstreamBadResponse("The expert's server did not answer with JSON.")
            _read_plain(body, context)
        return Opened(status, content_type, body, lease, retry_after=response.header("retry-after"))

    async def _read_stream_start(
        self, endpoint: Endpoint, response: UpstreamResponse, content_type: str, lease: Lease
    ) -> Opened:
        if not content_type.startswith("text/event-stream"):
            raise UpstreamBadResponse("The expert's server did not answer with a stream.")
        opening = Opening(endpoint, self._limits.event_bytes)
        while not opening.begun:
            chunk = await response.read_chunk()
            if not chunk:
                raise UpstreamReset("The expert's server ended its stream before it began.")
            opening.feed(chunk)
        return Opened(200, content_type, opening.held, lease, stream=response)

    def _note_failure(self, state: UpstreamState, error: UpstreamError) -> None:
        # A refusal of our key or a bad body says nothing about whether the server is up.
        if isinstance(error, UpstreamUnreachable):
            self._fleet.failed(state, error.code)


def _read_plain(body: bytes, context: RequestContext) -> None:
    """Check that a plain answer is complete JSON and note its usage.

    Raises:
        UpstreamBadResponse: it is not. Long ones (embeddings) are checked by their end only: parsing megabytes
            would hold up every other request.
    """
    if len(body) > PARSED_WHOLE_BYTES:
        if not body.rstrip().endswith(b"}"):
            raise UpstreamBadResponse("The expert's answer is incomplete.")
        _, found, tail = body[-USAGE_TAIL_BYTES:].rpartition(b'"usage":')
        answer = b'{"usage":' + tail if found else b"{}"
    else:
        answer = body
    try:
        parsed = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        if answer is not body:
            return
        raise UpstreamBadResponse("The expert's answer is not valid JSON.") from error
    if not isinstance(parsed, dict):
        return
    context.finish = finish_of(parsed)
    if isinstance(usage := parsed.get("usage"), dict):
        note_usage(context.usage, usage)


def _as_sent(request: ApiRequest, context: RequestContext, expert: Expert) -> ApiRequest:
    """Return the request with the expert's own rewrite, and note it; a client that named the expert gets it bare."""
    rewrite, decision = expert.rewrite, context.decision
    if rewrite is None or request.endpoint is not Endpoint.CHAT or (decision and decision.reason is Reason.PINNED):
        context.rewrite = None
        return request
    context.rewrite = rewrite.digest
    return replace(request, body=rewritten(request.body, rewrite))


def _headers(context: RequestContext, expert: Expert) -> dict[str, str]:
    """Return all headers an upstream gets: an allow-list of our own making, nothing of the client's."""
    headers = {
        "content-type": "application/json",
        "accept": "*/*",
        "x-request-id": context.request_id,
        "user-agent": "pointsman",
    }
    if expert.authorization is not None:
        headers["authorization"] = expert.authorization
    return headers


def _no_first_token() -> UpstreamTimeout:
    return UpstreamTimeout("The expert's server did not begin its answer in time.")
