"""Clean and bound one text for the classifier; the text sent to an expert is never touched by this."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

RAW_HEAD_CHARS: Final = 8_000
RAW_TAIL_CHARS: Final = 4_000
"""Only this much of a long text is normalised: enough that a flood of invisible characters hides nothing."""

SCANNED_END_CHARS: Final = 64_000
"""Harness blocks are looked for in this much of each end; a longer block is still removed when it spans the cut."""

MAX_MARKS: Final = 3
"""Combining marks kept after one base character: more than any script needs, less than a flood."""

MAX_BLOCKS: Final = 64
"""Harness blocks removed from one text; the bound keeps hostile input linear."""

_GAP: Final = "\n"
_BRACKETS: Final = (("<", ">"), ("[", "]"))

# Blocks that coding agents and chat front ends wrap around what the human typed.
_HARNESS_TAGS: Final = (
    "system-reminder",
    "system_reminder",
    "environment_details",
    "environment_context",
    "environment",
    "command-name",
    "command-message",
    "local-command-stdout",
    "local-command-stderr",
    "local-command-caveat",
    "user-prompt-submit-hook",
    "user_info",
    "user_instructions",
    "user_rules",
    "additional_data",
    "attached_files",
    "open_files",
    "open_and_recently_viewed_files",
    "project_layout",
    "git_status",
    "ide_opened_file",
    "ide_selection",
    "tool_result",
    "tool_response",
    "function_results",
    "conversation_summary",
    "long_term_memory",
    "memory",
    "memories",
    "assistant_profile",
    "user_profile",
    "documents",
    "document",
    "retrieved_documents",
    "search_results",
    "context",
    "system",
)
# Tags around the words a human did type: the tag goes, the words stay.
_WRAPPERS: Final = re.compile(
    r"[<\[]/?(?:command-args|user_query|user-query|new_message|user_message|message|ask|task|prompt|question)"
    r"\s*[>\]]"
)
# C0/C1 controls except tab and newline, soft hyphen, zero-width, bidi, tag and variation characters, BOM, surrogates.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_LINE_BREAKS: Final = re.compile("\r\n?|[\x85\u2028\u2029]")
_SPACES: Final = re.compile(r"[^\S\n]{2,}")
_BLANK_LINES: Final = re.compile(r"\s*\n\s*\n\s*")


def head_and_tail(text: str, head: int, tail: int) -> str:
    """Return `text`, or its first `head` and last `tail` characters joined by a line break."""
    if len(text) <= head + tail:
        return text
    return text[:head] + _GAP + text[len(text) - tail :] if tail else text[:head]


def strip_harness(text: str) -> str:
    """Remove the blocks an agent harness wraps around the human's words; in bounded time."""
    if "</" not in text and "[/" not in text:
        return text
    text = head_and_tail(text, SCANNED_END_CHARS, SCANNED_END_CHARS)
    for tag in _HARNESS_TAGS:
        for left, right in _BRACKETS:
            text = _without_blocks(text, f"{left}{tag}", f"{left}/{tag}{right}")
    return _WRAPPERS.sub(" ", text)


def _without_blocks(text: str, opening: str, closing: str) -> str:
    start = text.find(opening)
    if start < 0:
        return text
    kept: list[str] = []
    position = 0
    for _ in range(MAX_BLOCKS):
        end = text.find(closing, start)
        if end < 0:
            break
        named = text[start + len(opening) : start + len(opening) + 1] in (">", "]", " ", "\n", "\t")
        if named:
            kept.append(text[position:start])
            position = end + len(closing)
        start = text.find(opening, position if named else start + 1)
        if start < 0:
            break
    kept.append(text[position:])
    return "".join(kept)


def clean(text: str) -> str:
    """Return a normalised copy: NFKC, no invisible characters, bounded combining marks, single blanks."""
    text = head_and_tail(text, RAW_HEAD_CHARS, RAW_TAIL_CHARS)
    text = _LINE_BREAKS.sub("\n", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _cap_marks(_INVISIBLE.sub("", text)))
        text = head_and_tail(text, RAW_HEAD_CHARS, RAW_TAIL_CHARS)  # one ligature can become 18 characters
    # Twice on purpose: NFKC can yield control-like characters, and ASCII text has C0 controls.
    text = _INVISIBLE.sub("", text)
    return _BLANK_LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def _cap_marks(text: str) -> str:
    """Drop marks beyond `MAX_MARKS` in a row, before NFKC, whose reordering is quadratic in their number."""
    kept: list[str] = []
    run = 0
    for character in text:
        run = run + 1 if character > "\u02ff" and unicodedata.category(character) in ("Mn", "Me") else 0
        if run <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)
