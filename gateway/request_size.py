"""Estimates how much a request asks for: tokens of all its prompts, of the longest, and how long its answers may be.

A batch of `/v1/completions` or `/v1/embeddings` is many prompts in one request, and prompts may be token ids, which
are counted. Reads nothing but the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.openai import ApiRequest
from gateway.types import Endpoint
from router import Features

BYTES_PER_TOKEN = 4
"""As `router.features` counts."""
_FIELD = {Endpoint.COMPLETIONS: "prompt", Endpoint.EMBEDDINGS: "input"}


@dataclass(frozen=True, slots=True)
class RequestSize:
    """What a request asks for.

    Attributes:
        prompt_tokens: of all prompts together, estimated.
        longest_tokens: of the longest prompt: what has to fit a context.
        max_tokens: longest answer, None when the request sets no limit; 0 where there is none, as of embeddings.
        answers: how many it wants, to all prompts together.
    """

    prompt_tokens: int
    longest_tokens: int
    max_tokens: int | None
    answers: int


def size_of(request: ApiRequest, features: Features) -> RequestSize:
    """Measure a request whose features are known."""
    field = _FIELD.get(request.endpoint)
    given = None if field is None else request.body.get(field)
    each = [features.token_estimate] if not isinstance(given, list) or not given else _each(given)
    most = 0 if request.endpoint is Endpoint.EMBEDDINGS else request.max_tokens
    return RequestSize(sum(each), max(each), most, request.answers * len(each))


def _each(given: list[Any]) -> list[int]:
    """Return the tokens of each prompt of a batch; one prompt may come as its token ids."""
    if isinstance(given[0], int):
        return [len(given)]
    return [len(item) if isinstance(item, list) else -(-len(str(item).encode()) // BYTES_PER_TOKEN) for item in given]
