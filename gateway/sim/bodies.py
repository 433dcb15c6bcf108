"""Request bodies as vLLM reads them: lax types, unknown fields ignored, its validation errors. No generation."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.sim.errors import DetailError, SimError, schema_error, summarise

MESSAGE_CLASSES = ("Developer", "System", "User", "Assistant", "Tool", "Function")
Stop = str | Annotated[list[str], Field(max_length=4)] | None


class StreamOptions(BaseModel):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Body(BaseModel):
    """The fields every generating endpoint shares."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    request_id: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    sim_fault: str | None = None


class ChatBody(Body):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    stop: Stop = None
    include_stop_str_in_output: bool = False
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = True
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    seed: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    sim_answer: str | list[str] | None = None
    sim_logprob: Annotated[float, Field(le=0)] | None = None


class CompletionBody(Body):
    """`POST /v1/completions`."""

    prompt: str | list[int] | list[list[int]] | list[str] | None = None
    max_tokens: int | None = 16
    n: int = 1
    stop: Stop = None
    include_stop_str_in_output: bool = False
    logprobs: int | None = None
    echo: bool | None = False
    suffix: str | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None


class ResponsesBody(Body):
    """`POST /v1/responses`."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = "auto"
    parallel_tool_calls: bool | None = True
    text: dict[str, Any] | None = None
    background: bool | None = False
    previous_response_id: str | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None


class MessagesBody(Body):
    """`POST /v1/messages` and, without `max_tokens`, `/v1/messages/count_tokens`."""

    messages: list[dict[str, Any]]
    max_tokens: int
    system: str | list[dict[str, Any]] | None = None
    stop_sequences: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None


class CountTokensBody(MessagesBody):
    """`POST /v1/messages/count_tokens`."""

    max_tokens: int = 1


class EmbeddingsBody(BaseModel):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    input: str | list[int] | list[list[int]] | list[str]
    encoding_format: str | None = "float"
    dimensions: int | None = None
    truncate_prompt_tokens: int | None = None
    request_id: str | None = None
    sim_fault: str | None = None


class TokenizeBody(BaseModel):
    """`POST /tokenize`: a prompt or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = False


class LoraBody(BaseModel):
    """`POST /v1/load_lora_adapter`."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False


class LoraName(BaseModel):
    """`POST /v1/unload_lora_adapter`."""

    lora_name: str


AnyBody = TypeVar("AnyBody", bound=BaseModel)


def read_json(raw: bytes, content_type: str) -> Any:
    """Parse a body as vLLM does.

    Raises:
        SimError: wrong content type, no body, or not JSON.
        DetailError: the bytes are not UTF-8.
    """
    if content_type.split(";", 1)[0].strip().lower() != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise SimError(400, message, "Bad Request", schema=True)
    if not raw:
        raise schema_error([{"type": "missing", "loc": "body", "msg": "Field required", "input": "None"}])
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _read_leniently(raw)


def _read_leniently(raw: bytes) -> Any:
    """NaN and lone surrogates pass vLLM's parser, which is Python's; the rest gets its error position."""
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        raise DetailError(400, "There was an error parsing the body") from error
    except RecursionError as error:
        raise DetailError(400, "There was an error parsing the body") from error
    except json.JSONDecodeError as error:
        entry = {
            "type": "json_invalid",
            "loc": f"body.{error.pos}",
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": error.msg},
        }
        raise schema_error([entry]) from error


def validate(kind: type[AnyBody], value: Any) -> AnyBody:
    """Check a parsed body against its model.

    Raises:
        SimError: in vLLM's form, all problems in one message.
    """
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        entry = {"type": "model_attributes_type", "loc": "body", "msg": message, "input": summarise(value)}
        raise schema_error([entry])
    if kind is ResponsesBody and "input" not in value:
        # vLLM adds a field of its own before it validates this body, and counts it.
        value = {**value, "request_id": value.get("request_id")}
    try:
        body = kind.model_validate(value)
    except ValidationError as error:
        entries = [_entry(problem) for problem in error.errors(include_url=False)]
        raise schema_error(entries) from error
    if isinstance(body, ChatBody):
        check_messages(body.messages)
    return body


def _entry(problem: Any) -> dict[str, Any]:
    """A pydantic problem as vLLM prints it: dotted place without the names of union members."""
    place = [str(part) for part in problem["loc"] if not _is_union_member(part)]
    entry = {
        "type": problem["type"],
        "loc": ".".join(["body", *place]),
        "msg": problem["msg"],
        "input": summarise(problem["input"]),
    }
    if "ctx" in problem:
        entry["ctx"] = problem["ctx"]
    return entry


def _is_union_member(part: str | int) -> bool:
    return isinstance(part, str) and (part in {"str", "dict"} or part.endswith("]"))


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Refuse messages without role and with content of a wrong type; unknown roles pass, as in vLLM.

    Raises:
        SimError: one entry per message class vLLM tries.
    """
    for position, message in enumerate(messages):
        place = f"body.messages.{position}.ChatCompletion{{}}MessageParam."
        if "role" not in message:
            shown = summarise(message)
            problem = {"type": "missing", "msg": "Field required", "input": shown}
            raise schema_error(_per_class(place + "role", problem))
        content = message.get("content")
        nothing_said = content is None and message["role"] in {"user", "system", "developer", "tool"}
        if nothing_said or not isinstance(content, str | list | None):
            problem = {"type": "string_type", "msg": "Input should be a valid string", "input": str(content)}
            raise schema_error(_per_class(place + "content", problem))


def _per_class(place: str, problem: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"type": problem["type"], "loc": place.format(name), "msg": problem["msg"], "input": problem["input"]}
        for name in MESSAGE_CLASSES
    ]
