"""Tries prompts out: what would be done with them and why. Administrators only, like the prompts of others."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, note
from gateway.admin.answers import Strict, accepts, answer, read_json
from gateway.admin.playground import MOST_TOKENS, Changes, sending, try_prompt
from gateway.settings_file import MAXIMUM_BYTES

api = APIRouter(tags=["routing"])

Share = Annotated[float, Field(ge=0, le=1)]


class Tried(Strict):
    """A prompt to decide for."""

    messages: list[dict[str, Any]] = Field(max_length=1_000, description="As in a chat request.")
    policy: str | None = Field(None, max_length=200, description="Decides instead of the configured one.")
    minimum_confidence: Share | None = Field(None, description="Try this beside the live configuration.")
    minimum_margin: Share | None = Field(None, description="The same.")
    maximum_out_of_domain: Share | None = Field(None, description="The same.")
    maximum_disagreement: Share | None = Field(None, description="The same.")
    draft: str = Field("", max_length=MAXIMUM_BYTES, description="A whole configuration to decide with as well.")
    words: bool = Field(True, description="Find out which words decided: some eighty more runs of the classifier.")


class Sent(Strict):
    """A prompt to send to an expert."""

    expert: str = Field(max_length=200, description="Whom to ask.")
    messages: list[dict[str, Any]] = Field(max_length=1_000, description="As in a chat request.")
    max_tokens: int = Field(512, ge=1, le=MOST_TOKENS, description="Longest answer.")


@api.post("/playground", openapi_extra=accepts(Tried))
async def decide(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Return the decision of the live configuration, the canary and the thresholds to try, and what led to it."""
    tried = await read_json(request, plane, Tried)
    changes = Changes(
        tried.minimum_confidence, tried.minimum_margin, tried.maximum_out_of_domain, tried.maximum_disagreement
    )
    found = await try_prompt(
        plane, tried.messages, policy=tried.policy, changes=changes, draft=tried.draft, words=tried.words
    )
    return answer(asdict(found))


@api.post("/playground/send", openapi_extra=accepts(Sent))
async def send(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Send a prompt to an expert and return its answer as it streams; it is recorded under the key `playground`."""
    sent = await read_json(request, plane, Sent)
    answering = sending(plane, sent.expert, sent.messages, sent.max_tokens)
    note(plane, principal, "playground_sent", expert=sent.expert)
    return answering
