"""Tells whether what an upstream sent is a whole answer, so that nothing broken is given again. Changes nothing."""

from __future__ import annotations

import re

import orjson

# Inside JSON strings quotes are escaped, so these can only be an engine's own words for an answer that is none.
_FAILED = re.compile(rb'"finish_reason"\s*:\s*"(?:abort|error)"|"object"\s*:\s*"error"|\{\s*"error"\s*:')
_DONE = b"[DONE]"


def is_whole(body: bytes, *, stream: bool) -> bool:
    """Tell whether an answer with status 200 is worth keeping.

    Args:
        body: all of it. Of a plain answer the dispatcher has checked that it is JSON.
        stream: it is server-sent events: each must carry one line with a JSON object, the last `[DONE]`.
    """
    # The pattern is ten times slower than looking for the words, and hardly any answer has them in quotes.
    if (b'"error"' in body or b'"abort"' in body) and _FAILED.search(body):
        return False
    return not stream or _ends_well(body)


def _ends_well(body: bytes) -> bool:
    carried = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    if not carried or carried.pop() != _DONE:
        return False
    try:
        return all(isinstance(orjson.loads(data), dict) for data in carried)
    except orjson.JSONDecodeError:
        return False
