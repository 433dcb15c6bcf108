"""Puts the admin application together: routes, errors, its own OpenAPI document. No logic of its own."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from gateway import __version__
from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import answer, encoded
from gateway.admin.front import PATH, Front
from gateway.admin.plane import Plane
from gateway.admin.routes import config, fleet, keys, overview, records, routing, system
from gateway.error_answers import answer_errors_in_our_shape

DESCRIPTION = (
    "For administrators. Live state is that of one worker; what is stored is of all. Every route wants "
    "`Authorization: Bearer TOKEN`; those that change something want the role `admin`."
)


def create_admin_app(plane: Plane) -> tuple[FastAPI, Front]:
    """Build the application.

    Returns:
        The application, for a walk through its routes, and the ASGI callable to serve.
    """
    app = FastAPI(
        title="Pointsman admin API",
        version=__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.plane = plane
    api = APIRouter(prefix=PATH)
    for module in (overview, fleet, records, config, routing, keys, system):
        api.include_router(module.api)

    @api.get("/openapi.json", tags=["system"])
    async def openapi(principal: Viewer, plane: CurrentPlane) -> Response:
        """Return this document."""
        return answer(await plane.threads.query(lambda: encoded(_document(app))))

    app.include_router(api)
    answer_errors_in_our_shape(app)
    return app, Front(app, plane.gateway.settings.admin.hosts)


def _document(app: FastAPI) -> dict[str, object]:
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's own, which nobody here ever gets
    return document
