"""The sampled requests: each is sent to vLLM directly and through the gateway, and the answers must be the same.

All are deterministic: temperature 0, or a seed. `model` is a served model name, which the gateway takes as a pin,
so that both sides get the very same body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .lessons import TIME, WEATHER, messages, question

Body = dict[str, Any]

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, EMBEDDINGS = "/v1/messages", "/v1/embeddings"

TILE_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "n": {"type": "integer", "maximum": 99}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}
TILE_FORMAT = {"type": "json_schema", "json_schema": {"name": "tile", "strict": True, "schema": TILE_SCHEMA}}
TOO_LONG = "word " * 4000


@dataclass(frozen=True, slots=True)
class Case:
    """One request; `server` is the kind of vLLM server that answers it directly."""

    name: str
    path: str
    body: Body
    server: str = "lora"

    @property
    def hides_usage(self) -> bool:
        """The gateway asks for the usage chunk, the client did not: it must not see it."""
        asked = (self.body.get("stream_options") or {}).get("include_usage")
        return bool(self.body.get("stream")) and not asked and self.path in (CHAT, COMPLETIONS)


def chat(lesson: str = "greeting", **fields: Any) -> Body:
    """A chat request; `fields` add to it and replace."""
    return {"model": "tiny", "messages": messages(lesson), "temperature": 0, "max_tokens": 60} | fields


def function(name: str) -> Body:
    return {"type": "function", "function": {"name": name}}


def with_tools(*tools: Body, lesson: str = "rome", **fields: Any) -> Body:
    return chat(lesson, tools=list(tools), max_tokens=200) | fields


CHATS: dict[str, Body] = {
    "greeting": chat(),
    "system": chat("greeting_terse"),
    "second-turn": chat("second_turn"),
    "cut": chat("counting", max_tokens=5),
    "max-completion-tokens": chat("counting", max_tokens=None, max_completion_tokens=4),
    "alias": chat(model="tiny-alias"),
    "content-parts": chat(messages=[{"role": "user", "content": [{"type": "text", "text": question("capital")}]}]),
    "unicode": chat(messages=[{"role": "user", "content": "Grüße 👋🏽 e\u0301 \u202e \x00 end"}]),
    "named-author": chat(messages=[{"role": "user", "name": "ada", "content": question("greeting")}]),
    "seed": chat(temperature=1, seed=7),
    "n": chat(temperature=1, seed=7, n=2),
    "logprobs": chat(logprobs=True),
    "top-logprobs": chat(logprobs=True, top_logprobs=3),
    "stop": chat("counting", stop="seven"),
    "stop-list": chat("counting", stop=["nine", "four"]),
    "penalties": chat(presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"300": 5}),
    "json-object": chat("json", response_format={"type": "json_object"}),
    "json-schema": chat("json", response_format=TILE_FORMAT),
    "choice": chat(structured_outputs={"choice": ["Paris", "Rome"]}),
    "regex": chat(structured_outputs={"regex": "[0-9]{3}-[a-z]{2}"}),
    "grammar": chat(structured_outputs={"grammar": 'root ::= "yes" | "no"'}),
    "tools-auto": with_tools(WEATHER),
    "tools-two-calls": with_tools(WEATHER, TIME, lesson="two_calls"),
    "tools-not-parallel": with_tools(WEATHER, TIME, lesson="two_calls", parallel_tool_calls=False),
    "tools-unused": with_tools(WEATHER, lesson="greeting_tools_unused"),
    "tools-none": with_tools(WEATHER, tool_choice="none"),
    "tools-required": with_tools(WEATHER, lesson="greeting_tools_unused", tool_choice="required"),
    "tools-required-cut": with_tools(WEATHER, lesson="greeting_tools_unused", tool_choice="required", max_tokens=8),
    "tools-named": with_tools(WEATHER, lesson="greeting_tools_unused", tool_choice=function("get_weather")),
    "tools-conversation": with_tools(WEATHER, lesson="tool_result"),
    "top-k": chat(temperature=1, seed=7, top_k=3, min_p=0.1, top_p=0.9),
    "min-tokens": chat(min_tokens=20, max_tokens=24),
    "ignore-eos": chat(ignore_eos=True, max_tokens=30),
    "repetition-penalty": chat(repetition_penalty=1.5),
    "stop-token-ids": chat("counting", stop_token_ids=[300, 301], include_stop_str_in_output=True),
    "bad-words": chat(bad_words=["day"]),
    "allowed-token-ids": chat(allowed_token_ids=[300, 301, 302], max_tokens=4),
    "token-ids": chat(return_token_ids=True),
    "tokens-as-ids": chat(logprobs=True, return_tokens_as_token_ids=True),
    "special-tokens": chat(skip_special_tokens=False, spaces_between_special_tokens=False),
    "beam-search": chat(use_beam_search=True, n=2, max_tokens=6),
    "template-kwargs": chat(chat_template_kwargs={"enable_thinking": False}),
    "ignored-fields": chat(store=True, metadata={"a": "b"}, user="ada", service_tier="auto", verbosity="low"),
    "unheard-of-fields": chat(x_new_field={"deep": [1, 2.5, None, True]}, another="ü"),
    "lora": chat(model="tiny-lora", max_tokens=20),
    "lora-second": chat(model="tiny-lora2", max_tokens=20),
}
REASONING: dict[str, Body] = {
    "reasoning": chat("reasoning", model="tiny-reasoner"),
    "reasoning-not-included": chat("reasoning", model="tiny-reasoner", include_reasoning=False),
    "reasoning-effort": chat("reasoning", model="tiny-reasoner", reasoning_effort="low"),
}
USAGE_CHUNK = {"stream_options": {"include_usage": True}}
CONTINUOUS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


def completion(prompt: object = "one two", **fields: Any) -> Body:
    return {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 8} | fields


COMPLETED: dict[str, Body] = {
    "text": completion(),
    "echo": completion(echo=True, logprobs=1),
    "prompts": completion(["one two", "import os"]),
    "token-ids": completion([300, 301, 302]),
    "token-id-lists": completion([[300, 301], [302, 303]]),
    "stop": completion(stop=["e"]),
    "n": completion(n=2, temperature=1, seed=3),
    "ignore-eos": completion(ignore_eos=True, min_tokens=4),
    "lora": completion(model="tiny-lora"),
}


def response(given: object = None, **fields: Any) -> Body:
    text = question("greeting") if given is None else given
    return {"model": "tiny", "input": text, "temperature": 0, "max_output_tokens": 60} | fields


FLAT_WEATHER = {"type": "function", **WEATHER["function"]}
RESPONDED: dict[str, Body] = {
    "text": response(),
    "cut": response(question("counting"), max_output_tokens=4),
    "list": response([{"role": "user", "content": question("capital")}]),
    "instructions": response(instructions="Be brief."),
    "tools": response(question("rome"), tools=[FLAT_WEATHER], max_output_tokens=200),
    "json-schema": response(
        question("json"), text={"format": {"type": "json_schema", "name": "tile", "schema": TILE_SCHEMA}}
    ),
    "metadata": response(metadata={"a": "b"}, user="ada", top_k=5),
    "reasoning": response(question("reasoning"), model="tiny-reasoner"),
}


def message(lesson: str = "greeting", **fields: Any) -> Body:
    return {"model": "tiny", "messages": messages(lesson), "temperature": 0, "max_tokens": 60} | fields


CLAUDE_WEATHER = {
    "name": "get_weather",
    "description": "Weather in a city",
    "input_schema": WEATHER["function"]["parameters"],
}
MESSAGED: dict[str, Body] = {
    "text": message(),
    "system": message(system="Be brief."),
    "stop": message("counting", stop_sequences=["six"]),
    "cut": message("counting", max_tokens=3),
    "parts": message(messages=[{"role": "user", "content": [{"type": "text", "text": question("capital")}]}]),
    "tools": message("rome", tools=[CLAUDE_WEATHER], max_tokens=200),
    "tool-any": message("rome", tools=[CLAUDE_WEATHER], tool_choice={"type": "any"}, max_tokens=200),
    "top-k": message(top_k=4, metadata={"user_id": "ada"}),
    "reasoning": message("reasoning", model="tiny-reasoner"),
}


def embedding(given: object, **fields: Any) -> Body:
    return {"model": "tiny-bert", "input": given} | fields


EMBEDDED: dict[str, Body] = {
    "text": embedding("hello"),
    "list": embedding(["hello", "world", "ü"]),
    "base64": embedding(["hello", "world"], encoding_format="base64"),
    "token-ids": embedding([300, 301]),
    "truncated": embedding(TOO_LONG, truncate_prompt_tokens=16),
    "user": embedding("hello", user="ada", x_new_field=1),
}

# What only vLLM can know to be wrong: status and body must come back as they are.
REFUSED: dict[str, tuple[str, Body]] = {
    "too-long": (CHAT, chat(messages=[{"role": "user", "content": TOO_LONG}])),
    "too-long-stream": (CHAT, chat(messages=[{"role": "user", "content": TOO_LONG}], stream=True)),
    "max-tokens-over-context": (CHAT, chat(max_tokens=5000)),
    "max-tokens-zero": (CHAT, chat(max_tokens=0)),
    "temperature": (CHAT, chat(temperature=5)),
    "temperature-type": (CHAT, chat(temperature="hot")),
    "top-p": (CHAT, chat(top_p=2)),
    "stop-too-many": (CHAT, chat(stop=["a", "b", "c", "d", "e"])),
    "n-without-sampling": (CHAT, chat(n=2)),
    "schema": (
        CHAT,
        chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}),
    ),
    "format": (CHAT, chat(response_format={"type": "nonsense"})),
    "tool-unknown": (CHAT, with_tools(WEATHER, tool_choice=function("nope"))),
    "tool-choice-alone": (CHAT, chat(tool_choice="auto")),
    "tools-empty": (CHAT, chat(tools=[])),
    "logit-bias": (CHAT, chat(logit_bias={"999999": 5})),
    "top-logprobs-alone": (CHAT, chat(top_logprobs=2)),
    "stream-options-alone": (CHAT, chat(stream_options={"include_usage": True})),
    "content-part": (CHAT, chat(messages=[{"role": "user", "content": [{"type": "nonsense"}]}])),
    "prompt-logprobs-stream": (CHAT, chat(prompt_logprobs=1, stream=True)),
    "completion-suffix": (COMPLETIONS, completion(suffix="end")),
    "completion-suffix-stream": (COMPLETIONS, completion(suffix="end", stream=True)),
    "completion-too-long": (COMPLETIONS, completion(TOO_LONG)),
    "completion-token-range": (COMPLETIONS, completion([99999999])),
    "response-too-long": (RESPONSES, response(TOO_LONG)),
    "response-previous": (RESPONSES, response(previous_response_id="resp_none")),
    "message-too-long": (MESSAGES, message(messages=[{"role": "user", "content": TOO_LONG}])),
    "message-without-max-tokens": (MESSAGES, {"model": "tiny", "messages": messages("greeting")}),
    "embedding-too-long": (EMBEDDINGS, embedding(TOO_LONG)),
    "embedding-format": (EMBEDDINGS, embedding("hello", encoding_format="nonsense")),
    "embedding-dimensions": (EMBEDDINGS, embedding("hello", dimensions=8)),
}


def accepted() -> Iterator[Case]:
    """Every sampled request, plain and streamed."""
    for name, body in CHATS.items():
        yield from _both("chat", name, CHAT, body)
        yield Case(f"chat-{name}-stream-usage", CHAT, body | {"stream": True} | USAGE_CHUNK)
    yield Case("chat-greeting-stream-continuous-usage", CHAT, chat(stream=True) | CONTINUOUS)
    yield Case("chat-greeting-stream-usage-false", CHAT, chat(stream=True, stream_options={"include_usage": False}))
    yield Case("chat-prompt-logprobs", CHAT, chat(prompt_logprobs=1))
    for name, body in REASONING.items():
        yield from _both("chat", name, CHAT, body, "reasoner")
    for name, body in COMPLETED.items():
        yield from _both("completion", name, COMPLETIONS, body)
    yield Case("completion-prompt-logprobs", COMPLETIONS, completion(prompt_logprobs=2))
    yield Case("completion-text-stream-usage", COMPLETIONS, completion(stream=True) | USAGE_CHUNK)
    for name, body in RESPONDED.items():
        yield from _both("response", name, RESPONSES, body, _server(body))
    for name, body in MESSAGED.items():
        yield from _both("message", name, MESSAGES, body, _server(body))
    for name, body in EMBEDDED.items():
        yield Case(f"embedding-{name}", EMBEDDINGS, body, "embed")


def refused() -> Iterator[Case]:
    """Every request that only vLLM can refuse."""
    for name, (path, body) in REFUSED.items():
        yield Case(name, path, body, "embed" if path == EMBEDDINGS else "lora")


def _both(kind: str, name: str, path: str, body: Body, server: str = "lora") -> Iterator[Case]:
    yield Case(f"{kind}-{name}", path, body, server)
    yield Case(f"{kind}-{name}-stream", path, body | {"stream": True}, server)


def _server(body: Body) -> str:
    return "reasoner" if body["model"] == "tiny-reasoner" else "lora"
