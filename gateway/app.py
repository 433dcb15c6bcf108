"""The composition root: puts guard, data plane and control endpoints together. No logic of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from gateway import __version__, grants
from gateway.endpoints import feedback, models, operations, route
from gateway.endpoints.inference import InferenceEndpoint
from gateway.error_answers import answer_errors_in_our_shape
from gateway.guard import Guard, hosts_of
from gateway.key_metrics import KeyMetrics
from gateway.keyring import AdminTokens, KeyWatch
from gateway.openapi import describe_data_plane, serve_documentation
from gateway.record_keeping import ALONE, Share
from gateway.reload import ConfigSource, Reloader
from gateway.settings import Settings
from gateway.state import Gateway
from gateway.types import Endpoint
from router import Scorer

DESCRIPTION = "Sends every prompt to the expert that answers it best per dollar."


class Application(FastAPI):
    """FastAPI with the data plane beside its middleware stack: the six layers there cost as much as a relayed request.

    Attributes:
        data_plane: raw ASGI endpoints by path.
        guard: sees every request first.
    """

    data_plane: Mapping[str, InferenceEndpoint]
    guard: Guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let the guard look, then answer."""
        await self.guard(scope, receive, send)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request that the guard let through."""
        endpoint = self.data_plane.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is not None:
            await endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, _with_request_id(scope, send))


def create_app(
    settings: Settings, *, scorer: Scorer | None = None, source: ConfigSource | None = None, share: Share = ALONE
) -> FastAPI:
    """Build the application.

    Args:
        settings: a checked configuration.
        scorer: used instead of the configured artifact.
        source: where the settings come from; it is watched, and changes are taken over. None: the settings stay.
        share: this process's part of the work on the store of records.

    Raises:
        generation.UNUSABLE: the settings cannot be used; see `generation.plan`.
    """
    gateway = Gateway(settings, scorer=scorer, share=share)
    reloader = None if source is None else Reloader(gateway, source)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = app.state
        async with AsyncExitStack() as stack:
            for part in (keys, gateway, reloader, state.shared_metrics, state.switches, state.admin):
                if part is not None:
                    await stack.enter_async_context(part)
            yield

    app = Application(
        title="Pointsman",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.gateway, app.state.reloader = gateway, reloader
    app.state.shared_metrics = app.state.switches = app.state.admin = None
    app.data_plane = {endpoint.path: InferenceEndpoint(endpoint, gateway) for endpoint in Endpoint}
    app.guard = Guard(app.answer, grants.build(settings), gateway.record_refusal)
    app.state.admin_tokens = AdminTokens({})
    keys = app.state.keys = KeyWatch(app.guard.keyring, app.state.admin_tokens, settings.key_store)
    KeyMetrics(gateway.metrics.registry, keys)
    gateway.on_change.append(lambda generation: app.guard.change_keys(generation.grants))
    gateway.on_change.append(lambda generation: keys.follow(generation.settings.key_store))
    gateway.on_change.append(lambda generation: app.guard.change_hosts(hosts_of(generation.settings)))
    for module in (models, operations, route, feedback):
        app.include_router(module.api)
    answer_errors_in_our_shape(app)
    describe_data_plane(app)
    serve_documentation(app)
    return app


def _with_request_id(scope: Any, send: Any) -> Any:
    """Return `send` that puts the request's id on the answer, where it is not there already."""
    request_id = scope.get("request_id", "").encode()

    async def with_id(message: Any) -> None:
        if message["type"] == "http.response.start" and not any(n == b"x-request-id" for n, _ in message["headers"]):
            message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
        await send(message)

    return with_id if request_id else send
