"""Adds the dashboard to the admin application: pages found by name, static files, errors as pages. Has no content."""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from gateway.admin.front import PATH
from gateway.admin.plane import Plane
from gateway.dashboard import login, pages
from gateway.dashboard.assets import Assets
from gateway.dashboard.navigation import Nav
from gateway.dashboard.rendering import Renderer
from gateway.dashboard.view import renderer_of
from gateway.error_answers import invalid_field
from gateway.errors import InvalidRequest, MethodNotAllowed, PathNotFound, PointsmanError, Unauthenticated

_STATIC = APIRouter()


@_STATIC.get("/static/{digest}/{name}")
async def static(request: Request, digest: str, name: str) -> Response:
    """Return a script or a style; they are the same for everybody, and the login needs them."""
    found = renderer_of(request).assets.answer(digest, name, request.headers.get("accept-encoding", ""))
    if found is None:
        raise PathNotFound("There is no such file.")
    return found


def dashboard(app: FastAPI, plane: Plane) -> None:
    """Add the dashboard below `/admin`."""
    modules = [import_module(f"{pages.__name__}.{found.name}") for found in pkgutil.iter_modules(pages.__path__)]
    menu: list[Nav] = [module.NAV for module in modules if getattr(module, "NAV", None) is not None]
    app.state.renderer = Renderer(plane, menu, Assets())
    # One by one into the application: a router between them would have every route built twice.
    for router in (login.api, _STATIC, *(module.api for module in modules)):
        app.include_router(router, prefix="/admin", include_in_schema=False)

    @app.get("/admin", include_in_schema=False)
    async def first(request: Request) -> Response:
        """Send `/admin` to `/admin/`."""
        return RedirectResponse(renderer_of(request).links.page(), 308)

    _answer_with_pages(app)


def _answer_with_pages(app: FastAPI) -> None:
    """Give what a person sees errors that a person can read; the API's stay as they are."""
    handlers = dict(app.exception_handlers)

    def paged(kind: Any) -> Any:
        before: Callable[[Request, Any], Awaitable[Response]] = handlers[kind]

        async def handle(request: Request, error: Any) -> Response:
            if request.url.path.startswith(f"{PATH}/") or _wants_data(request):
                return await before(request, error)
            return _page(request, _as_ours(error))

        return handle

    for kind in (PointsmanError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, paged(kind))


def _wants_data(request: Request) -> bool:
    """Tell whether a script asks: a page put in place of a figure would help nobody."""
    return "text/html" not in request.headers.get("accept", "") and "hx-request" not in request.headers


def _as_ours(error: Any) -> PointsmanError:
    if isinstance(error, PointsmanError):
        return error
    if isinstance(error, RequestValidationError):
        return invalid_field(error.errors()[0])
    known: dict[int, type[PointsmanError]] = {404: PathNotFound, 405: MethodNotAllowed}
    return known.get(error.status_code, InvalidRequest)(str(error.detail))


def _page(request: Request, error: PointsmanError) -> Response:
    renderer = renderer_of(request)
    is_part = "hx-request" in request.headers
    if isinstance(error, Unauthenticated):
        if is_part:
            return Response(status_code=401, headers={"hx-redirect": renderer.links.page("login")})
        query = f"?{request.url.query}" if request.url.query else ""
        here = f"{renderer.links.base}{request.url.path}{query}"
        return RedirectResponse(f"{renderer.links.page('login')}?next={quote(here, safe='')}", 303)
    answer = renderer.answer("error.html", None, "", status=error.status, message=str(error), code=error.code)
    for name, value in error.headers:
        answer.headers[name] = value
    return answer
