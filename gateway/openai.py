"""Reads the few fields of an OpenAI-style body that routing needs and keeps all others. Sends nothing, decides nothing.

The body sent on is written anew from what was read, so an upstream cannot see another duplicate key than the
classifier did (OPERATIONS 1.3); unknown fields go through untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import InvalidRequest, ModelNotFound
from gateway.field_checks import check_fields, check_work
from gateway.media import media_in
from gateway.parts import check_parts
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Capability, Endpoint
from router import Features, extract, extract_text

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAXIMUM_MODEL_CHARACTERS = 256
MAXIMUM_BRACKETS = 400_000
MAXIMUM_COMMAS = 1_000_000  # 16 MB of prose full of commas has 0.93 million
VALUES_COUNTED_FROM_BYTES = 2**18


@dataclass(slots=True)
class ApiRequest:
    """A request after phase 2.

    Attributes:
        endpoint: which endpoint it came in by, and goes out by.
        body: the whole body; read only.
        model: the `model` field.
        stream: the answer is to be streamed.
        include_usage: the client itself asked for the usage chunk.
    """

    endpoint: Endpoint
    body: dict[str, Any]
    model: str
    stream: bool
    include_usage: bool

    def encode(self, model: str) -> bytes:
        """Write the body for an upstream that knows the model as `model`.

        Streams of tokens also ask for the usage chunk, for accounting; the relay hides it again.

        Raises:
            InvalidRequest: the body is nested deeper than JSON writers go.
        """
        body = {**self.body, "model": model}
        if self.hides_usage:
            body["stream_options"] = {**(self.body.get("stream_options") or {}), "include_usage": True}
        try:
            return orjson.dumps(body)
        except TypeError as error:
            raise InvalidRequest("The request body is nested too deeply.") from error

    @property
    def max_tokens(self) -> int | None:
        """The request's own limit on the length of an answer."""
        given = (self.body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
        return next((limit for limit in given if limit is not None), None)

    @property
    def answers(self) -> int:
        """How many answers it wants."""
        return int(self.body.get("n") or 1)

    @property
    def hides_usage(self) -> bool:
        """The usage chunk is asked for by us only."""
        return self.stream and not self.include_usage and self.endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS)


def parse(endpoint: Endpoint, raw: bytes, limits: LimitSettings, fields: PassThroughSettings) -> ApiRequest:
    """Read a body.

    Raises:
        InvalidRequest: it is not JSON, or a field that we read, cap or deny is not acceptable; `param` names it.
    """
    body = _load(raw)
    check_fields(body, raw, limits, fields)
    _CHECKS[endpoint](body, limits)
    check_work(endpoint, body, limits)
    stream = _flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object.", param="stream_options")
    return ApiRequest(endpoint, body, _model(body), stream, bool(options and options.get("include_usage")))


def features_of(request: ApiRequest) -> Features:
    """Read the routing text and what comes with it. Never fails; no text is an empty text."""
    body, tools = request.body, bool(request.body.get("tools"))
    if request.endpoint is Endpoint.COMPLETIONS:
        return extract_text(_first_text(body.get("prompt")))
    if request.endpoint is Endpoint.EMBEDDINGS:
        return extract_text(_first_text(body.get("input")))
    conversation = _conversation(body)
    if isinstance(conversation, str):
        conversation = [{"role": "user", "content": conversation}]
    return extract(conversation, tools=tools)


def needs_of(request: ApiRequest) -> frozenset[Capability]:
    """Return what an expert must be able to do to answer this request."""
    body = request.body
    needs: set[Capability] = set()
    if body.get("tools") and body.get("tool_choice") != "none":
        needs.add("tools")
    if _wants_structure(body):
        needs.add("structured_output")
    # `logprobs: 0` of completions asks for those of the tokens themselves.
    wanted = body.get("logprobs"), body.get("top_logprobs") or None, body.get("prompt_logprobs")
    if any(value is not None and value is not False for value in wanted):
        needs.add("logprobs")
    if _wants_reasoning(body):
        needs.add("reasoning")
    return frozenset(needs | media_in([body.get("messages"), body.get("input")]))


def _conversation(body: dict[str, Any]) -> Any:
    """Return the messages of any of the conversation APIs; `input` may be a string too."""
    return body.get("messages") or body.get("input") or []


def _load(raw: bytes) -> dict[str, Any]:
    # Values inside values cost a hundred times more time and memory than text; this keeps the loop going.
    if len(raw) > VALUES_COUNTED_FROM_BYTES and (
        raw.count(b"[") + raw.count(b"{") > MAXIMUM_BRACKETS or raw.count(b",") > MAXIMUM_COMMAS
    ):
        raise InvalidRequest("The request body has too many values.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # orjson's message has position and kind, never the text itself.
        raise InvalidRequest(f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return body


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must be a non-empty string, for example `auto`.", param="model")
    if len(model) > MAXIMUM_MODEL_CHARACTERS:
        raise ModelNotFound("No model has so long a name.", param="model")
    return model


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidRequest(f"`{name}` must be true or false.", param=name)


def _check_messages(body: dict[str, Any], limits: LimitSettings) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a non-empty list.", param="messages")
    if len(messages) > limits.messages:
        raise InvalidRequest(f"`messages` may have {limits.messages} entries at most.", param="messages")
    check_parts(messages, limits.parts, "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"`messages[{index}]` must be an object.", param=f"messages[{index}]")
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(
                f"`messages[{index}].role` must be one of {', '.join(sorted(ROLES))}.",
                param=f"messages[{index}].role",
            )
        _check_content(message.get("content"), f"messages[{index}].content")


def _check_content(content: Any, where: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"`{where}` must be a string, null or a list of parts.", param=where)
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise InvalidRequest(f"`{where}[{index}]` must be an object.", param=f"{where}[{index}]")


def _check_prompt(body: dict[str, Any], limits: LimitSettings) -> None:
    _check_texts(body.get("prompt"), "prompt", limits)


def _check_embedding_input(body: dict[str, Any], limits: LimitSettings) -> None:
    # vLLM also embeds a conversation given as `messages`.
    if body.get("input") is None and body.get("messages") is not None:
        _check_messages(body, limits)
    else:
        _check_texts(body.get("input"), "input", limits)


def _check_texts(value: Any, name: str, limits: LimitSettings) -> None:
    if not isinstance(value, str | list) or value == []:
        raise InvalidRequest(f"`{name}` must be a string or a non-empty list.", param=name)
    # A list of numbers is one prompt, given as tokens.
    if isinstance(value, list) and len(value) > limits.inputs and not isinstance(value[0], int):
        raise InvalidRequest(f"`{name}` may have {limits.inputs} entries at most.", param=name)


def _check_responses_input(body: dict[str, Any], limits: LimitSettings) -> None:
    given = body.get("input")
    if not isinstance(given, str | list) or given == []:
        raise InvalidRequest("`input` must be a string or a non-empty list.", param="input")
    if isinstance(given, list):
        if len(given) > limits.messages:
            raise InvalidRequest(f"`input` may have {limits.messages} entries at most.", param="input")
        check_parts(given, limits.parts, "input")


_CHECKS = {
    Endpoint.CHAT: _check_messages,
    Endpoint.MESSAGES: _check_messages,
    Endpoint.COMPLETIONS: _check_prompt,
    Endpoint.RESPONSES: _check_responses_input,
    Endpoint.EMBEDDINGS: _check_embedding_input,
}


def _first_text(value: Any) -> str:
    """Return the text of a prompt; of a list the first string (a batch is routed by its first prompt)."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((item for item in value if isinstance(item, str)), "")
    return ""


def _wants_reasoning(body: dict[str, Any]) -> bool:
    """Tell whether thinking is asked for in so many words; experts that do not think would ignore it in silence."""
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    efforts = body.get("reasoning_effort"), reasoning.get("effort") if isinstance(reasoning, dict) else None
    if any(effort not in (None, "none") for effort in efforts):
        return True
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def _wants_structure(body: dict[str, Any]) -> bool:
    if body.get("structured_outputs"):
        return True
    text = body.get("text")  # /v1/responses
    output = body.get("output_config")  # /v1/messages
    nested = (holder.get("format") for holder in (text, output) if isinstance(holder, dict))
    for holder in (body.get("response_format"), body.get("output_format"), *nested):
        if isinstance(holder, dict) and holder.get("type") not in (None, "text"):
            return True
    return False
