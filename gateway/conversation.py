"""Recognises the conversation that a request continues, and whether a tool loop is open. Remembers nothing itself.

Clients resend the whole history, so the next request begins with all messages of this one, followed by the
assistant's. A prefix that ends right before an assistant's message is therefore what an earlier request looked like,
and its digest is the key under which that request's conversation was remembered.

What harnesses and SDKs change between two requests of one conversation is left out of the digests: instructions (they
hold clocks), blocks that a harness wraps around what the human typed, reasoning, cache marks, ids, arguments of calls
(SDKs write that JSON anew) and the form of text (a string or parts). The work is bounded whatever a body holds: a key
is made of the first and last messages of its prefix and their number, a message's digest of its text's two ends.

Two things are not recognised: a client that drops its oldest messages, and `previous_response_id`, because the id is
the expert's and the gateway does not read answers. Both can say `x-session-id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any, Final

from gateway.messages import ASSISTANT, HUMAN, TOOL, Piece, pieces_of, speaker_of
from gateway.openai import ApiRequest
from gateway.types import Endpoint

MOST_EARLIER: Final = 8
"""An answered request is found by the longest prefix; the others are for requests that got no answer."""
OPENING: Final = 4
TAIL: Final = 4
"""Messages at either end of a prefix that its key is made of; a prefix of eight is there whole."""
NOISE_CHECKS: Final = 32
"""Messages looked at, from the first on, for whether a harness alone speaks in them."""
WALKED_BACK: Final = 64
TOKENS_READ: Final = 512
_DIGEST_BYTES: Final = 16
_DRAW_BYTES: Final = 6  # 48 bits: the quotient is exact, so it stays below 1


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request shows of the conversation it belongs to.

    Attributes:
        own: key under which this request's conversation is remembered; empty when no later request could know it.
        earlier: keys under which it may be known already, the longest prefix first, at most `MOST_EARLIER`.
        tool_loop: the request brings the result of a tool, and no human has said anything since.
        draw: 0 to below 1, the same for all requests of the conversation.
    """

    own: bytes
    earlier: tuple[bytes, ...]
    tool_loop: bool
    draw: float


def read_conversation(request: ApiRequest, scope: str, session_id: str | None) -> Conversation:
    """Recognise a conversation. Never raises; what is malformed is passed over.

    Args:
        request: the parsed request.
        scope: name of the caller's key; conversations of different keys never meet.
        session_id: the caller's own name of the conversation.
    """
    items = _items_of(request)
    if session_id is not None:
        key = _digest(b"session", scope.encode(), session_id.encode())
        return Conversation(key, (key,), _loop_is_open(items), _draw(scope, key))
    if not items:
        return Conversation(b"", (), tool_loop=False, draw=_draw(scope, _prompt_digest(request)))
    prefixes = _Prefixes(scope, items)
    return Conversation(prefixes.own(), prefixes.earlier(), _loop_is_open(items), _draw(scope, prefixes.first()))


class _Prefixes:
    """Keys of a conversation's prefixes."""

    def __init__(self, scope: str, items: Sequence[dict[str, Any]]) -> None:
        self._scope = scope.encode()
        self._items = items
        self._message = cache(self._digest_at)
        # Half an answer to be continued is part of the answer.
        self._end = len(items)
        while self._end > 0 and speaker_of(items[self._end - 1]) == ASSISTANT:
            self._end -= 1

    def own(self) -> bytes:
        """Return the key of the whole request."""
        return self._key(self._end) if self._end else b""

    def earlier(self) -> tuple[bytes, ...]:
        """Return the keys of the prefixes that end right before an assistant's messages."""
        return tuple(self._key(length) for length in self._boundaries())

    def first(self) -> bytes:
        """Return the digest of the first message that is no assistant's greeting."""
        said = (index for index, item in enumerate(self._items) if speaker_of(item) != ASSISTANT)
        return self._message(next(said, 0))

    def _boundaries(self) -> Iterator[int]:
        found, after = 0, ASSISTANT if self._end < len(self._items) else ""
        for length in range(self._end, 0, -1):
            before = speaker_of(self._items[length - 1])
            if after == ASSISTANT and before != ASSISTANT:
                yield length
                found += 1
                if found == MOST_EARLIER:
                    return
            after = before

    def _key(self, length: int) -> bytes:
        tail = range(max(OPENING, length - TAIL), length)
        messages = [self._message(index) for index in (*range(min(OPENING, length)), *tail)]
        return _digest(b"prefix", self._scope, length.to_bytes(4, "big"), *messages)

    def _digest_at(self, index: int) -> bytes:
        item = self._items[index]
        return _digest(speaker_of(item).encode(), *_flat(pieces_of(item)))


def _items_of(request: ApiRequest) -> list[dict[str, Any]]:
    """Return the messages of people, assistants and tools; none for what is no conversation."""
    if request.endpoint in (Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS):
        return []
    given = request.body.get("messages" if request.endpoint is not Endpoint.RESPONSES else "input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    said, checks = [], NOISE_CHECKS
    for item in given if isinstance(given, list) else ():
        speaker = speaker_of(item)
        if speaker == HUMAN and checks and _could_be_noise(item.get("content")):
            checks -= 1
            if not pieces_of(item):
                continue
        if speaker:
            said.append(item)
    return said


def _could_be_noise(content: Any) -> bool:
    if isinstance(content, list) and content:
        first = content[0].get("text") if isinstance(content[0], dict) else None
        return isinstance(first, str) and first.lstrip()[:1] in ("<", "[", "")
    return not content or (isinstance(content, str) and content[:1] in "<[ \n")


def _loop_is_open(items: Sequence[dict[str, Any]]) -> bool:
    """Look back from the end for a tool's result or a human's words, whichever is later."""
    for item in items[: -WALKED_BACK - 1 : -1]:
        speaker = speaker_of(item)
        if speaker == TOOL:
            return True
        if speaker == ASSISTANT:
            return False
        kinds = {kind for kind, _ in pieces_of(item)}
        if "text" in kinds or "result" in kinds:
            return "text" not in kinds
    return False


def _prompt_digest(request: ApiRequest) -> bytes:
    """Return the digest of a prompt that is no conversation; of a batch, of its first."""
    prompt = request.body.get("prompt", request.body.get("input"))
    if isinstance(prompt, list):
        prompt = repr(prompt[:TOKENS_READ]) if prompt and isinstance(prompt[0], int) else next(iter(prompt), None)
    return _digest(*_flat(pieces_of({"content": prompt})))


def _draw(scope: str, opening: bytes) -> float:
    digest = _digest(b"draw", scope.encode(), opening)
    return float(int.from_bytes(digest[:_DRAW_BYTES], "big") / 256**_DRAW_BYTES)


def _flat(pieces: Sequence[Piece]) -> Iterator[bytes]:
    for kind, text in pieces:
        yield kind.encode()
        yield text.encode("utf-8", "surrogatepass")


def _digest(*fields: bytes) -> bytes:
    """Digest some fields; each goes in with its length, so that no two lists of fields look alike."""
    lengths = b"".join(len(field).to_bytes(4, "big") for field in fields)
    content = b"".join((len(fields).to_bytes(4, "big"), lengths, *fields))
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()
