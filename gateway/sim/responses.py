"""`/v1/responses`: body to plan, plan to the JSON and named events vLLM gives. It neither waits nor sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.sim.answers import Answer, Ask, ToolCall, generate
from gateway.sim.bodies import ResponsesBody
from gateway.sim.errors import SimError
from gateway.sim.experts import Roster, Served
from gateway.sim.plans import Draft, Plan, find_served, new_id, now_s
from gateway.sim.prompts import (
    check_sampling,
    content_text,
    count_prompt,
    forced_tool,
    last_user_text,
    offered,
    refuse_other_media,
    refuse_surrogates,
    token_limit,
    wanted_schema,
)
from gateway.sim.replies import EVENT_HEADERS, Event, Reply, json_reply, named_event
from gateway.sim.tokens import tokenise

NO_STORE = (
    "This vLLM engine does not support `store=True` and therefore does not support the background mode. "
    "To enable these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` "
    "when launching the vLLM server."
)
TOOL_FIELDS = (
    *("name", "parameters", "strict", "type", "allowed_callers"),
    *("async", "defer_loading", "description", "output_schema"),
)


def draft_responses(value: dict[str, Any], body: ResponsesBody, roster: Roster) -> Draft:
    """Draft the answer to a responses request.

    Args:
        value: The body as parsed, for fields that are only echoed.
        body: The body as validated.
        roster: Who can answer.

    Raises:
        SimError: what vLLM refuses, worded as vLLM does.
    """
    served = find_served(roster, body.model, "responses")
    if body.background:
        raise SimError(400, NO_STORE, "invalid_request_error", "background")
    if body.previous_response_id is not None:
        text = f"Response with id '{body.previous_response_id}' not found."
        raise SimError(404, text, "invalid_request_error", "response_id")
    ask = _ask(body, served)
    check_sampling(body, 1)
    answer = generate(ask)

    def plan(_: str | None) -> Plan:
        # vLLM takes this id from the body's `request_id` only.
        shown = _Shown(value, body, ask, answer, new_id("resp_", body.request_id), now_s())
        if body.stream:
            return Plan(served, ask.prompt_tokens, (answer,), Reply(_events(shown), headers=EVENT_HEADERS))
        whole = _whole(shown, list(_items(answer)))
        return Plan(served, ask.prompt_tokens, (answer,), json_reply(whole, steps=answer.generated))

    return plan


def _ask(body: ResponsesBody, served: Served) -> Ask:
    single = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    refuse_other_media(single, served.name)
    texts = [content_text(item.get("content", item.get("output"))) for item in single]
    if body.instructions is not None:
        texts.insert(0, body.instructions)
    refuse_surrogates(texts)
    extra = json.dumps(body.tools) if body.tools else ""
    prompt_tokens = count_prompt(texts, served.expert, messages=len(single), extra=extra)
    return Ask(
        served=served,
        last_text=last_user_text(single),
        prompt_tokens=prompt_tokens,
        maximum_tokens=token_limit(body.max_output_tokens, prompt_tokens, served.expert),
        tools=() if body.tool_choice == "none" else offered(body.tools),
        forced_tool=forced_tool(body.tool_choice),
        may_call=bool(single) and single[-1].get("type") != "function_call_output",
        parallel_calls=body.parallel_tool_calls is not False,
        json_schema=wanted_schema((body.text or {}).get("format")),
        endless=body.ignore_eos,
        minimum_tokens=body.min_tokens,
        thinking=bool((body.chat_template_kwargs or {}).get("enable_thinking")),
    )


@dataclass(slots=True)
class _Shown:
    """All the two renderings need."""

    value: dict[str, Any]
    body: ResponsesBody
    ask: Ask
    answer: Answer
    id: str
    created: int


def _whole(shown: _Shown, output: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The response object; without output, as it is while it runs."""
    body, answer = shown.body, shown.answer
    cut = output is not None and answer.finish == "length"
    status = "in_progress" if output is None else ("incomplete" if cut else "completed")
    return {
        "id": shown.id,
        "created_at": shown.created,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.instructions,
        "metadata": body.metadata,
        "model": shown.ask.served.name,
        "object": "response",
        "output": output or [],
        "parallel_tool_calls": body.parallel_tool_calls,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "tool_choice": body.tool_choice if body.tools else "none",
        "tools": [{name: tool.get(name) for name in TOOL_FIELDS} for tool in body.tools],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "background": False,
        "max_output_tokens": shown.ask.maximum_tokens,
        "max_tool_calls": None,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": shown.value.get("reasoning"),
        "service_tier": "auto",
        "status": status,
        "text": _text_field(body.text),
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": None if output is None else _usage(shown),
        "user": body.user,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _text_field(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    if not wanted or not isinstance(wanted.get("format"), dict):
        return wanted
    given = wanted["format"]
    if given.get("type") == "json_schema":
        given = {name: given.get(name) for name in ("name", "schema", "type", "description", "strict")}
    return {"format": given, "verbosity": wanted.get("verbosity")}


def _usage(shown: _Shown) -> dict[str, Any]:
    prompt_tokens, generated = shown.ask.prompt_tokens, shown.answer.generated
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": generated,
        "output_tokens_details": {
            "reasoning_tokens": len(shown.answer.reasoning),
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": prompt_tokens + generated,
    }


def _items(answer: Answer) -> Iterator[dict[str, Any]]:
    """The output items, all complete."""
    if answer.reasoning:
        content = [{"text": "".join(answer.reasoning), "type": "reasoning_text"}]
        yield {**_reasoning_item(content), "status": None}
    if not answer.calls:
        yield _message_item("completed", [_part(answer.text, None)])
    for call in answer.calls:
        yield _call_item(call, call.arguments, "completed")


def _reasoning_item(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": new_id("rs_"),
        "summary": [],
        "type": "reasoning",
        "content": content,
        "encrypted_content": None,
        "status": "in_progress",
    }


def _message_item(status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": new_id("msg_"),
        "content": content,
        "role": "assistant",
        "status": status,
        "type": "message",
        "phase": None,
    }


def _part(text: str, logprobs: list[Any] | None) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _call_item(call: ToolCall, arguments: str, status: str) -> dict[str, Any]:
    return {
        "arguments": arguments,
        "call_id": new_id("chatcmpl-tool-"),
        "name": call.name,
        "type": "function_call",
        "id": new_id("fc_"),
        "async": None,
        "caller": None,
        "namespace": None,
        "status": status,
    }


def _events(shown: _Shown) -> Iterator[Event]:
    """Numbered events from `response.created` to `response.completed`; no `[DONE]`."""
    for sequence, (kind, fields, step) in enumerate(_unnumbered(shown)):
        numbered = {**fields, "sequence_number": sequence, "type": f"response.{kind}"}
        # vLLM's key order: the alphabet's, except that a call's name comes last.
        yield named_event(dict(sorted(numbered.items(), key=lambda item: (item[0] == "name", item[0]))), step)


_Bare = tuple[str, dict[str, Any], int]
"""An event without its number: kind, fields, step."""


def _unnumbered(shown: _Shown) -> Iterator[_Bare]:
    running = _whole(shown, None)
    yield "created", {"response": running}, 0
    yield "in_progress", {"response": running}, 0
    output: list[dict[str, Any]] = []
    answer, step = shown.answer, 0
    if answer.reasoning:
        yield from _reasoning_events(answer.reasoning, output)
        step = len(answer.reasoning)
    if not answer.calls:
        yield from _message_events(answer.tokens, len(output), step, output)
    for call in answer.calls:
        yield from _call_events(call, len(output), step, output)
    yield "completed", {"response": _whole(shown, output)}, answer.generated


def _reasoning_events(tokens: tuple[str, ...], output: list[dict[str, Any]]) -> Iterator[_Bare]:
    item = _reasoning_item([])
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield "output_item.added", {"item": item, "output_index": 0}, 0
    for step, token in enumerate(tokens):
        yield "reasoning_text.delta", {**place, "delta": token}, step
    text = "".join(tokens)
    yield "reasoning_text.done", {**place, "text": text}, len(tokens)
    done = {**item, "content": [{"text": text, "type": "reasoning_text"}], "status": "completed"}
    output.append(done)
    yield "output_item.done", {"item": done, "output_index": 0}, len(tokens)


def _message_events(tokens: tuple[str, ...], index: int, step: int, output: list[dict[str, Any]]) -> Iterator[_Bare]:
    item = _message_item("in_progress", [])
    place = {"content_index": 0, "item_id": item["id"], "output_index": index}
    yield "output_item.added", {"item": item, "output_index": index}, step
    yield "content_part.added", {**place, "part": _part("", [])}, step
    for token in tokens:
        yield "output_text.delta", {**place, "delta": token, "logprobs": []}, step
        step += 1
    text = "".join(tokens)
    yield "output_text.done", {**place, "logprobs": [], "text": text}, step
    yield "content_part.done", {**place, "part": _part(text, None)}, step
    done = {**item, "content": [_part(text, None)], "status": "completed"}
    output.append(done)
    yield "output_item.done", {"item": done, "output_index": index}, step


def _call_events(call: ToolCall, index: int, step: int, output: list[dict[str, Any]]) -> Iterator[_Bare]:
    item = _call_item(call, "", "in_progress")
    place = {"item_id": item["id"], "output_index": index}
    yield "output_item.added", {"item": item, "output_index": index}, step
    for piece in tokenise(call.arguments):
        yield "function_call_arguments.delta", {"delta": piece, **place}, step
        step += 1
    whole = {"arguments": call.arguments, **place, "name": call.name}
    yield "function_call_arguments.done", whole, step
    done = {**item, "arguments": call.arguments, "status": "completed"}
    output.append(done)
    yield "output_item.done", {"item": done, "output_index": index}, step
