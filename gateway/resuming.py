"""Goes on with a chat stream that broke after its first content, at another server of the same expert.

The other server gets the conversation with the text so far as its last message, which it continues
(`continue_final_message`); what it sends is made to look like the rest of the first stream. Chooses no expert, and
sends nothing to the client.

Source: vLLM, `ChatCompletionRequest.continue_final_message`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from gateway.answers import Opened, Usage
from gateway.context import RequestContext
from gateway.cutoff import Cutoff
from gateway.dispatch import Dispatcher
from gateway.errors import PointsmanError, UpstreamBroke, UpstreamError, UpstreamReset, UpstreamTimeout
from gateway.openai import ApiRequest, needs_of
from gateway.settings.resume import ResumeSettings
from gateway.sse import EVENT_END, data_event, payload_of
from gateway.types import Endpoint, Expert

# With these a text alone is not all of the answer, or the request says itself how its last message is taken.
_EXCLUDING = frozenset(
    {
        *("add_generation_prompt", "continue_final_message", "echo", "functions", "prompt_logprobs"),
        *("return_prompt_text", "return_token_ids", "tools", "use_beam_search"),
    }
)
_LIMITS = ("max_completion_tokens", "max_tokens")


class Resumption:
    """Follows one stream so that another can go on with it, once.

    Args:
        request: what the client sent.
        text_characters: longest beginning that is kept.

    Attributes:
        resumed: events come from the second stream now.
    """

    def __init__(self, request: ApiRequest, text_characters: int) -> None:
        self._request = request
        self._room = text_characters
        self._text: list[str] = []
        self._first: dict[str, Any] = {}
        self._barred = False
        self.resumed = False

    def shown(self, events: bytes) -> bytes:
        """Take whole events that are to go out and return them as they go out: of the first stream untouched."""
        if self.resumed:
            return b"".join(self._joined(events))
        for payload in _payloads(events):
            self._note(payload)
        return events

    def may_go_on(self, failure: PointsmanError) -> bool:
        """Tell whether an answer that ended like this can be resumed."""
        broke = isinstance(failure, UpstreamReset | UpstreamBroke)
        # The total limit is an `UpstreamTimeout` too; after it there is no time for anything.
        silent = isinstance(failure, UpstreamTimeout) and failure.code == "upstream_idle"
        left = all(limit > len(self._text) for limit in self._limits(_LIMITS).values())
        return (broke or silent) and bool(self._text) and left and not (self._barred or self.resumed)

    def rest(self) -> ApiRequest:
        """Return the request for what is missing."""
        body, tokens = self._request.body, len(self._text)
        message = {"role": "assistant", "content": "".join(self._text)}
        # A chunk holds a token at least, so what is asked for is never less than what is missing.
        counts = self._limits((*_LIMITS, "min_tokens"))
        left = {name: max(0, count - tokens) for name, count in counts.items()}
        going_on = {"continue_final_message": True, "add_generation_prompt": False}
        messages = [*body["messages"], message]
        return replace(self._request, body={**body, **left, **going_on, "messages": messages})

    def total(self, rest: Usage) -> Usage:
        """Return the usage of the whole answer.

        The first server told none when it broke off. The text so far was part of the second one's prompt: it counts as
        a token for each chunk it came in, as output instead of input, so that nothing is counted twice.
        """
        if rest.output_tokens is None:
            return rest
        if rest.input_tokens is None:  # it broke off, too
            return Usage(None, rest.output_tokens + len(self._text))
        before = min(len(self._text), rest.input_tokens)
        inputs = rest.input_tokens - before
        cached = None if rest.cached_tokens is None else min(rest.cached_tokens, inputs)
        return Usage(inputs, rest.output_tokens + before, cached)

    def _limits(self, names: Sequence[str]) -> dict[str, int]:
        """Return the request's counts of tokens; what is no number stays as it is."""
        return {name: value for name in names if isinstance(value := self._request.body.get(name), int)}

    def _note(self, payload: dict[str, Any]) -> None:
        self._first = self._first or payload
        for choice in _choices(payload):
            if not isinstance(choice, dict) or not isinstance(choice.get("delta"), dict) or choice.get("finish_reason"):
                self._barred = True
                continue
            self._barred |= any(value for name, value in choice["delta"].items() if name not in ("role", "content"))
            content = choice["delta"].get("content")
            if isinstance(content, str) and content:
                self._keep(content)

    def _keep(self, content: str) -> None:
        self._room -= len(content)
        if self._room < 0:
            self._barred = True
            self._text.clear()
        if not self._barred:
            self._text.append(content)

    def _joined(self, events: bytes) -> Iterator[bytes]:
        """Yield the second stream's events as if they were the first one's."""
        for event in _events(events):
            payload = payload_of(event)
            if payload is None or payload.get("error"):
                yield event
            elif not _is_preamble(payload):
                yield self._as_first(payload, event)

    def _as_first(self, payload: dict[str, Any], event: bytes) -> bytes:
        payload |= {name: self._first[name] for name in ("id", "created") if name in self._first}
        for choice in _choices(payload):
            if isinstance(choice, dict) and isinstance(choice.get("delta"), dict):
                choice["delta"].pop("role", None)
        usage = payload.get("usage")
        if isinstance(usage, dict):
            payload["usage"] = self._whole_usage(usage)
        try:
            return data_event(payload)
        except TypeError:  # nested deeper than JSON writers go
            return event

    def _whole_usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        told = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        counts = [count if isinstance(count, int) else None for count in told]
        total = self.total(Usage(*counts))
        whole = {**usage, "prompt_tokens": total.input_tokens, "completion_tokens": total.output_tokens}
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            most = total.input_tokens or 0
            whole["prompt_tokens_details"] = {**details, "cached_tokens": min(details["cached_tokens"], most)}
        return whole


def resumption(request: ApiRequest, context: RequestContext, settings: ResumeSettings) -> Resumption | None:
    """Return what follows a stream that may be resumed; None for all others, which cost nothing."""
    if not settings.enabled or request.endpoint is not Endpoint.CHAT or context.strategy is not None:
        return None
    body, expert = request.body, _expert(context)
    plain = request.answers == 1 and not needs_of(request) & {"tools", "logprobs", "structured_output"}
    if not plain or any(body.get(name) for name in _EXCLUDING) or body["messages"][-1].get("role") == "assistant":
        return None
    return Resumption(request, settings.text_characters) if len(expert.upstreams) > 1 else None


async def open_elsewhere(
    resuming: Resumption, dispatcher: Dispatcher, context: RequestContext, cutoff: Cutoff
) -> Opened | None:
    """Open the rest of an answer at another of the expert's servers.

    Args:
        resuming: follows the stream that broke.
        dispatcher: sends requests.
        context: of the client's request; takes the tries.
        cutoff: ends the waiting.

    Returns:
        The rest, whose lease is the caller's; None when there is no server, no unit of the retry budget, or no stream.

    Raises:
        ClientLeft: nobody waits any more.
    """
    opened = None
    dispatcher.note_resume("attempted")
    try:
        opened = await _open_elsewhere(resuming, dispatcher, context, cutoff)
    finally:
        if opened is None:
            dispatcher.note_resume("failed")
    return opened


async def _open_elsewhere(
    resuming: Resumption, dispatcher: Dispatcher, context: RequestContext, cutoff: Cutoff
) -> Opened | None:
    running, decision = context.running, context.decision
    if running is None or decision is None or not await running.retry(context.grant.name):
        return None
    # vLLM names an answer by its request's id, and the first server may still be at work under this one.
    second = RequestContext(f"{context.request_id}-2", context.endpoint, context.catalog, grant=context.grant)
    second.running, second.conversation, second.started = running, context.conversation, context.started
    second.decision = replace(decision, expert=_expert(context), fallbacks=())
    second.avoided = context.attempts[-1].upstream
    try:
        opened = await dispatcher.open(resuming.rest(), second, cutoff)
    except UpstreamError:
        return None
    finally:
        context.attempts += second.attempts
        running.began()
    if opened.stream is None:
        opened.lease.close()
        return None
    resuming.resumed = True
    context.resumed += 1
    return opened


def _expert(context: RequestContext) -> Expert:
    assert context.chosen is not None, "nobody answers"
    return context.catalog.experts[context.chosen]


def _events(events: bytes) -> Iterator[bytes]:
    start = 0
    for match in EVENT_END.finditer(events):
        yield events[start : match.end()]
        start = match.end()


def _payloads(events: bytes) -> Iterator[dict[str, Any]]:
    for event in _events(events):
        payload = payload_of(event)
        if payload is not None:
            yield payload


def _choices(payload: dict[str, Any]) -> list[Any]:
    choices = payload.get("choices")
    return choices if isinstance(choices, list) else []


def _is_preamble(payload: dict[str, Any]) -> bool:
    """Tell whether a chunk says the role and nothing else."""
    choices = _choices(payload)
    return bool(choices) and all(
        isinstance(choice, dict)
        and isinstance(choice.get("delta"), dict)
        and "role" in choice["delta"]
        and not choice.get("finish_reason")
        and not any(value for name, value in choice["delta"].items() if name != "role")
        for choice in choices
    )
