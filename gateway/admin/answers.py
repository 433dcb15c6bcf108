"""JSON in and out of the admin API's routes: bounded bodies, checked by a model; errors in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.admin.plane import Plane
from gateway.endpoints.body import read_body_of
from gateway.errors import InvalidRequest, MethodNotAllowed, PathNotFound, PointsmanError

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
        raise _invalid(error.errors()[0]) from error


async def read_body(request: Request, plane: Plane, limit_bytes: int = BODY_BYTES) -> bytes:
    """Return the bytes of the body, within the limits of size and time that hold on the data plane too."""
    timeouts = plane.gateway.settings.timeouts
    return await read_body_of(request.scope, request.receive, limit_bytes, timeouts)


def accepts(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body for the OpenAPI document."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}},
    }


def answer_errors_in_our_shape(app: FastAPI) -> None:
    """Replace FastAPI's and Starlette's own error bodies."""

    async def ours(request: Request, error: Any) -> Response:
        return _response(error)

    async def framework(request: Request, error: Any) -> Response:
        known: dict[int, type[PointsmanError]] = {404: PathNotFound, 405: MethodNotAllowed}
        kind = known.get(error.status_code, InvalidRequest)
        return _response(kind(str(error.detail), headers=tuple((error.headers or {}).items())))

    async def invalid(request: Request, error: Any) -> Response:
        return _response(_invalid(error.errors()[0]))

    async def unexpected(request: Request, error: Any) -> Response:
        return _response(PointsmanError("The gateway failed."))

    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        PointsmanError: ours,
        HTTPException: framework,
        RequestValidationError: invalid,
        Exception: unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _invalid(detail: Any) -> InvalidRequest:
    place = [str(part) for part in detail["loc"] if part not in ("query", "path", "body")]
    return InvalidRequest(str(detail["msg"]).removeprefix("Value error, "), param=".".join(place) or None)


def _response(error: PointsmanError) -> Response:
    return Response(error.body(), error.status, dict(error.headers), media_type="application/json")
