"""Made-up log-probabilities in vLLM's two shapes: chat and completions. No model, no randomness."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from gateway.sim.tokens import token_id

SPREAD = 0.05
STEP = 1.25
"""Distance between neighbours among the alternatives."""


def logprob(token: str, mean: float) -> float:
    """The token's own value, within `SPREAD` of `mean`."""
    share = crc32(token.encode("utf-8", "surrogatepass")) % 1000 / 999
    return min(0.0, mean + SPREAD * (2 * share - 1))


def alternatives(token: str, mean: float, count: int) -> list[tuple[str, float]]:
    """The token first, then less likely made-up ones."""
    own = logprob(token, mean)
    others = [(f" alternative{rank}", own - STEP * rank) for rank in range(1, count)]
    return [(token, own), *others][:count]


def chat_logprobs(tokens: tuple[str, ...], mean: float, top: int) -> dict[str, Any]:
    """The `logprobs` object of a chat choice or chunk."""
    return {"content": [_chat_entry(token, mean, top) for token in tokens]}


def _chat_entry(token: str, mean: float, top: int) -> dict[str, Any]:
    shown = alternatives(token, mean, top)
    return {
        **_entry(token, logprob(token, mean)),
        "top_logprobs": [_entry(other, value) for other, value in shown],
    }


def _entry(token: str, value: float) -> dict[str, Any]:
    return {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "surrogatepass"))}


def completion_logprobs(tokens: tuple[str, ...], mean: float, top: int, offset: int = 0) -> dict[str, Any]:
    """The `logprobs` object of a completion choice or chunk; `offset` is the text position of the first token."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "text_offset": offsets,
        "token_logprobs": [logprob(token, mean) for token in tokens],
        "tokens": list(tokens),
        "top_logprobs": [dict(alternatives(token, mean, max(1, top))) for token in tokens],
    }


def token_ids(tokens: tuple[str, ...]) -> list[int]:
    """Numbers for tokens, where a client asks for them."""
    return [token_id(token) for token in tokens]
