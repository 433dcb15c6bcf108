"""A town with its admin API on a second real socket, and its configuration in a real file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway import server
from gateway.admin.app import Part
from gateway.admin.plane import Plane, plane_of
from gateway.admin.principals import named_tokens
from gateway.admin.server import AdminServer
from gateway.keyring import AdminTokens
from gateway.state import Gateway
from tests.conftest import Town
from tests.gateway.reloading import Configured, StartTown, configured

ADMIN, VIEWER, CALLER = "an-admin-token-of-tests", "a-viewer-token-of-tests", "a-data-plane-key"
API = "/admin/api"


@dataclass
class Admin:
    """A running admin API.

    Attributes:
        http: speaks to it as an administrator.
    """

    town: Town
    config: Configured
    plane: Plane
    serving: AdminServer
    http: httpx2.AsyncClient

    @property
    def url(self) -> str:
        return self.serving.url

    @property
    def gateway(self) -> Gateway:
        return self.plane.gateway

    async def get(self, path: str, token: str = ADMIN, **query: Any) -> httpx2.Response:
        return await self.http.get(API + path, params=query, headers=bearer(token))

    async def post(self, path: str, body: Any = None, token: str = ADMIN) -> httpx2.Response:
        return await self.http.post(API + path, json={} if body is None else body, headers=bearer(token))

    async def json(self, path: str, **query: Any) -> Any:
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()


StartAdmin = Callable[..., Awaitable[Admin]]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def code_of(answer: httpx2.Response) -> str:
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return str(error["code"])


@pytest.fixture
async def start_admin(
    start_town: StartTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartAdmin]:
    """Start a town and its admin API: `await start_admin(workers=1, records=True, part=None, **sections)`."""
    for name, value in (("T_ADMIN", ADMIN), ("T_VIEWER", VIEWER), ("T_CALLER", CALLER)):
        monkeypatch.setenv(name, value)
    async with AsyncExitStack() as stack:

        async def start(
            *, workers: int = 1, records: bool | dict[str, Any] = True, part: Part | None = None, **sections: Any
        ) -> Admin:
            chosen = {"port": 0, "token_env": "T_ADMIN", "viewer_token_env": "T_VIEWER", **sections.pop("admin", {})}
            more = records if isinstance(records, dict) else {}
            stored = {"records": {"database": str(tmp_path / "records.db"), **more}} if records else {}
            town = await start_town(admin=chosen, **{**stored, **sections})
            config = await stack.enter_async_context(configured(town, tmp_path / "experts.yaml"))
            tokens = AdminTokens(named_tokens(config.gateway.settings))
            plane = plane_of(config.gateway, tokens, config.reloader, workers=workers)
            serving = await stack.enter_async_context(AdminServer(plane, server.listen("127.0.0.1", 0), part))
            http = await stack.enter_async_context(httpx2.AsyncClient(base_url=serving.url, timeout=20))
            return Admin(town, config, plane, serving, http)

        yield start


@pytest.fixture
async def admin(start_admin: StartAdmin) -> Admin:
    """A town with records, and its admin API."""
    return await start_admin()
