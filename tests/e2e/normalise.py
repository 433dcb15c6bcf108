"""Makes two answers to the same request comparable byte for byte: numbers ids, blanks timestamps, nothing else.

Works on the bytes, not on parsed JSON, so that order, spacing and escapes are compared too. Inside JSON strings
quotes are escaped; the patterns therefore match keys only, never the model's own words.
"""

from __future__ import annotations

import re

_IDS = re.compile(rb'"(id|item_id|call_id|tool_call_id|request_id|signature)":"([^"\\]*)"')
_TIMES = re.compile(rb'"(created|created_at|completed_at)":[0-9.]+')


def normalise(body: bytes) -> bytes:
    """Replace every id by the number of its first appearance, keeping its kind, and every timestamp by 0."""
    seen: dict[bytes, bytes] = {}

    def numbered(match: re.Match[bytes]) -> bytes:
        key, value = match.groups()
        name = seen.setdefault(value, b"%s#%d" % (_kind(value), len(seen)))
        return b'"%s":"%s"' % (key, name)

    return _TIMES.sub(rb'"\1":0', _IDS.sub(numbered, body))


def _kind(value: bytes) -> bytes:
    """`chatcmpl-tool` of `chatcmpl-tool-84bde4f2`, `resp` of `resp_a0233221`; ids we chose ourselves may follow."""
    found = re.match(rb"(chatcmpl-tool|chatcmpl|cmpl|embd|resp|msg|rs|fc|call)[-_]", value)
    return found.group(1) if found else b"id"
