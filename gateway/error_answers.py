"""Gives a FastAPI application our shape for every error a client can see, instead of FastAPI's and Starlette's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.errors import InvalidRequest, MethodNotAllowed, PathNotFound, PointsmanError

_PLACES = ("query", "path", "body")


def answer_errors_in_our_shape(app: FastAPI) -> None:
    """Replace the application's handlers of errors."""

    async def ours(request: Request, error: Any) -> Response:
        return _response(error)

    async def framework(request: Request, error: Any) -> Response:
        known: dict[int, type[PointsmanError]] = {404: PathNotFound, 405: MethodNotAllowed}
        kind = known.get(error.status_code, InvalidRequest)
        return _response(kind(str(error.detail), headers=tuple((error.headers or {}).items())))

    async def invalid(request: Request, error: Any) -> Response:
        return _response(invalid_field(error.errors()[0]))

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


def invalid_field(detail: Any) -> InvalidRequest:
    """Return what a client sees of one of pydantic's findings; `param` names the field."""
    place = [str(part) for part in detail["loc"] if part not in _PLACES]
    return InvalidRequest(str(detail["msg"]).removeprefix("Value error, "), param=".".join(place) or None)


def _response(error: PointsmanError) -> Response:
    return Response(error.body(), error.status, dict(error.headers), media_type="application/json")
