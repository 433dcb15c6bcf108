"""Refuses fields that clients may not set, numbers out of bounds, and grammars too large to compile. Changes nothing.

What is not named here passes: an expert's server answers for its own fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from gateway.errors import InvalidRequest
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Endpoint

MAXIMUM_STOP_CHARACTERS = 256
# `(a{1000}){1000}` is short and compiles to a million states; one level of it is as far as anybody needs.
MAXIMUM_REPETITIONS = 1_000
_REPETITIONS = re.compile(r"\{\s*(\d+)\s*(?:,\s*(\d*)\s*)?\}")
# Denied fields that say nothing when they are left at what the server takes them for anyway.
_NEUTRAL: dict[str, Any] = {"priority": 0, "background": False, "request_id": None}
_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Where schemas, grammars and patterns are found.
_STRUCTURES = ("structured_outputs", "response_format", "text", "output_format", "output_config", "tools")
_STRUCTURED = frozenset(_STRUCTURES)


def check_fields(body: dict[str, Any], raw: bytes, limits: LimitSettings, fields: PassThroughSettings) -> None:
    """Check the fields that are the same everywhere.

    Args:
        body: the request.
        raw: the same as it came.
        limits: bounds on what may be asked for.
        fields: what is denied.

    Raises:
        InvalidRequest: `param` names the field.
    """
    _check_denied(body, fields)
    for name in body.keys() & _CHECKS.keys():
        if body[name] is not None:
            _CHECKS[name](name, body[name], limits)
    if not _STRUCTURED.isdisjoint(body):
        _check_structures(body, raw, limits)


def check_work(endpoint: Endpoint, body: dict[str, Any], limits: LimitSettings) -> None:
    """Check how much the request asks for in all: its prompts, times the answers to each, times their length.

    Raises:
        InvalidRequest: more than the limits allow.
    """
    prompts = 1
    if endpoint is Endpoint.COMPLETIONS:
        prompt = body["prompt"]
        # A list of numbers is one prompt, given as tokens.
        prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    answers = prompts * max(body.get("n") or 1, body.get("best_of") or 1)
    if answers > limits.answers:
        raise InvalidRequest(f"A request may ask for {limits.answers} answers at most.", param="n")
    for name in _TOKENS:
        tokens = body.get(name)
        if tokens is not None:
            if answers * tokens > limits.answer_tokens:
                raise InvalidRequest(
                    f"The answers to a request may have {limits.answer_tokens} tokens at most, together.", param=name
                )
            return  # the others do not count beside it


def _check_denied(body: dict[str, Any], fields: PassThroughSettings) -> None:
    if not body.keys().isdisjoint(fields.denied):
        for name in fields.denied:
            if name in body and not _is_neutral(name, body[name]):
                hint = " Use `structured_outputs` instead." if name.startswith("guided_") else ""
                raise InvalidRequest(f"`{name}` may not be set by clients of this gateway.{hint}", param=name)
    template = body.get("chat_template_kwargs")
    if template is None:
        return
    if not isinstance(template, dict):
        raise InvalidRequest("`chat_template_kwargs` must be an object.", param="chat_template_kwargs")
    if not template.keys() <= set(fields.chat_template_kwargs):
        raise InvalidRequest(
            f"`chat_template_kwargs` may hold {', '.join(fields.chat_template_kwargs)} only.",
            param="chat_template_kwargs",
        )


def _is_neutral(name: str, value: Any) -> bool:
    return name in _NEUTRAL and (value is None or value == _NEUTRAL[name])


def _number(low: int, setting: str) -> Callable[[str, Any, LimitSettings], None]:
    def check(name: str, value: Any, limits: LimitSettings) -> None:
        # Chat has a boolean `logprobs`, completions a number under the same name.
        if name == "logprobs" and isinstance(value, bool):
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRequest(f"`{name}` must be an integer.", param=name)
        high = getattr(limits, setting)
        if not low <= value <= high:
            raise InvalidRequest(f"`{name}` must be between {low} and {high}.", param=name)

    return check


def _count(setting: str) -> Callable[[str, Any, LimitSettings], None]:
    def check(name: str, value: Any, limits: LimitSettings) -> None:
        most = getattr(limits, setting)
        if isinstance(value, list | dict) and len(value) > most:
            raise InvalidRequest(f"`{name}` may have {most} entries at most.", param=name)

    return check


def _check_stops(name: str, value: Any, limits: LimitSettings) -> None:
    """Every token of the answer is searched for every stop string."""
    _count("stops")(name, value, limits)
    for stop in value if isinstance(value, list) else (value,):
        if isinstance(stop, str) and len(stop) > MAXIMUM_STOP_CHARACTERS:
            raise InvalidRequest(f"`{name}` may have {MAXIMUM_STOP_CHARACTERS} characters at most.", param=name)


def _check_structures(body: dict[str, Any], raw: bytes, limits: LimitSettings) -> None:
    asked = body.get("structured_outputs")
    if isinstance(asked, dict):
        _check_structured_outputs(asked, limits)
    # A key may also be written with escapes. Ten times as fast as one regular expression for both.
    searched = b'"pattern' in raw or (b"\\" in raw and b"\\u00" in raw)
    measured = len(raw) > limits.schema_bytes
    if not measured and not searched:
        return  # nothing in it can be too large
    for param, value in _structures(body):
        if measured:
            _check_size(param, value, limits)
        if searched:
            _check_patterns(param, value, limits)


def _check_structured_outputs(asked: dict[str, Any], limits: LimitSettings) -> None:
    for name, value in asked.items():
        param = f"structured_outputs.{name}"
        if name.startswith("_"):
            raise InvalidRequest("`structured_outputs` has a field that clients may not set.", param=param)
        if name in ("regex", "whitespace_pattern") and isinstance(value, str):
            _check_pattern(param, value, limits)
        elif name == "choice":
            _count("list_entries")(param, value, limits)
        elif name in ("json", "structural_tag") and isinstance(value, str):
            _check_patterns(param, _loaded(param, value), limits)


def _structures(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _STRUCTURES:
        value = body.get(name)
        if name != "tools":
            yield name, value
        elif isinstance(value, list):
            yield from ((f"tools[{index}]", tool) for index, tool in enumerate(value))


def _check_size(param: str, value: Any, limits: LimitSettings) -> None:
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise InvalidRequest(f"`{param}` is nested too deeply.", param=param) from error
    if size > limits.schema_bytes:
        raise InvalidRequest(f"`{param}` may have {limits.schema_bytes} bytes at most.", param=param)


def _check_patterns(param: str, schema: Any, limits: LimitSettings) -> None:
    """Check the regular expressions in a JSON schema, wherever it is."""
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key == "pattern" and isinstance(inner, str):
                    _check_pattern(param, inner, limits)
                elif key == "patternProperties" and isinstance(inner, dict):
                    for pattern in inner:
                        _check_pattern(param, pattern, limits)
                pending.append(inner)


def _loaded(param: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"`{param}` holds a schema that is not valid JSON.", param=param) from error


def _check_pattern(param: str, pattern: str, limits: LimitSettings) -> None:
    if len(pattern) > limits.pattern_characters:
        raise InvalidRequest(
            f"`{param}` has a pattern of more than {limits.pattern_characters} characters.", param=param
        )
    numbers = (int(number) for found in _REPETITIONS.finditer(pattern) for number in found.groups() if number)
    if max(numbers, default=0) > MAXIMUM_REPETITIONS:
        raise InvalidRequest(
            f"`{param}` has a pattern that repeats more than {MAXIMUM_REPETITIONS} times.", param=param
        )


_CHECKS: dict[str, Callable[[str, Any, LimitSettings], None]] = {
    "n": _number(1, "n"),
    "best_of": _number(1, "n"),
    "logprobs": _number(0, "logprobs"),
    "top_logprobs": _number(0, "logprobs"),
    "prompt_logprobs": _number(0, "logprobs"),
    "max_tokens": _number(0, "max_tokens"),
    "max_completion_tokens": _number(0, "max_tokens"),
    "max_output_tokens": _number(0, "max_tokens"),
    "min_tokens": _number(0, "max_tokens"),
    "stop": _check_stops,
    "stop_sequences": _check_stops,
    "tools": _count("tools"),
    "functions": _count("tools"),
    "logit_bias": _count("list_entries"),
    "bad_words": _count("list_entries"),
    "stop_token_ids": _count("list_entries"),
    "allowed_token_ids": _count("list_entries"),
    "logprob_token_ids": _count("list_entries"),
}
