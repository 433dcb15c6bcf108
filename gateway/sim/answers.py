"""What a simulated expert says: text, tool calls, reasoning and JSON, the same for the same request. No HTTP here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Literal

from gateway.sim.experts import Served
from gateway.sim.schema import example
from gateway.sim.tokens import tokenise

ECHO_CHARACTERS = 80
FILLER = (" more", " simulated", " text", ",")
Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the client offers."""

    name: str
    parameters: Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of an offered function."""

    name: str
    arguments: str


@dataclass(slots=True)
class Ask:
    """What one request wants, whatever endpoint it came through.

    Args:
        served: Expert and the name it answers under.
        last_text: The last user text, echoed.
        prompt_tokens: Size of the whole prompt.
        maximum_tokens: Generated tokens at most.
        tools: Offered functions.
        forced_tool: A function's name, "" for any, None when calling is free.
        may_call: False with `tool_choice: none`, and when a tool has just answered and no call is forced.
        parallel_calls: Several tools may be called at once.
        json_schema: Answer with a JSON value of this schema; None: with text.
        literal: Answer with exactly this (`structured_outputs.choice`).
        stop: Strings that end the text.
        keep_stop: The stop string stays in the text.
        endless: Go on up to `maximum_tokens` (`ignore_eos`).
        minimum_tokens: Go on up to this.
        thinking: Say something as reasoning first.
        begun: Beginning of the answer, which the prompt has already (`continue_final_message`).
    """

    served: Served
    last_text: str
    prompt_tokens: int
    maximum_tokens: int
    tools: tuple[Tool, ...] = ()
    forced_tool: str | None = None
    may_call: bool = False
    parallel_calls: bool = True
    json_schema: Any = None
    literal: str | None = None
    stop: tuple[str, ...] = ()
    keep_stop: bool = False
    endless: bool = False
    minimum_tokens: int = 0
    thinking: bool = False
    begun: str = ""


@dataclass(slots=True)
class Answer:
    """One choice, already cut to the wanted length.

    Args:
        reasoning: Tokens of the reasoning.
        tokens: Tokens of the visible text.
        calls: Tool calls; then `tokens` is empty.
        finish: vLLM's finish reason.
        stop_reason: The stop string that ended the text.
        generated: Number of tokens it cost.
    """

    reasoning: tuple[str, ...]
    tokens: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish: Finish
    stop_reason: str | None
    generated: int

    @property
    def text(self) -> str:
        """The visible text."""
        return "".join(self.tokens)


def generate(ask: Ask, index: int = 0) -> Answer:
    """Answer `ask`; `index` is the number of the choice when `n` is above 1."""
    reasoning = tokenise(_thoughts(ask.served)) if ask.thinking else []
    calls = _calls(ask)
    if calls:
        raw = tokenise("".join(_hermes(call) for call in calls))
        if len(reasoning) + len(raw) <= ask.maximum_tokens:
            # vLLM reports `stop` when the function was named by the client.
            finish: Finish = "stop" if ask.forced_tool else "tool_calls"
            return Answer(tuple(reasoning), (), calls, finish, None, len(reasoning) + len(raw))
        return _cut(ask, reasoning, raw)
    tokens = _lengthened(ask, _rest(ask, _text(ask, index)), len(reasoning))
    stopped = _stopped(ask, tokens)
    if stopped is not None:
        kept, stop_reason = stopped
        if len(reasoning) + len(kept) <= ask.maximum_tokens:
            generated = len(reasoning) + len(kept)
            return Answer(tuple(reasoning), tuple(kept), (), "stop", stop_reason, generated)
        tokens = kept
    return _cut(ask, reasoning, tokens)


def _cut(ask: Ask, reasoning: list[str], tokens: list[str]) -> Answer:
    """End at the token limit, or by itself when the text is shorter."""
    whole = len(reasoning) + len(tokens)
    # The end-of-text token counts, so a text that just fills the limit was cut.
    if whole < ask.maximum_tokens and not ask.endless:
        return Answer(tuple(reasoning), tuple(tokens), (), "stop", None, whole + 1)
    kept = tuple(reasoning[: ask.maximum_tokens])
    visible = tuple(tokens[: ask.maximum_tokens - len(kept)])
    return Answer(kept, visible, (), "length", None, len(kept) + len(visible))


def _rest(ask: Ask, text: str) -> list[str]:
    """The tokens that come after what the prompt has already; all of them when that is no beginning of the answer."""
    if not ask.begun:
        return tokenise(text)
    spoken = len(tokenise(ask.begun))
    whole = "".join(_lengthened(ask, tokenise(text), -spoken))
    return tokenise(whole.removeprefix(ask.begun))


def _lengthened(ask: Ask, tokens: list[str], spent: int) -> list[str]:
    wanted = (ask.maximum_tokens if ask.endless else ask.minimum_tokens) - spent
    return [*tokens, *islice(cycle(FILLER), max(0, wanted - len(tokens)))]


def _stopped(ask: Ask, tokens: list[str]) -> tuple[list[str], str] | None:
    """The tokens before (or with) the first stop string, if one occurs."""
    if not ask.stop:
        return None
    text = "".join(tokens)
    found = [(text.find(stop), stop) for stop in ask.stop if stop and stop in text]
    if not found:
        return None
    position, stop = min(found)
    return tokenise(text[: position + (len(stop) if ask.keep_stop else 0)]), stop


def _calls(ask: Ask) -> tuple[ToolCall, ...]:
    if not ask.tools:
        return ()
    if ask.forced_tool is not None:
        wanted = [tool for tool in ask.tools if tool.name == ask.forced_tool] or [ask.tools[0]]
    else:
        wanted = [tool for tool in ask.tools if ask.may_call and tool.name in ask.last_text]
    kept = wanted if ask.parallel_calls else wanted[:1]
    return tuple(ToolCall(tool.name, _arguments(tool)) for tool in kept)


def _arguments(tool: Tool) -> str:
    value = example(tool.parameters if isinstance(tool.parameters, dict) else {"type": "object"})
    return json.dumps(value if isinstance(value, dict) else {})


def _hermes(call: ToolCall) -> str:
    """The call as Hermes-style models write it; seen by clients only when cut short."""
    return f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n</tool_call>'


def _text(ask: Ask, index: int) -> str:
    if ask.literal is not None:
        return ask.literal
    served = ask.served
    if ask.json_schema is not None:
        plain = ask.json_schema == {}
        value: Any = {"simulated": True, "expert": served.name, "domain": served.expert.domain}
        value = value if plain else example(ask.json_schema)
        return json.dumps(value, separators=(",", ":"))
    squeezed = " ".join(ask.last_text.split())
    short = squeezed if len(squeezed) <= ECHO_CHARACTERS else squeezed[: ECHO_CHARACTERS - 3] + "..."
    choice = f", choice {index + 1}" if index else ""
    return (
        f"[simulated answer] expert `{served.name}` (domain {served.expert.domain}{choice}) would answer: "
        f'"{short}". No model ran; this text only shows where the prompt went.'
    )


def _thoughts(served: Served) -> str:
    return f"[simulated reasoning] expert `{served.name}` would think here; no model ran."
