"""The composition root: puts guard, data plane and control endpoints together. No logic of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from gateway import __version__
from gateway.endpoints import models, operations, route
from gateway.endpoints.inference import InferenceEndpoint
from gateway.errors import InvalidRequest, MethodNotAllowed, PathNotFound, PointsmanError
from gateway.guard import Guard
from gateway.openapi import describe_data_plane
from gateway.settings import Settings, secret
from gateway.state import Gateway
from gateway.types import Endpoint
from router import Scorer

DESCRIPTION = "Sends every prompt to the expert that answers it best per dollar."


def create_app(settings: Settings, *, scorer: Scorer | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: a checked configuration.
        scorer: used instead of the configured artifact.

    Raises:
        MissingSecret: an environment variable that the settings name is not set.
    """
    gateway = Gateway(settings, scorer=scorer)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            yield

    app = FastAPI(
        title="Pointsman",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    for endpoint in Endpoint:
        # First in the list, so that the hot paths match first. A class instance as endpoint is plain ASGI.
        app.router.routes.insert(0, Route(endpoint.path, InferenceEndpoint(endpoint, gateway), include_in_schema=False))
    for module in (models, operations, route):
        app.include_router(module.api)
    _answer_errors_in_our_shape(app)
    describe_data_plane(app)
    keys = secret(settings.server.api_keys_env)
    app.add_middleware(Guard, api_keys=_split(keys))
    return app


def _answer_errors_in_our_shape(app: FastAPI) -> None:
    """Replace FastAPI's and Starlette's own error bodies: one shape for every error a client can see."""

    async def ours(request: Request, error: Any) -> Response:
        return _response(request, error)

    async def framework(request: Request, error: Any) -> Response:
        known: dict[int, type[PointsmanError]] = {404: PathNotFound, 405: MethodNotAllowed}
        kind = known.get(error.status_code, InvalidRequest)
        return _response(request, kind(str(error.detail), headers=tuple((error.headers or {}).items())))

    async def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        return _response(request, InvalidRequest(str(first["msg"]), param=".".join(map(str, first["loc"]))))

    async def unexpected(request: Request, error: Any) -> Response:
        return _response(request, PointsmanError("The gateway failed."))

    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        PointsmanError: ours,
        HTTPException: framework,
        RequestValidationError: invalid,
        Exception: unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _response(request: Request, error: PointsmanError) -> Response:
    headers = {"x-request-id": request.scope.get("request_id", ""), **dict(error.headers)}
    return Response(error.body(), error.status, headers, media_type="application/json")


def _split(keys: str | None) -> tuple[str, ...]:
    return tuple(key.strip() for key in (keys or "").split(",") if key.strip())
