"""Answers made of samples: one choice out of several as a plain answer, and a plain answer as a stream. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.answers import Opened, Usage
from gateway.errors import PointsmanError
from gateway.sse import data_event

DONE = b"data: [DONE]\n\n"
_STREAMED = ("reasoning", "reasoning_content", "content", "refusal")


def alone(body: dict[str, Any], choice: dict[str, Any], usage: dict[str, Any] | None) -> dict[str, Any]:
    """Return a plain answer with this choice only, and with a usage of ours where there is one."""
    made = {**body, "choices": [{**choice, "index": 0}]}
    if usage is not None:
        made["usage"] = usage
    return made


def summed(usages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the sum of `usage` objects, number by number; None without any."""
    total: dict[str, Any] = {}
    for usage in usages:
        _add(total, usage)
    return total or None


def plain(body: dict[str, Any], usage: Usage) -> Opened:
    """Return a plain answer ready to be sent."""
    return Opened(200, "application/json", orjson.dumps(body), _Nothing(), usage=usage)


def streamed(body: dict[str, Any], usage: Usage) -> Opened:
    """Return a plain answer of one choice as a stream: role, reasoning, content, end, usage, `[DONE]`.

    The usage chunk is always there; who did not ask for it does not get to see it (`streaming.StreamRelay`).
    """
    (choice,) = body["choices"]
    head = {
        "id": body.get("id"),
        "object": "chat.completion.chunk",
        "created": body.get("created"),
        "model": body.get("model"),
    }

    def event(delta: dict[str, Any], logprobs: Any = None, **ending: Any) -> bytes:
        ending = ending or {"finish_reason": None}
        return data_event({**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, **ending}]})

    message = choice.get("message") or {}
    logprobs = choice.get("logprobs")
    events = [event({"role": "assistant", "content": ""})]
    spoken = [name for name in _STREAMED if message.get(name)]
    events += [event({name: message[name]}, logprobs if name == "content" else None) for name in spoken]
    events.append(event({}, finish_reason=choice.get("finish_reason"), stop_reason=choice.get("stop_reason")))
    last: dict[str, Any] = {**head, "choices": [], "usage": body.get("usage")}
    if body.get("system_fingerprint") is not None:
        last["system_fingerprint"] = body["system_fingerprint"]
    events += [data_event(last), DONE]
    return Opened(200, "text/event-stream; charset=utf-8", b"".join(events), _Nothing(), _Ended(), usage=usage)


def _add(total: dict[str, Any], usage: dict[str, Any]) -> None:
    for name, value in usage.items():
        if isinstance(value, dict):
            inner = total.get(name)
            total[name] = inner = dict(inner) if isinstance(inner, dict) else {}
            _add(inner, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known = total.get(name)
            total[name] = value + (known if isinstance(known, int | float) else 0)
        else:
            total.setdefault(name, value)


class _Ended:
    """The rest of a stream that is all there."""

    async def read_chunk(self) -> bytes:
        """Return the end."""
        return b""


class _Nothing:
    """Keeps nothing open."""

    def close(self) -> None:
        """Do nothing."""

    def ended(self, error: PointsmanError | None) -> None:
        """Do nothing."""
