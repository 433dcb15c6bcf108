"""Text to token ids, the same way in training and in serving; it must not pad, batch or know a model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

_TAIL_SHARE: Final = 4
"""A prompt that is too long keeps its head and this fraction (1/4) of the budget from its end."""
_CHARS_PER_TOKEN: Final = 16
"""More characters than this per allowed token cannot matter; cutting first bounds the cost of any text."""


class PromptTokenizer:
    """A word-piece tokenizer that keeps head and tail of what is too long; safe to share between threads."""

    def __init__(self, file: Path, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_tokens = max_tokens
        self._max_chars = max_tokens * _CHARS_PER_TOKEN

    def encode(self, text: str) -> list[int]:
        """Return at most `max_tokens` ids, the special first and last ones included."""
        if len(text) > self._max_chars:
            tail = self._max_chars // _TAIL_SHARE
            text = f"{text[: self._max_chars - tail]} {text[len(text) - tail :]}"
        # A lone surrogate cannot be encoded; the classifier loses nothing without it.
        ids: list[int] = self._tokenizer.encode(text.encode("utf-8", "ignore").decode("utf-8")).ids
        if len(ids) <= self._max_tokens:
            return ids
        tail = self._max_tokens // _TAIL_SHARE
        return ids[: self._max_tokens - tail] + ids[-tail:]
