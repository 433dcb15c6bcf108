"""Turn a conversation into the few facts routing needs; never raises, and knows nothing of experts or HTTP.

The routing text puts the last human turn first, because that is what the expert will answer. A short turn
("and for n=5?") means nothing alone, so earlier human turns follow as bounded context, and after a very short
one a little of the assistant's reply too. Tool results, tool calls, reasoning and system prompts are not the
human's words and never enter it; training reads conversations through this same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from router.ask import split_ask
from router.messages import Reading, read_message
from router.text import clean, head_and_tail, strip_harness

ASK_HEAD_CHARS: Final = 1_200
ASK_TAIL_CHARS: Final = 600
CONTEXT_CHARS: Final = 240
CONTEXT_TURNS: Final = 2
CONTEXT_LABEL: Final = "[earlier] "
REPLY_LABEL: Final = "[reply] "
SELF_CONTAINED_CHARS: Final = 240
"""A human turn this long is classified alone: earlier turns would only blur it."""
ELLIPTIC_CHARS: Final = 80
"""A human turn shorter than this also brings a little of the assistant's last reply."""
MAX_TEXT_CHARS: Final = ASK_HEAD_CHARS + ASK_TAIL_CHARS + (CONTEXT_TURNS + 2) * (CONTEXT_CHARS + 16)

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_ATTACHMENT: Final = 1_000

_HUMAN: Final = frozenset({"user", "human"})
_ATTACHMENTS: Final = frozenset({"images", "audio", "files"})


@dataclass(frozen=True, slots=True)
class Features:
    """What routing knows about one request.

    Attributes:
        text: routing text, at most `MAX_TEXT_CHARS`; the human's last words first, "" when there are none.
        turns: human turns that hold text.
        token_estimate: estimated prompt tokens of the whole conversation: UTF-8 bytes / 4, plus 4 per message
            and 1,000 per image, audio or file. Tool definitions are not counted.
        has_tools: tools were offered, or the conversation already holds tool calls or results.
        has_images: some message holds an image.
        has_audio: some message holds audio.
        has_files: some message holds a file.
    """

    text: str = ""
    turns: int = 0
    token_estimate: int = 0
    has_tools: bool = False
    has_images: bool = False
    has_audio: bool = False
    has_files: bool = False


def extract(messages: Sequence[object], *, tools: bool = False) -> Features:
    """Read the features of a chat.

    Args:
        messages: chat messages as parsed JSON; what is malformed counts as no text.
        tools: whether the request offers tools.

    Returns:
        The features; `text` is "" when no human said anything readable.
    """
    readings = [read_message(message) for message in messages] if isinstance(messages, list | tuple) else []
    flags = [flag for reading in readings for flag in reading.flags]
    turns = [index for index, reading in enumerate(readings) if _is_human_turn(reading)]
    return Features(
        text=_routing_text(readings, turns),
        turns=len(turns),
        token_estimate=_estimate_tokens(readings, sum(flag in _ATTACHMENTS for flag in flags)),
        has_tools=tools or "tools" in flags,
        has_images="images" in flags,
        has_audio="audio" in flags,
        has_files="files" in flags,
    )


def extract_text(prompt: str) -> Features:
    """Read the features of a plain prompt, as `/v1/completions` sends it."""
    return extract([{"role": "user", "content": prompt}])


def _is_human_turn(reading: Reading) -> bool:
    return reading.role in _HUMAN and any(text and not text.isspace() for text in reading.texts)


def _routing_text(readings: Sequence[Reading], turns: Sequence[int]) -> str:
    """Join the last human turn and what it needs; turns that are only harness blocks are passed over."""
    ask, material, position = "", "", len(turns)
    while not ask and position > 0:
        position -= 1
        ask, material = _ask_of(readings[turns[position]])
    if not ask or len(ask) >= SELF_CONTAINED_CHARS:
        return ask
    parts = [ask]
    if material:
        parts.append(CONTEXT_LABEL + material)
    if len(ask) < ELLIPTIC_CHARS:
        parts.extend(_last_reply(readings[: turns[position]]))
    for index in reversed(turns[max(0, position - CONTEXT_TURNS) : position]):
        earlier = _bounded(readings[index], CONTEXT_CHARS, 0)
        if earlier:
            parts.append(CONTEXT_LABEL + earlier)
    return "\n".join(parts)


def _ask_of(reading: Reading) -> tuple[str, str]:
    """Return what the turn asks, and a little of the material a template puts around it."""
    ask, material = split_ask(clean(strip_harness("\n".join(reading.texts))))
    return head_and_tail(ask, ASK_HEAD_CHARS, ASK_TAIL_CHARS).strip(), material[:CONTEXT_CHARS].strip()


def _last_reply(readings: Sequence[Reading]) -> list[str]:
    for reading in reversed(readings):
        if reading.role in _HUMAN:
            break
        reply = _bounded(reading, CONTEXT_CHARS, 0) if reading.role == "assistant" else ""
        if reply:
            return [REPLY_LABEL + reply]
    return []


def _bounded(reading: Reading, head: int, tail: int) -> str:
    joined = "\n".join(reading.texts)
    return head_and_tail(clean(strip_harness(joined)), head, tail).strip()


def _estimate_tokens(readings: Sequence[Reading], attachments: int) -> int:
    size_bytes = sum(_utf8_bytes(text) for reading in readings for text in reading.counted)
    return size_bytes // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * len(readings) + TOKENS_PER_ATTACHMENT * attachments


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
