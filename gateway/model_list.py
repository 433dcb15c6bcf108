"""Reads a server's `/v1/models`: which names it serves, and their context limits. Asks nobody."""

from __future__ import annotations

from typing import Any

import orjson


def listed(status: int, body: bytes) -> tuple[frozenset[str] | None, dict[str, int]]:
    """Read served names, None when they are not known, and `max_model_len` per name.

    Only vLLM's list says what is served: others answer to names that they do not list. An adapter has its parent's
    length, because vLLM lists it without one.
    """
    try:
        cards: Any = orjson.loads(body)["data"] if status == 200 else None
        own = {card["id"]: card.get("max_model_len") for card in cards}
        found = {card["id"]: own[card["id"]] or own.get(card.get("parent")) for card in cards}
        complete = any(card.get("owned_by") == "vllm" for card in cards)
        names = frozenset(name for name in own if isinstance(name, str)) if complete else None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None, {}
    return names, {
        name: length for name, length in found.items() if isinstance(name, str) and type(length) is int and length > 0
    }
