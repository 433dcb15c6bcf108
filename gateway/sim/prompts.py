"""From request bodies to `Ask`: prompt size, tools, limits and vLLM's refusals. It generates nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.sim.answers import Tool
from gateway.sim.bodies import Body, ChatBody, StreamOptions
from gateway.sim.errors import SimError, bad_value
from gateway.sim.experts import SimExpert
from gateway.sim.tokens import CHARACTERS_PER_TOKEN_BOUND, tokenise

TOKENS_PER_MESSAGE = 4
"""Role and marks of a chat template."""
MAXIMUM_CHOICES = 16_384
MAXIMUM_TOP_LOGPROBS = 20


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_part_text(part) for part in content if isinstance(part, dict | str))
    return ""


def _part_text(part: dict[str, Any] | str) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text", part.get("content", ""))
    return text if isinstance(text, str) else content_text(text)


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message with role `user`, else of the last message."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_text(message.get("content"))
    return content_text(messages[-1].get("content")) if messages else ""


def refuse_other_media(messages: Sequence[Mapping[str, Any]], name: str) -> None:
    """Simulated experts read text only.

    Raises:
        SimError: vLLM's refusal of images and sounds on a text model.
    """
    media = {"image_url", "input_image", "image", "input_audio", "audio_url", "video_url"}
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        if any(isinstance(part, dict) and part.get("type") in media for part in parts):
            raise SimError(400, f"{name} is not a multimodal model")


def count_prompt(texts: Iterable[str], expert: SimExpert, *, messages: int = 0, extra: str = "") -> int:
    """Tokens of a prompt.

    Args:
        texts: The messages' texts, or the prompt alone.
        expert: Its context limit applies.
        messages: How many messages the template frames.
        extra: Further text the template includes, such as tool definitions.

    Raises:
        SimError: the prompt alone exceeds the context.
    """
    joined = "\n".join([*texts, extra] if extra else texts)
    limit = expert.max_model_len
    bound = limit * CHARACTERS_PER_TOKEN_BOUND
    head = f"This model's maximum context length is {limit} tokens. However, your prompt contains"
    tail = "Please reduce the length of the input prompt."
    if len(joined) > bound:
        counted = f"{len(joined)} characters (more than {bound} characters, which is the upper bound for"
        raise bad_value(f"{head} {counted} {limit} input tokens). {tail}", "input_text", len(joined))
    count = len(tokenise(joined)) + TOKENS_PER_MESSAGE * messages
    if count > limit:
        counted = f"at least {limit + 1} input tokens, which exceeds this limit even without any output tokens."
        raise bad_value(f"{head} {counted} {tail}", "input_tokens", limit + 1)
    return count


def refuse_surrogates(texts: Iterable[str]) -> None:
    """Raise as vLLM's tokeniser does for text that cannot be encoded.

    Raises:
        SimError: a lone surrogate is in one of `texts`.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            kind = "TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]"
            raise SimError(400, kind) from error


def token_limit(wanted: int | None, prompt_tokens: int, expert: SimExpert, *, param: str = "max_tokens") -> int:
    """How many tokens may be generated; what does not fit beside the prompt is cut silently.

    Raises:
        SimError: `wanted` is not positive or exceeds the context by itself.
    """
    room = max(1, expert.max_model_len - prompt_tokens)
    if wanted is None:
        return room
    if wanted > expert.max_model_len:
        text = f"{param}={wanted} cannot be greater than max_model_len={expert.max_model_len}."
        raise bad_value(f"{text} Please request fewer output tokens.", param, wanted)
    if wanted < 1:
        raise bad_value(f"max_tokens must be at least 1, got {wanted}.", "max_tokens", wanted)
    return min(wanted, room)


def check_sampling(body: Body, choices: int) -> None:
    """Refuse sampling parameters out of range.

    Raises:
        SimError: as vLLM words it.
    """
    temperature, top_p = body.temperature, body.top_p
    if temperature is not None:
        _check_temperature(temperature)
    if top_p is not None and not 0 < top_p <= 1:
        raise bad_value(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)
    if choices < 1:
        raise SimError(400, f"n must be at least 1, got {choices}.")
    if choices > MAXIMUM_CHOICES:
        limit = "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
        raise SimError(400, f"n must be at most {MAXIMUM_CHOICES}, got {choices}. {limit}")
    if choices > 1 and temperature == 0:
        raise SimError(400, f"n must be 1 when using greedy sampling, got {choices}.")


def _check_temperature(temperature: float) -> None:
    if not math.isfinite(temperature):
        raise bad_value(f"temperature must be a finite number, got {temperature}.", "temperature", temperature)
    if temperature < 0:
        raise bad_value(f"temperature must be non-negative, got {temperature}.", "temperature", temperature)
    if temperature > 2:
        raise bad_value(f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature)


def check_stream_options(options: StreamOptions | None, *, stream: bool | None) -> None:
    """Refuse `stream_options` without `stream`.

    Raises:
        SimError: as vLLM words it.
    """
    if options is not None and not stream:
        raise bad_value("Stream options can only be defined when `stream=True`.", "stream_options")


def check_chat_fields(body: ChatBody) -> None:
    """Refuse combinations vLLM refuses before it looks for the model.

    Raises:
        SimError: as vLLM words it.
    """
    check_stream_options(body.stream_options, stream=body.stream)
    if body.top_logprobs and not body.logprobs:
        raise bad_value("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if body.tools == []:
        remedy = "Either provide at least one tool or omit the field entirely."
        raise bad_value(f"`tools` must not be an empty array. {remedy}", "tools")
    if body.continue_final_message and body.add_generation_prompt and "add_generation_prompt" in body.model_fields_set:
        raise SimError(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    check_tool_choice(body.tool_choice, body.tools)
    check_response_format(body.response_format)


def check_tool_choice(choice: str | dict[str, Any] | None, tools: list[dict[str, Any]] | None) -> None:
    """Refuse a tool choice without its tool.

    Raises:
        SimError: as vLLM words it.
    """
    if choice is None or choice == "none":
        return
    if not tools:
        raise bad_value("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if isinstance(choice, dict) and chosen_name(choice) not in {tool.name for tool in offered(tools)}:
        text = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise SimError(400, f"{text} (parameter=tool_choice)", param="tool_choice")


def refuse_tools(expert: SimExpert, choice: str | Mapping[str, Any] | None, tools: Sequence[Any] | None) -> None:
    """Refuse tools on a server that was started without a tool parser.

    Raises:
        SimError: as vLLM words it.
    """
    if expert.tools or not tools or choice == "none":
        return
    if choice == "required":
        raise SimError(400, 'tool_choice="required" requires --tool-call-parser to be set')
    if isinstance(choice, Mapping):
        name = chosen_name(choice)
        raise SimError(400, f'tool_choice=function "{name}" requires --tool-call-parser to be set')
    needed = "requires --enable-auto-tool-choice and --tool-call-parser to be set"
    raise SimError(400, f'"auto" tool choice {needed}')


def check_response_format(wanted: dict[str, Any] | None) -> None:
    """Refuse unknown and incomplete response formats.

    Raises:
        SimError: as vLLM words it.
    """
    if wanted is None:
        return
    kind = wanted.get("type")
    if kind not in {"text", "json_object", "json_schema", "structural_tag"}:
        known = "'text', 'json_object' or 'json_schema'"
        entry = {
            "type": "literal_error",
            "loc": "body.response_format.type",
            "msg": f"Input should be {known}",
            "input": str(kind),
            "ctx": {"expected": known},
        }
        message = f"1 validation error:\n  {entry!r}"
        raise SimError(400, message, "Bad Request", "body.response_format.type", schema=True)
    if kind == "json_schema" and not isinstance(wanted.get("json_schema"), dict):
        text = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
        raise bad_value(text, "response_format")


def wanted_schema(wanted: Mapping[str, Any] | None, structured: Mapping[str, Any] | None = None) -> Any:
    """The JSON Schema to answer with: None for text, {} for any object.

    Raises:
        SimError: the schema names a type that does not exist.
    """
    schema: Any = None
    if wanted and wanted.get("type") == "json_object":
        schema = {}
    elif wanted and wanted.get("type") == "json_schema":
        schema = wanted.get("json_schema", wanted).get("schema", {})
    elif structured and structured.get("json") is not None:
        schema = structured["json"]
    elif structured and structured.get("json_object"):
        schema = {}
    known = {"object", "array", "string", "integer", "number", "boolean", "null"}
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(kind, str) and kind not in known:
        raise SimError(400, f'Failed to transform json schema into a grammar: Unsupported type "{kind}"')
    return schema


def offered(tools: Iterable[Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    """The functions of a `tools` list in any of the three forms (chat, responses, messages)."""
    found = []
    for tool in tools or ():
        function = tool.get("function", tool)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found.append(Tool(function["name"], function.get("parameters", function.get("input_schema"))))
    return tuple(found)


def chosen_name(choice: Mapping[str, Any]) -> str | None:
    """The function a tool choice names."""
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def forced_tool(choice: str | Mapping[str, Any] | None) -> str | None:
    """The forced function's name, "" for any, None when calling is free."""
    if choice == "required":
        return ""
    if isinstance(choice, Mapping):
        return "" if choice.get("type") == "any" else chosen_name(choice)
    return None
