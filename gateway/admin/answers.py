"""JSON in and out of the admin API's routes: bounded bodies, checked by a model."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from gateway.admin.plane import Plane
from gateway.endpoints.body import read_body_of
from gateway.error_answers import invalid_field

BODY_BYTES = 1_100_000  # the largest configuration, as a JSON string, with some escapes

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of what clients send: unknown names are errors, values are not bent to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def encoded(content: object) -> bytes:
    """Write JSON; arrays of numpy too, NaN as null."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def answer(content: object, status: int = 200) -> Response:
    """Return a JSON answer; bytes are JSON already."""
    body = content if isinstance(content, bytes) else encoded(content)
    return Response(body, status, media_type="application/json")


async def read_json(request: Request, plane: Plane, model: type[Model]) -> Model:
    """Return the request's body.

    Raises:
        InvalidRequest: it is not what the model takes; `param` names the field.
        BodyTooLarge, BodyTimeout, UnsupportedMediaType: see `endpoints.body`.
    """
    raw = await read_body(request, plane)
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise invalid_field(error.errors()[0]) from error


async def read_body(
    request: Request, plane: Plane, limit_bytes: int = BODY_BYTES, media_type: str = "application/json"
) -> bytes:
    """Return the bytes of the body, within the limits of size and time that hold on the data plane too."""
    timeouts = plane.gateway.settings.timeouts
    return await read_body_of(request.scope, request.receive, limit_bytes, timeouts, media_type)


def accepts(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body for the OpenAPI document."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}},
    }
