"""The data plane: one raw ASGI application per endpoint, from accepted connection to written record.

Raw, because a framework's request and response objects cost more than all of this does (DESIGN section 4). The
order of `_answer` is the path of a request in DESIGN section 3; decisions and dispatch are made elsewhere.
"""

from __future__ import annotations

import asyncio
import time

from gateway.admission import Admitted
from gateway.answers import Opened, Stream
from gateway.cache import cache_headers, wish_of
from gateway.context import RequestContext
from gateway.controls import read_controls
from gateway.cutoff import Cutoff
from gateway.endpoints.body import read_body, read_headers
from gateway.endpoints.decision_headers import Headers, decision_headers
from gateway.errors import (
    ClientLeft,
    ClientStalled,
    InvalidRequest,
    PointsmanError,
    ShuttingDown,
    UpstreamError,
    UpstreamReset,
    UpstreamTimeout,
)
from gateway.generation import Generation
from gateway.guard import Receive, Scope, Send, send_error
from gateway.limits.limits import Limits
from gateway.openai import ApiRequest, parse
from gateway.resuming import Resumption, open_elsewhere, resumption
from gateway.state import Gateway
from gateway.streaming import StreamRelay, error_event
from gateway.types import Endpoint


class InferenceEndpoint:
    """Serves one endpoint.

    Args:
        endpoint: which one.
        gateway: has the current generation of catalog, pipeline and dispatcher.
    """

    def __init__(self, endpoint: Endpoint, gateway: Gateway) -> None:
        self._endpoint = endpoint
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and record it, whatever happens."""
        # One generation for the whole request: a reload does not change it under way.
        generation = self._gateway.current
        context = RequestContext(scope["request_id"], self._endpoint, generation.catalog, grant=scope["grant"])
        cutoff = Cutoff(generation.settings.timeouts.total_s)
        exchange = _Exchange(generation, self._gateway.limits, context, cutoff, send)
        generation.running.begin(cutoff)
        admitted: Admitted | None = None
        try:
            admitted = self._gateway.admission.enter(context.grant.name)
            self._gateway.limits.check(context.grant)
            await exchange.run(scope, receive)
        except asyncio.CancelledError:
            # Not ours (the cutoff's become errors where they happen): the server gives up on running requests.
            await exchange.fail(ShuttingDown("The gateway is shutting down."))
            raise
        except PointsmanError as error:
            await exchange.fail(error)
            if isinstance(error, ClientStalled) and "cut" in scope:
                scope["cut"]()  # else the connection waits for its reader, with what is not written yet
        except Exception:  # a defect of ours: the client is told, then the server logs it
            await exchange.fail(PointsmanError("The gateway failed."))
            raise
        finally:
            cutoff.close()
            generation.running.end(cutoff)
            if admitted is not None:
                admitted.close()
            self._gateway.recorder.put(context)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, generation: Generation, limits: Limits, context: RequestContext, cutoff: Cutoff, send: Send
    ) -> None:
        self._generation = generation
        self._limits = limits
        self._context = context
        self._cutoff = cutoff
        self._send = send
        self._started = False
        self._open = True

    async def run(self, scope: Scope, receive: Receive) -> None:
        """Go through the phases of DESIGN section 3."""
        try:
            await self._answer(scope, receive)
        except asyncio.CancelledError:
            self._cutoff.reraise()
            raise

    async def _answer(self, scope: Scope, receive: Receive) -> None:
        generation, context, settings = self._generation, self._context, self._generation.settings
        headers = read_headers(scope)
        raw = await read_body(headers, receive, settings.limits.body_bytes, settings.timeouts, self._cutoff)
        context.received = time.perf_counter()
        request = parse(context.endpoint, raw, settings.limits, settings.pass_through)
        context.request_model, context.stream = request.model, request.stream
        self._cutoff.watch(receive)
        with self._cutoff.phase(settings.timeouts.total_s, _too_long):
            controls = read_controls(headers)
            decision = await generation.pipeline.decide(request, context, controls)
            limits, expert = self._limits, decision.expert.name
            if limits.limits(context.grant, expert):
                tokens, cost = generation.pipeline.usage(request, context, decision)
                context.reservation = await limits.reserve(context.grant, expert, tokens, cost)
        with generation.dispatcher.budget.running() as context.running:
            opened = await self._opened(request, scope, controls.strategy)
            resuming = resumption(request, context, settings.resume) if opened.stream is not None else None
            await self._send_opened(opened, request, resuming)

    async def _opened(self, request: ApiRequest, scope: Scope, strategy: str | None) -> Opened:
        generation, context = self._generation, self._context
        if generation.cached is None:
            return await generation.answering.open(request, context, self._cutoff, strategy)
        wish = wish_of(scope["headers"])
        opened, use = await generation.cached.open(request, context, self._cutoff, strategy, wish)
        context.cache, context.cache_age_s = use.outcome.value, use.age_s
        return opened

    async def _send_opened(self, opened: Opened, request: ApiRequest, resuming: Resumption | None) -> None:
        try:
            if opened.stream is None:
                await self._send_plain(opened)
            else:
                await self._send_stream(opened, opened.stream, request, resuming)
        except UpstreamError as error:
            opened.lease.ended(error)
            raise
        finally:
            opened.lease.close()

    async def _send_plain(self, opened: Opened) -> None:
        context = self._context
        context.status, context.first_byte = opened.status, None
        if opened.status >= 400:
            context.error = f"upstream_{opened.status}"
        headers = self._headers(opened.content_type)
        headers.append((b"content-length", str(len(opened.first)).encode()))
        if opened.retry_after is not None:
            headers.append((b"retry-after", opened.retry_after.encode("latin-1")))
        if opened.status == 429 or opened.status >= 500:
            # Our own fallbacks are exhausted: the SDKs' two more tries would repeat them all.
            headers.append((b"x-should-retry", b"false"))
        self._cutoff.unwatch()
        with self._cutoff.phase(self._generation.settings.timeouts.client_write_s, _client_stalled):
            await self._start(opened.status, headers)
            await self._body(opened.first, more=False)

    async def _send_stream(
        self, opened: Opened, stream: Stream, request: ApiRequest, resuming: Resumption | None
    ) -> None:
        context = self._context
        relay = StreamRelay(
            context.endpoint,
            hide_usage=request.hides_usage,
            event_limit_bytes=self._generation.settings.limits.event_bytes,
        )
        context.status, context.usage = 200, opened.usage or relay.usage
        failure = await self._pump(opened, stream, relay, resuming)
        if resuming is not None and resuming.resumed:
            context.usage = resuming.total(relay.usage)
        context.finish = relay.finish
        held = relay.held()
        if resuming is not None and failure is not None and (relay.failure is not None or not held):
            rest = await self._open_rest(opened, resuming, failure)
            if rest is not None:
                await self._send_opened(rest, request, resuming)
                return
        if held:
            with self._cutoff.phase(self._generation.settings.timeouts.client_write_s, _client_stalled):
                await self._relay(held if resuming is None else resuming.shown(held), opened.content_type)
        if failure is not None and failure is not relay.failure:
            raise failure
        if failure is not None:
            # The upstream's own error event has just gone out; its [DONE] must not follow.
            context.error = failure.code
        opened.lease.ended(failure)
        self._cutoff.unwatch()
        await self._body(b"", more=False)

    async def _pump(
        self, opened: Opened, stream: Stream, relay: StreamRelay, resuming: Resumption | None
    ) -> PointsmanError | None:
        """Move bytes from the upstream to the client and return what went wrong at the upstream.

        A slow reader slows the upstream down, nothing piles up.
        """
        idle_s = self._context.catalog.experts[self._context.chosen or ""].timeouts.idle_s
        write_s = self._generation.settings.timeouts.client_write_s
        chunk = opened.first
        try:
            with self._cutoff.phase(write_s, _client_stalled):
                while chunk and relay.failure is None:
                    out = relay.feed(chunk)
                    if resuming is not None:
                        out = resuming.shown(out)
                    self._cutoff.allow(write_s, _client_stalled)
                    await self._relay(out, opened.content_type)
                    if relay.failure is None:
                        self._cutoff.allow(idle_s, _idle)
                        chunk = await stream.read_chunk()
        except UpstreamError as error:
            return error
        finally:
            relay.count_what_went_out()
        if relay.failure is None and not relay.finished:
            return UpstreamReset("The expert's server ended its stream before it was complete.")
        return relay.failure

    async def _open_rest(self, opened: Opened, resuming: Resumption, failure: PointsmanError) -> Opened | None:
        if not resuming.may_go_on(failure):
            return None
        opened.lease.ended(failure)
        return await open_elsewhere(resuming, self._generation.dispatcher, self._context, self._cutoff)

    async def _relay(self, out: bytes, content_type: str) -> None:
        if not out:
            return
        if not self._started:
            self._context.first_byte = time.perf_counter()
            headers = self._headers(content_type)
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
            await self._start(200, headers)
        await self._body(out, more=True)

    async def fail(self, error: PointsmanError) -> None:
        """Tell the client, as far as it can still be told, and note the error for the record."""
        context = self._context
        context.error = error.code
        if not self._started:
            context.status = error.status
        self._cutoff.close()
        if isinstance(error, ClientLeft | ClientStalled) or not self._open:
            context.status = error.status
            return
        if self._started:
            self._open = False
            await self._send(
                {
                    "type": "http.response.body",
                    "body": error_event(error, context.endpoint),
                    "more_body": False,
                }
            )
            return
        if isinstance(error, UpstreamError):
            error.headers = (*error.headers, ("x-should-retry", "false"), *_retry_after(error))
        known = {name for name, _ in error.headers}
        limits = (pair for pair in self._limit_headers() if pair[0] not in known)
        error.headers = (*error.headers, *_decoded(self._told()), *limits)
        await send_error(self._send, error, context.request_id, path=context.endpoint.path)

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        self._open = more
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _headers(self, content_type: str) -> Headers:
        return [
            (b"content-type", content_type.encode("latin-1")),
            (b"x-request-id", self._context.request_id.encode()),
            *self._told(),
            *_encoded(self._limit_headers()),
            *cache_headers(self._context.cache, self._context.cache_age_s),
        ]

    def _limit_headers(self) -> tuple[tuple[str, str], ...]:
        reserved = self._context.reservation
        return self._limits.headers(self._context.grant) if reserved is None else reserved.headers

    def _told(self) -> Headers:
        return decision_headers(self._context, self._generation.settings.server.decision_headers)


def _encoded(headers: tuple[tuple[str, str], ...]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers]


def _decoded(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]


def _retry_after(error: UpstreamError) -> list[tuple[str, str]]:
    told = any(name == "retry-after" for name, _ in error.headers)
    return [("retry-after", "5")] if error.status == 503 and not told else []


def _client_stalled() -> ClientStalled:
    return ClientStalled("The client stopped reading.")


def _idle() -> UpstreamTimeout:
    return UpstreamTimeout("The expert's server fell silent in the middle of its answer.", code="upstream_idle")


def _too_long() -> InvalidRequest:
    return InvalidRequest("Deciding took too long.")
