"""`/v1/chat/completions`: body to plan, plan to vLLM's JSON and event stream. It neither waits nor sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway.sim.answers import Answer, Ask, ToolCall, generate
from gateway.sim.bodies import ChatBody
from gateway.sim.errors import SimError, bad_value
from gateway.sim.experts import Roster, Served
from gateway.sim.logprobs import chat_logprobs
from gateway.sim.plans import (
    Draft,
    Plan,
    find_served,
    fingerprint,
    new_id,
    now_s,
    reasoning_details,
    running_usage,
    usage,
)
from gateway.sim.prompts import (
    MAXIMUM_TOP_LOGPROBS,
    check_chat_fields,
    check_sampling,
    content_text,
    count_prompt,
    forced_tool,
    last_user_text,
    offered,
    refuse_other_media,
    refuse_surrogates,
    refuse_tools,
    token_limit,
    wanted_schema,
)
from gateway.sim.replies import DONE, EVENT_HEADERS, Event, Reply, data_event, interleaved, json_reply
from gateway.sim.tokens import tokenise


def draft_chat(body: ChatBody, roster: Roster) -> Draft:
    """Draft the answer to a chat request.

    Raises:
        SimError: what vLLM refuses, worded as vLLM does.
    """
    check_chat_fields(body)
    served = find_served(roster, body.model, "chat")
    ask = _ask(body, served)
    choices = 1 if body.n is None else body.n
    check_sampling(body, choices)
    if (body.top_logprobs or 0) > MAXIMUM_TOP_LOGPROBS:
        text = f"Requested sample logprobs of {body.top_logprobs}, which is greater than max allowed: 20"
        raise bad_value(text, "logprobs", body.top_logprobs)
    answers = tuple(generate(_scripted(ask, body, index), index) for index in range(choices))
    return partial(_plan, body, ask, answers)


def _plan(body: ChatBody, ask: Ask, answers: tuple[Answer, ...], request_id: str | None) -> Plan:
    served = ask.served
    shown = _Shown(body, served, ask, answers, new_id("chatcmpl-", request_id or body.request_id), now_s())
    if body.stream:
        return Plan(served, ask.prompt_tokens, answers, Reply(_events(shown), headers=EVENT_HEADERS))
    steps = max(answer.generated for answer in answers)
    return Plan(served, ask.prompt_tokens, answers, json_reply(_whole(shown), steps=steps))


def _ask(body: ChatBody, served: Served) -> Ask:
    messages = body.messages
    if not messages:
        text = "Cannot apply chat template to an empty conversation. Provide at least one message."
        raise SimError(400, text)
    refuse_other_media(messages, served.name)
    refuse_tools(served.expert, body.tool_choice, body.tools)
    texts = [content_text(message.get("content")) for message in messages]
    refuse_surrogates(texts)
    extra = json.dumps(body.tools) if body.tools else ""
    prompt_tokens = count_prompt(texts, served.expert, messages=len(messages), extra=extra)
    # vLLM lets the newer name win where both are given.
    wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    literals = (body.structured_outputs or {}).get("choice") or (None,)
    return Ask(
        served=served,
        last_text=last_user_text(messages),
        prompt_tokens=prompt_tokens,
        maximum_tokens=token_limit(wanted, prompt_tokens, served.expert),
        tools=() if body.tool_choice == "none" else offered(body.tools),
        forced_tool=forced_tool(body.tool_choice),
        may_call=messages[-1].get("role") != "tool",
        parallel_calls=body.parallel_tool_calls is not False,
        json_schema=wanted_schema(body.response_format, body.structured_outputs),
        literal=literals[0],
        stop=stop_strings(body.stop),
        keep_stop=body.include_stop_str_in_output,
        endless=body.ignore_eos,
        minimum_tokens=body.min_tokens,
        thinking=bool((body.chat_template_kwargs or {}).get("enable_thinking")),
        begun=content_text(messages[-1].get("content")) if body.continue_final_message else "",
    )


def _scripted(ask: Ask, body: ChatBody, index: int) -> Ask:
    """Say what `sim_answer` says: of a list each choice its own, from the seed on, as sampling would differ."""
    texts = [body.sim_answer] if isinstance(body.sim_answer, str) else body.sim_answer
    return replace(ask, literal=texts[((body.seed or 0) + index) % len(texts)]) if texts else ask


def stop_strings(stop: str | list[str] | None) -> tuple[str, ...]:
    """The `stop` field as a tuple."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


@dataclass(slots=True)
class _Shown:
    """All the two renderings need."""

    body: ChatBody
    served: Served
    ask: Ask
    answers: tuple[Answer, ...]
    id: str
    created: int

    def logprobs(self, tokens: tuple[str, ...]) -> dict[str, Any] | None:
        """The `logprobs` of some tokens, where asked for."""
        if not self.body.logprobs:
            return None
        mean = self.served.expert.logprob if self.body.sim_logprob is None else self.body.sim_logprob
        return chat_logprobs(tokens, mean, self.body.top_logprobs or 0)


def _whole(shown: _Shown) -> dict[str, Any]:
    return {
        "id": shown.id,
        "object": "chat.completion",
        "created": shown.created,
        "model": shown.served.name,
        "choices": [_choice(shown, index, answer) for index, answer in enumerate(shown.answers)],
        "service_tier": None,
        "system_fingerprint": fingerprint(shown.served),
        "usage": usage(shown.ask.prompt_tokens, shown.answers),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _choice(shown: _Shown, index: int, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message(shown.ask, answer),
        "logprobs": shown.logprobs(answer.tokens),
        "finish_reason": answer.finish,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _message(ask: Ask, answer: Answer) -> dict[str, Any]:
    # vLLM: null beside a call made freely, "" beside a forced one.
    content: str | None = answer.text
    if answer.calls and ask.forced_tool is None:
        content = None
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": new_id("chatcmpl-tool-"),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    message["reasoning"] = "".join(answer.reasoning) if answer.reasoning else None
    return message


def _events(shown: _Shown) -> Iterator[Event]:
    """Role chunks, then the choices' chunks in turn, then usage and `[DONE]`."""
    options = shown.body.stream_options
    with_usage = options is not None and bool(options.include_usage)
    running = with_usage and options is not None and bool(options.continuous_usage_stats)
    for index in range(len(shown.answers)):
        delta = {"role": "assistant", "content": ""}
        chunk = _chunk(shown, {"index": index, "delta": delta, "logprobs": None, "finish_reason": None})
        if running:
            chunk["usage"] = running_usage(shown.ask.prompt_tokens, 0)
        yield data_event({**chunk, "prompt_token_ids": None, "prompt_text": None})
    streams = [list(_choice_chunks(shown, index, running)) for index in range(len(shown.answers))]
    turns = interleaved(streams)
    if not with_usage:
        turns[-1][1]["system_fingerprint"] = fingerprint(shown.served)
    for step, chunk in turns:
        yield data_event(chunk, step)
    last_step = turns[-1][0] + 1
    if with_usage:
        chunk = {**_chunk(shown), "usage": _final_usage(shown)}
        yield data_event({**chunk, "system_fingerprint": fingerprint(shown.served)}, last_step)
    yield Event(DONE, last_step)


def _chunk(shown: _Shown, *choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": shown.id,
        "object": "chat.completion.chunk",
        "created": shown.created,
        "model": shown.served.name,
        "choices": list(choices),
    }


def _final_usage(shown: _Shown) -> dict[str, Any]:
    """The usage chunk leaves out what a whole answer gives as null."""
    final = usage(shown.ask.prompt_tokens, shown.answers)
    final["prompt_tokens_details"] = {"cached_tokens": 0, "created_cache_tokens": 0}
    final["completion_tokens_details"] = reasoning_details(shown.answers)
    return {key: value for key, value in final.items() if value is not None}


def _choice_chunks(shown: _Shown, index: int, running: bool) -> Iterator[dict[str, Any]]:
    """One chunk per token; the finish reason rides on the last token only when the text was cut."""
    answer = shown.answers[index]
    deltas = list(_deltas(answer))
    # A cut text ends with its last token's chunk, any other with a chunk of its own.
    if answer.finish != "length" or not deltas:
        deltas.append(({}, ()))
    for position, (delta, tokens) in enumerate(deltas):
        final = position == len(deltas) - 1
        choice: dict[str, Any] = {"index": index, "delta": delta, "logprobs": None}
        if tokens:
            choice["logprobs"] = shown.logprobs(tokens)
        choice["finish_reason"] = answer.finish if final else None
        if final:
            choice["stop_reason"] = answer.stop_reason
        choice["token_ids"] = None
        chunk = _chunk(shown, choice)
        if running:
            generated = answer.generated if final else position + 1
            reasoning = min(generated, len(answer.reasoning))
            chunk["usage"] = running_usage(shown.ask.prompt_tokens, generated, reasoning)
        yield chunk


def _deltas(answer: Answer) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Each delta with the tokens whose log-probabilities it carries."""
    for token in answer.reasoning:
        yield {"reasoning": token}, ()
    for token in answer.tokens:
        yield {"content": token}, (token,)
    for number, call in enumerate(answer.calls):
        yield from _call_deltas(number, call)


def _call_deltas(number: int, call: ToolCall) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Id and name first, then the arguments in pieces."""
    head = {"id": new_id("chatcmpl-tool-"), "type": "function", "index": number, "function": {"name": call.name}}
    yield {"content": None, "tool_calls": [head]}, ()
    for piece in tokenise(call.arguments):
        yield {"content": None, "tool_calls": [{"index": number, "function": {"arguments": piece}}]}, ()
