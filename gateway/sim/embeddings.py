"""`/v1/embeddings`: made-up unit vectors, equal for equal texts. No model; it neither waits nor sends."""

from __future__ import annotations

import base64
import hashlib
import math
from array import array
from typing import Any

from gateway.sim.bodies import EmbeddingsBody
from gateway.sim.errors import SimError
from gateway.sim.experts import Roster
from gateway.sim.plans import Draft, Plan, new_id, now_s
from gateway.sim.prompts import count_prompt
from gateway.sim.replies import json_reply

DIMENSIONS = 64
FORMATS = ("float", "base64")


def draft_embeddings(body: EmbeddingsBody, roster: Roster) -> Draft:
    """Draft the answer to an embeddings request.

    Raises:
        SimError: what vLLM refuses, worded as vLLM does.
    """
    _check_format(body.encoding_format)
    served = roster.find(body.model, "embeddings")
    if served is None:
        # The pooling server names no parameter and no aliases.
        raise SimError(404, f"The model `{body.model}` does not exist.", "NotFoundError")
    if body.dimensions is not None:
        text = f"Model '{served.name}' does not support Matryoshka embeddings; dimensions must be unset"
        raise SimError(400, f"{text} (received dimensions={body.dimensions}).")
    texts = _texts(body.input)
    if not texts:
        raise SimError(400, "You must pass at least one prompt")
    tokens = sum(max(1, count_prompt([text], served.expert)) for text in texts)
    entries = [
        {"index": index, "object": "embedding", "embedding": _encoded(text, body.encoding_format)}
        for index, text in enumerate(texts)
    ]
    usage = {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }

    def plan(request_id: str | None) -> Plan:
        head = {"id": new_id("embd-", request_id or body.request_id), "object": "list", "created": now_s()}
        whole = {**head, "model": served.name, "data": entries, "usage": usage}
        return Plan(served, tokens, (), json_reply(whole))

    return plan


def _check_format(encoding_format: str | None) -> None:
    if encoding_format not in FORMATS:
        known = "'float', 'base64', 'bytes' or 'bytes_only'"
        entry = {
            "type": "literal_error",
            "loc": "body.encoding_format",
            "msg": f"Input should be {known}",
            "input": str(encoding_format),
            "ctx": {"expected": known},
        }
        text = f"1 validation error:\n  {entry!r}"
        raise SimError(400, text, "Bad Request", "body.encoding_format", schema=True)


def _texts(wanted: str | list[int] | list[list[int]] | list[str]) -> list[str]:
    if isinstance(wanted, str):
        return [wanted]
    if wanted and isinstance(wanted[0], int):
        return [" ".join(f"token{number}" for number in wanted)]
    return [item if isinstance(item, str) else " ".join(f"token{number}" for number in item) for item in _items(wanted)]


def _items(wanted: list[int] | list[list[int]] | list[str]) -> list[str | list[int]]:
    return [item for item in wanted if isinstance(item, str | list)]


def _encoded(text: str, encoding_format: str | None) -> Any:
    values = vector(text)
    if encoding_format == "base64":
        return base64.b64encode(array("f", values).tobytes()).decode()
    return values


def vector(text: str) -> list[float]:
    """A unit vector of `DIMENSIONS` floats made from the text's hash."""
    raw = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(DIMENSIONS)
    values = [byte / 127.5 - 1 for byte in raw]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]
