"""Counts the parts of messages, so that a body of very many small ones does not hold up every other request.

Every part costs some microseconds in each of the readers that follow (features, media, conversation). Changes nothing.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidRequest

KEYS_OF_A_PART = 32
"""An object counts once more for so many keys: readers look at each."""


def check_parts(items: list[Any], most: int, where: str) -> None:
    """Count content parts, tool calls and the parts of tools' results, however deep, all messages together.

    Looks at no more than `most` of them.

    Args:
        items: messages or input items, not too many of them.
        most: how many there may be.
        where: the field, for the error.

    Raises:
        InvalidRequest: there are more.
    """
    count, pending = 0, [items]
    while pending:
        for item in pending.pop():
            inner: tuple[Any, ...] = (item,)
            if isinstance(item, dict):
                inner = (item.get("content"), item.get("output"), item.get("tool_calls"))
                count += len(item) // KEYS_OF_A_PART
            for value in inner:
                if isinstance(value, dict):
                    value = [value]
                if isinstance(value, list):
                    count += len(value)
                    pending.append(value)
            if count > most:
                raise InvalidRequest(f"`{where}` may have {most} parts at most, all together.", param=where)
