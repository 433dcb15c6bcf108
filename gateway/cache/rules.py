"""Which requests may be answered from the cache, and by which key. Pure; keeps and sends nothing.

A request is cacheable when the same bytes to the same model would bring the same answer: embeddings, and chat and
completions that say `temperature: 0` themselves and want one answer. Left out although they could be deterministic:
tools (the engine's ids of tool calls would come twice, and clients act on calls) and media (an address may show
another picture tomorrow).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from gateway.media import media_in
from gateway.openai import ApiRequest
from gateway.settings.cache import CacheSettings
from gateway.types import Endpoint, Expert, Grant

MAXIMUM_BODY_BYTES = 2**20
"""Longer requests are not looked up: the digest would hold up every other request for a millisecond or more."""

_GENERATING = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})
_SECONDS = re.compile(r'"?(\d{1,9})"?')


class Bypass(StrEnum):
    """Why a request is neither answered from the cache nor kept."""

    ENDPOINT = "endpoint"
    """Only chat, completions and embeddings are cached."""
    SAMPLED = "sampled"
    """It does not say `temperature: 0`."""
    SEVERAL_ANSWERS = "several_answers"
    """`n` or `best_of` above 1."""
    TOOLS = "tools"
    """It has tools."""
    MEDIA = "media"
    """It has images, audio or files."""
    STRATEGY = "strategy"
    """A strategy makes the answer."""
    TOO_LONG = "too_long"
    """Its body is larger than 1 MiB."""
    NO_STORE = "no_store"
    """It says `cache-control: no-store`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What `cache-control` says (RFC 9111, 5.2.1).

    Attributes:
        look: an answer from the cache is welcome; not with `no-cache`.
        keep: the answer may be kept; not with `no-store`, which here means: leave the cache out of it.
        max_age_s: oldest answer that is welcome.
    """

    look: bool = True
    keep: bool = True
    max_age_s: float = math.inf


ANY = Wish()


def wish_of(headers: Iterable[tuple[bytes, bytes]]) -> Wish:
    """Read `cache-control` from all header lines; several lines count together, unknown directives not at all."""
    lines = [value for name, value in headers if name == b"cache-control"]
    if not lines:
        return ANY
    directives = [part.strip().lower() for part in b",".join(lines).decode("latin-1").split(",")]
    named = {directive.partition("=")[0].strip() for directive in directives}
    ages = [d.partition("=")[2].strip() for d in directives if d.partition("=")[0].strip() == "max-age"]
    return Wish(
        look=not named & {"no-cache", "no-store"},
        keep="no-store" not in named,
        max_age_s=min(map(_age, ages), default=math.inf),
    )


def cacheable(request: ApiRequest) -> Bypass | None:
    """Return why a request is not cacheable; None when it is."""
    body, endpoint = request.body, request.endpoint
    if endpoint not in _GENERATING and endpoint is not Endpoint.EMBEDDINGS:
        return Bypass.ENDPOINT
    if endpoint in _GENERATING:
        if not _is_zero(body.get("temperature")):
            return Bypass.SAMPLED
        if request.answers > 1 or (body.get("best_of") or 1) != 1:
            return Bypass.SEVERAL_ANSWERS
        if body.get("tools") or body.get("functions"):
            return Bypass.TOOLS
    return Bypass.MEDIA if media_in([body.get("messages"), body.get("input")]) else None


def scope_of(settings: CacheSettings, grant: Grant) -> tuple[str, ...]:
    """Return whose answers these are. Without keys all callers are one, as they are everywhere else."""
    return ("shared",) if settings.scope == "shared" else ("key", grant.name)


def key_of(scope: tuple[str, ...], request: ApiRequest, expert: Expert, version: str, *, pinned: bool) -> bytes | None:
    """Return the SHA-256 that an answer is kept under; None when the body is too long.

    It covers the scope and all that the answer depends on: endpoint, expert, served model, configuration, whether and
    how the expert's own instructions are added, and the body as it is sent. Top-level fields are sorted; inside of them
    the order stays, because guided decoding writes an object's fields in the schema's order.

    Args:
        scope: whose answers.
        request: what the client sent.
        expert: who was decided for.
        version: the catalog's.
        pinned: the client named the expert, which then gets the request without instructions of ours.

    Raises:
        InvalidRequest: the body is nested deeper than JSON writers go.
    """
    # The place of `stream_options` must not depend on whether the client or we ask for the usage chunk.
    fields: dict[str, Any] = {"stream_options": None, **request.body} if request.hides_usage else request.body
    body = replace(request, body=dict(sorted(fields.items()))).encode(expert.model)
    if len(body) > MAXIMUM_BODY_BYTES:
        return None
    rewrite = None if expert.rewrite is None else expert.rewrite.digest
    head = orjson.dumps([scope, request.endpoint.value, expert.name, expert.model, version, rewrite, pinned])
    # JSON has no bare line end inside, so head and body cannot be confused.
    return hashlib.sha256(head + b"\n" + body).digest()


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0


def _age(text: str) -> float:
    """Return a `max-age`; what cannot be read welcomes no answer (RFC 9111, 4.2.1)."""
    found = _SECONDS.fullmatch(text)
    return -1 if found is None else int(found[1])
