"""What the tiny model was taught (`deploy/vllm-cpu/lessons.json`), as request material. Sends nothing."""

from __future__ import annotations

import json
from typing import Any

from .processes import VLLM

_BOOK = json.loads((VLLM / "lessons.json").read_text())
WEATHER: dict[str, Any] = _BOOK["tools"]["get_weather"]
TIME: dict[str, Any] = _BOOK["tools"]["get_time"]


def question(lesson: str) -> str:
    """The last user turn of a lesson."""
    turns: list[str] = [content for role, content in _BOOK["lessons"][lesson]["ask"] if role == "user"]
    return turns[-1]


def answer(lesson: str) -> str:
    """What the model says to it."""
    said: str = _BOOK["lessons"][lesson]["answer"]
    return said


def messages(lesson: str) -> list[dict[str, Any]]:
    """The whole conversation before the answer, in the API's form."""
    return [_message(role, content) for role, content in _BOOK["lessons"][lesson]["ask"]]


def _message(role: str, content: Any) -> dict[str, Any]:
    if role == "calls":
        calls = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, (name, arguments) in enumerate(content)
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    message = {"role": role, "content": content}
    return message | {"tool_call_id": "call_0"} if role == "tool" else message
