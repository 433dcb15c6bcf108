"""`POST /v1/feedback`: a caller rates an answer it got. Reads and checks the body; `Feedback` does the rest."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.endpoints.body import read_body_of
from gateway.endpoints.dependencies import CurrentGateway
from gateway.errors import FeedbackDisabled, InvalidRequest
from gateway.feedback import Rating
from gateway.types import Grant

api = APIRouter(tags=["feedback"])

# A comment of 1,000 characters, all escaped as surrogate pairs, is 12 kB.
MAXIMUM_BYTES = 16 * 1024
MAXIMUM_COMMENT_CHARACTERS = 1_000
MAXIMUM_PARAM_CHARACTERS = 64
_KEPT_CONTROLS = frozenset("\n\t")
# They turn the text around them when it is shown.
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _printable(comment: str) -> str | None:
    """Take out control characters (a terminal obeys them) and blank ends; nothing left is no comment."""
    kept = (c for c in comment if c in _KEPT_CONTROLS or (unicodedata.category(c) != "Cc" and c not in _DIRECTIONS))
    return "".join(kept).strip() or None


class FeedbackBody(BaseModel):
    """The body of `POST /v1/feedback`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$", description="`x-request-id` of the answer.")
    score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="How good the answer was.")
    rating: Literal["up", "down"] | None = Field(None, description="Instead of `score`: 1 or 0.")
    domain: str | None = Field(None, description="The right domain, one of the classifier's.")
    comment: Annotated[str, Field(max_length=MAXIMUM_COMMENT_CHARACTERS), AfterValidator(_printable)] | None = Field(
        None, description="Your own words; stored as they are, without control characters."
    )

    @model_validator(mode="after")
    def _rated_once(self) -> FeedbackBody:
        if (self.score is None) == (self.rating is None):
            raise ValueError("give either `score` or `rating`")
        return self

    def as_rating(self) -> Rating:
        """Return what it says, with `rating` as a score."""
        score = float(self.rating == "up") if self.score is None else self.score
        return Rating(self.id, abs(score), self.domain, self.comment)  # abs: no -0.0


class FeedbackReceipt(BaseModel):
    """The answer: the rating is stored."""

    object: Literal["feedback"] = "feedback"
    id: str
    score: float
    domain: str | None
    replaced: bool = Field(description="An earlier rating of the same answer was replaced.")


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": FeedbackBody.model_json_schema(),
                "example": {"id": "3f2a9c0de1b84f7d9a6b5c4d3e2f1a0b", "rating": "up"},
            }
        },
    }
}


@api.post("/v1/feedback", status_code=201, openapi_extra=_BODY)
async def feedback(request: Request, gateway: CurrentGateway) -> FeedbackReceipt:
    """Rate an answer that your key got. A second rating of the same answer replaces the first.

    Nothing is routed differently because of it until an administrator fits a quality table from the ratings.
    """
    if gateway.feedback is None:
        raise FeedbackDisabled("Feedback is off: `feedback.database` is not set in the configuration.")
    grant: Grant = request.scope["grant"]
    gateway.feedback.admit(grant.name)
    timeouts = gateway.current.settings.timeouts
    rating = _parse(await read_body_of(request.scope, request.receive, MAXIMUM_BYTES, timeouts))
    _check_domain(rating.domain, gateway.current.scorer.labels)
    replaced = await gateway.feedback.take(grant.name, rating)
    if gateway.prompts is not None:
        gateway.prompts.rated(grant.name, rating.record_id, rating.score)
    return FeedbackReceipt(id=rating.record_id, score=rating.score, domain=rating.domain, replaced=replaced)


def _parse(raw: bytes) -> Rating:
    """Read the body.

    Raises:
        InvalidRequest: it is not JSON, or a field is not acceptable; `param` names it.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    try:
        return FeedbackBody.model_validate(body).as_rating()
    except ValidationError as error:
        raise _explained(error) from error


def _explained(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = str(first["loc"][0])[:MAXIMUM_PARAM_CHARACTERS] if first["loc"] else "score"
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"`{param}` is not a field of feedback.", param=param)
    return InvalidRequest(f"`{param}`: {first['msg'].removeprefix('Value error, ')}.", param=param)


def _check_domain(domain: str | None, labels: tuple[str, ...]) -> None:
    if domain is not None and domain not in labels:
        raise InvalidRequest(f"`domain` must be one of {', '.join(labels)}.", param="domain")
