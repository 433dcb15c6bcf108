"""Puts the admin application together: routes, errors, its own OpenAPI document. No logic of its own."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.responses import Response

from gateway import __version__
from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import answer, encoded
from gateway.admin.front import PATH, Front
from gateway.admin.plane import Plane
from gateway.admin.routes import (
    config,
    fleet,
    health,
    keys,
    labels,
    overview,
    playground,
    records,
    reports,
    routing,
    scores,
    system,
)
from gateway.error_answers import answer_errors_in_our_shape

DESCRIPTION = (
    "For administrators. Live state is that of one worker; what is stored is of all. Every route wants "
    "`Authorization: Bearer TOKEN`; those that change something want the role `admin`."
)


Part = Callable[[FastAPI, Plane], None]
"""Adds routes of its own to the application, such as the dashboard's."""


def create_admin_app(plane: Plane, part: Part | None = None) -> tuple[FastAPI, Front]:
    """Build the application.

    Args:
        plane: what it serves.
        part: what else it serves.

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
    parts = (overview, fleet, health, records, config, routing, keys, system, reports, scores, labels, playground)
    for module in parts:
        app.include_router(module.api, prefix=PATH)

    @app.get(f"{PATH}/openapi.json", tags=["system"])
    async def openapi(principal: Viewer, plane: CurrentPlane) -> Response:
        """Return this document."""
        return answer(await plane.threads.query(lambda: encoded(_document(app))))

    answer_errors_in_our_shape(app)
    if part is not None:
        part(app, plane)
    settings = plane.gateway.settings.admin
    return app, Front(app, settings.hosts, settings.base_path)


def _document(app: FastAPI) -> dict[str, object]:
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's own, which nobody here ever gets
    return document
