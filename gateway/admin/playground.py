"""Decides for a prompt that an administrator tries: live, as the canary, with other thresholds; and sends it if asked.

Nothing is stored of a dry run. What is sent goes the way of all requests, under the key name `playground`, and has a
record as they have.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.admin.draft_decision import drafted
from gateway.admin.occlusion import words_of
from gateway.admin.plane import Plane
from gateway.callers import Grant
from gateway.context import RequestContext
from gateway.controls import Controls
from gateway.endpoints.inference import InferenceEndpoint
from gateway.errors import InvalidRequest
from gateway.explain import explain
from gateway.generation import Generation
from gateway.openai import ApiRequest, features_of, parse
from gateway.pipeline import Pipeline
from gateway.sessions import SessionTable
from gateway.settings import Settings
from gateway.types import Catalog, Endpoint
from gateway.variants import Variant
from gateway.wanted import AUTO
from router import Thresholds

KEY = "playground"
AT_ONCE = 4
PER_MINUTE = 60
MOST_TOKENS = 2_048
TRIED, DRAFT = "tried", "draft"

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Changes:
    """Thresholds to try; None: as it is now."""

    minimum_confidence: float | None = None
    minimum_margin: float | None = None
    maximum_out_of_domain: float | None = None
    maximum_disagreement: float | None = None

    @property
    def any(self) -> bool:
        """Tell whether something is changed."""
        return self != Changes()

    def applied(self, now: Thresholds) -> Thresholds:
        """Return thresholds with the changes."""
        return Thresholds(
            confidence=now.confidence if self.minimum_confidence is None else {},
            default_confidence=_or(self.minimum_confidence, now.default_confidence),
            margin=_or(self.minimum_margin, now.margin),
            out_of_domain=_or(self.maximum_out_of_domain, now.out_of_domain),
            disagreement=_or(self.maximum_disagreement, now.disagreement),
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """What would be done with a prompt. It holds words of it, so it is for who asked.

    Attributes:
        text: what the classifier saw.
        decisions: by variant, `live` first, `canary`, `tried` and `draft` where there are; each as `explain` has it.
        words: the most influential ones, as `router.explain` has them; None: the classifier was too busy.
        topics: training topics near it, best first.
    """

    text: str
    decisions: dict[str, dict[str, Any]]
    words: list[dict[str, Any]] | None
    topics: list[dict[str, Any]]


async def try_prompt(
    plane: Plane,
    messages: Messages,
    *,
    policy: str | None = None,
    changes: Changes = Changes(),
    draft: str = "",
    words: bool = True,
) -> Trial:
    """Decide for a conversation as for a key that may do all; nothing is sent.

    Args:
        plane: what the admin side works with.
        messages: as in a chat request.
        policy: decides instead of the configured one.
        changes: thresholds to try beside the live ones.
        draft: a whole configuration to decide with as well; "": none.
        words: find out which words decided, too.

    Raises:
        RequestError: the messages are malformed, the policy is unknown, or no expert can take the request.
        ConfigInvalid, Conflict: the draft cannot be used, or there is no file that it could become.
    """
    generation = plane.gateway.current
    with generation.running.hold():
        request = _request(generation, messages)
        decisions = {
            name: await _decided(pipeline, generation.catalog, request, policy)
            for name, pipeline in _pipelines(plane, generation, changes).items()
        }
        if draft.strip():
            async with drafted(plane, generation, draft) as (pipeline, catalog):
                decisions[DRAFT] = await _decided(pipeline, catalog, request, policy)
        text = features_of(request).text
        if not words or not text:
            return Trial(text, decisions, [], [])
        why = await words_of(generation.scorer, text)
    found = None if why is None else why.as_dict()
    return Trial(text, decisions, None if found is None else found["words"], [] if found is None else found["topics"])


def messages_of(prompt: str, system: str = "", conversation: str = "") -> Messages:
    """Put messages together from what a form holds.

    Args:
        prompt: the last message of the user; may be empty after a conversation.
        system: instructions before it.
        conversation: a JSON list of earlier messages, or a whole chat request.

    Raises:
        InvalidRequest: the JSON cannot be read, or there is nothing at all.
    """
    messages: Messages = [{"role": "system", "content": system}] if system.strip() else []
    if conversation.strip():
        try:
            found = orjson.loads(conversation)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"The conversation is not valid JSON: {error}", param="conversation") from error
        found = found.get("messages") if isinstance(found, dict) else found
        if not isinstance(found, list):
            raise InvalidRequest("The conversation must be a list of messages.", param="conversation")
        messages += found
    if prompt.strip():
        messages.append({"role": "user", "content": prompt})
    if not messages or messages[-1] == {"role": "system", "content": system}:
        raise InvalidRequest("Write a prompt first.", param="prompt")
    return messages


def sending(plane: Plane, expert: str, messages: Messages, max_tokens: int) -> Response:
    """Return an answer that is streamed from an expert, by the data plane itself.

    Raises:
        InvalidRequest: there is no such expert.
    """
    if expert not in plane.gateway.catalog.experts:
        raise InvalidRequest("There is no such expert.", param="expert")
    body = {"model": expert, "messages": messages, "stream": True, "max_tokens": min(max(1, max_tokens), MOST_TOKENS)}
    return _Sent(InferenceEndpoint(Endpoint.CHAT, plane.gateway), orjson.dumps(body))


class _Sent(Response):
    """An answer that a data-plane endpoint gives."""

    def __init__(self, endpoint: InferenceEndpoint, raw: bytes) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = [{"type": "http.request", "body": self._raw, "more_body": False}]

        async def receiving() -> Message:
            return first.pop() if first else await receive()

        inner = {
            "type": "http",
            "method": "POST",
            "path": Endpoint.CHAT.path,
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"",
            "client": scope.get("client"),
            "request_id": scope["request_id"],
            "grant": Grant(name=KEY, concurrent=AT_ONCE, rpm=PER_MINUTE),
        }
        await self._endpoint(inner, receiving, send)


async def _decided(pipeline: Pipeline, catalog: Catalog, request: ApiRequest, policy: str | None) -> dict[str, Any]:
    context = RequestContext(KEY, Endpoint.CHAT, catalog)
    context.received = time.perf_counter()
    await pipeline.decide(request, context, Controls(policy=policy))
    return explain(context, pipeline.alternatives(context))


def _request(generation: Generation, messages: Messages) -> ApiRequest:
    settings = generation.settings
    raw = orjson.dumps({"model": AUTO, "messages": messages})
    return parse(Endpoint.CHAT, raw, settings.limits, settings.pass_through)


def _pipelines(plane: Plane, generation: Generation, changes: Changes) -> Mapping[str, Pipeline]:
    live, settings = generation.pipeline, generation.settings
    usual, *canary = live.variants
    # With a canary, chance would decide which of the two this prompt shows.
    found = {usual.name: _pipeline(plane, generation, settings, usual, None)}
    for variant in canary:
        assert settings.canary is not None
        always = settings.canary.model_copy(update={"share": 1.0})
        of_canary = settings.model_copy(update={"canary": always})
        found[variant.name] = _pipeline(plane, generation, of_canary, usual, variant)
    if changes.any:
        tried = replace(usual, name=TRIED, thresholds=changes.applied(live.thresholds))
        found[TRIED] = _pipeline(plane, generation, settings, tried, None)
    return found


def _pipeline(
    plane: Plane, generation: Generation, settings: Settings, live: Variant, canary: Variant | None
) -> Pipeline:
    """Return one that decides beside the live one, of the same fleet and budgets."""
    budgets, sessions = plane.gateway.budgets, SessionTable(1, 1)
    return Pipeline(
        settings, generation.catalog, generation.fleet, live, canary=canary, budgets=budgets, sessions=sessions
    )


def _or(tried: float | None, now: float) -> float:
    return now if tried is None else tried
