"""`/v1/messages`: body to plan, plan to the JSON and named events vLLM gives. It neither waits nor sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.sim.answers import Answer, Ask, generate
from gateway.sim.bodies import MessagesBody
from gateway.sim.errors import SimError
from gateway.sim.experts import Roster, Served
from gateway.sim.plans import Draft, Plan, find_served, new_id
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
)
from gateway.sim.replies import EVENT_HEADERS, Event, Reply, json_reply, named_event
from gateway.sim.tokens import tokenise

STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use"}


def draft_messages(body: MessagesBody, roster: Roster) -> Draft:
    """Draft the answer to a messages request.

    Raises:
        SimError: what vLLM refuses, worded as vLLM does.
    """
    served = find_served(roster, body.model, "messages")
    ask = _ask(body, served)
    check_sampling(body, 1)
    answer = generate(ask)

    def plan(request_id: str | None) -> Plan:
        shown = _Shown(served, ask, answer, new_id("chatcmpl-", request_id or body.request_id))
        if body.stream:
            return Plan(served, ask.prompt_tokens, (answer,), Reply(_events(shown), headers=EVENT_HEADERS))
        return Plan(served, ask.prompt_tokens, (answer,), json_reply(_whole(shown), steps=answer.generated))

    return plan


def count_message_tokens(body: MessagesBody, served: Served) -> int:
    """Tokens of the whole prompt of a messages request."""
    system = [content_text(body.system)] if body.system is not None else []
    texts = [*system, *(content_text(message.get("content")) for message in body.messages)]
    refuse_surrogates(texts)
    extra = json.dumps(body.tools) if body.tools else ""
    framed = len(body.messages) + len(system)
    return count_prompt(texts, served.expert, messages=framed, extra=extra)


def _ask(body: MessagesBody, served: Served) -> Ask:
    if not body.messages:
        text = "Cannot apply chat template to an empty conversation. Provide at least one message."
        raise SimError(400, text)
    refuse_other_media(body.messages, served.name)
    prompt_tokens = count_message_tokens(body, served)
    choice = body.tool_choice or {"type": "auto"}
    return Ask(
        served=served,
        last_text=last_user_text(body.messages),
        prompt_tokens=prompt_tokens,
        maximum_tokens=token_limit(body.max_tokens, prompt_tokens, served.expert),
        tools=() if choice.get("type") == "none" else offered(body.tools),
        forced_tool=forced_tool(choice) if choice.get("type") in {"any", "tool"} else None,
        may_call=not _holds_result(body.messages[-1]),
        parallel_calls=not choice.get("disable_parallel_tool_use"),
        stop=tuple(body.stop_sequences or ()),
        endless=body.ignore_eos,
        minimum_tokens=body.min_tokens,
        thinking=bool((body.chat_template_kwargs or {}).get("enable_thinking")),
    )


def _holds_result(message: dict[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return any(isinstance(part, dict) and part.get("type") == "tool_result" for part in parts)


@dataclass(slots=True)
class _Shown:
    """All the two renderings need."""

    served: Served
    ask: Ask
    answer: Answer
    id: str

    @property
    def stop_reason(self) -> str:
        """Anthropic's word for the finish reason."""
        if self.answer.stop_reason is not None:
            return "stop_sequence"
        return "tool_use" if self.answer.calls else STOP_REASONS.get(self.answer.finish, "end_turn")

    @property
    def usage(self) -> dict[str, int]:
        """The final usage."""
        return {
            "input_tokens": self.ask.prompt_tokens,
            "output_tokens": self.answer.generated,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }


def _whole(shown: _Shown) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "id": shown.id,
        "type": "message",
        "role": "assistant",
        "content": list(_blocks(shown.answer)),
        "model": shown.served.name,
        "stop_reason": shown.stop_reason,
    }
    if shown.answer.stop_reason is not None:
        whole["stop_sequence"] = shown.answer.stop_reason
    whole["usage"] = shown.usage
    return whole


def _blocks(answer: Answer) -> Iterator[dict[str, Any]]:
    if answer.reasoning:
        yield {"type": "thinking", "thinking": "".join(answer.reasoning), "signature": new_id("")}
    if not answer.calls:
        yield {"type": "text", "text": answer.text}
    for call in answer.calls:
        identity = new_id("chatcmpl-tool-")
        yield {"type": "tool_use", "id": identity, "name": call.name, "input": json.loads(call.arguments)}


def _events(shown: _Shown) -> Iterator[Event]:
    """`message_start`, the content blocks, `message_delta`, `message_stop`; no `[DONE]`."""
    message: dict[str, Any] = {
        "id": shown.id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": shown.served.name,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": shown.ask.prompt_tokens, "output_tokens": 0},
    }
    yield named_event({"type": "message_start", "message": message})
    step = 0
    for index, (start, deltas) in enumerate(_streamed_blocks(shown.answer)):
        yield named_event({"type": "content_block_start", "content_block": start, "index": index}, step)
        for delta in deltas:
            yield named_event({"type": "content_block_delta", "delta": delta, "index": index}, step)
            step += 1
        yield named_event({"type": "content_block_stop", "index": index}, step)
    delta = {"stop_reason": shown.stop_reason, "stop_sequence": shown.answer.stop_reason}
    yield named_event({"type": "message_delta", "delta": delta, "usage": shown.usage}, step)
    yield named_event({"type": "message_stop"}, step)


def _streamed_blocks(answer: Answer) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each block's opening and its deltas."""
    if answer.reasoning:
        deltas = [{"type": "thinking_delta", "thinking": token} for token in answer.reasoning]
        signature = {"type": "signature_delta", "signature": new_id("")}
        yield {"type": "thinking", "thinking": ""}, [*deltas, signature]
    if not answer.calls:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": token} for token in answer.tokens]
    for call in answer.calls:
        start = {"type": "tool_use", "id": new_id("chatcmpl-tool-"), "name": call.name, "input": {}}
        pieces = tokenise(call.arguments)
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
