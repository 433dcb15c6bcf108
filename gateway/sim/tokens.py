"""A small deterministic tokeniser: words and punctuation marks, each with the space before it. No vocabulary file."""

from __future__ import annotations

import re
from zlib import crc32

_TOKEN = re.compile(r" ?\w+| ?[^\w\s]|\s")
VOCABULARY_SIZE = 151_936
CHARACTERS_PER_TOKEN_BOUND = 64
"""Longer prompts than this per token of context are refused by their length, as vLLM does, before tokenising."""


def tokenise(text: str) -> list[str]:
    """Split `text`; the pieces joined are `text` again."""
    return _TOKEN.findall(text)


def token_id(token: str) -> int:
    """A stable number for a token, below `VOCABULARY_SIZE`."""
    return crc32(token.encode("utf-8", "surrogatepass")) % VOCABULARY_SIZE
