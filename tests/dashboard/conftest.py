"""A gateway with its dashboard on a real socket, browsed over HTTP with a session's cookie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from gateway.dashboard.app import dashboard
from tests.fixtures_admin import ADMIN, VIEWER, Admin, StartAdmin
from tests.waiting import until

HTML = {"accept": "text/html"}


@dataclass
class Site:
    """A running dashboard.

    Attributes:
        admin: the gateway behind it, and its admin API.
        http: a browser's session of an administrator.
        viewer: one of somebody who may only look.
    """

    admin: Admin
    http: httpx2.AsyncClient
    viewer: httpx2.AsyncClient

    async def get(self, path: str = "", **query: Any) -> httpx2.Response:
        """Open a page as an administrator; its status must be 200."""
        answer = await self.http.get(f"/admin/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer

    async def post(self, path: str, http: httpx2.AsyncClient | None = None, **fields: str) -> httpx2.Response:
        """Send a form from a page of ours."""
        return await (http or self.http).post(f"/admin/{path}", data=fields, headers={"origin": self.admin.url})

    async def text(self, path: str = "", **query: Any) -> str:
        """Return what a person reads on a page."""
        return text_of((await self.get(path, **query)).text)

    async def chat(self, *prompts: str, **body: Any) -> None:
        """Have requests answered, and wait until they are stored."""
        before = len(self.admin.town.gateway.recorder.records)
        for prompt in prompts:
            await self.admin.town.gateway.chat(prompt, **body)
        await self.admin.town.gateway.recorder.wait_for(before + len(prompts))
        await self.stored()

    async def stored(self) -> None:
        """Wait until all finished requests are in the store."""
        records = self.admin.gateway.records
        assert records is not None
        # Not `queued`: a batch is taken out of the queue before it is written.
        finished = len(self.admin.town.gateway.recorder.records)
        await until(lambda: records.state().written >= finished)


StartSite = Callable[..., Awaitable[Site]]


@asynccontextmanager
async def browser(url: str, token: str, base: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    """A client that has logged in."""
    async with httpx2.AsyncClient(base_url=url, timeout=20, headers=HTML) as http:
        answer = await http.post(f"{base}/admin/login", data={"token": token}, headers={"origin": url})
        assert answer.status_code == 303, answer.text
        yield http


@pytest.fixture
async def start_site(start_admin: StartAdmin) -> AsyncIterator[StartSite]:
    """Start a gateway with its dashboard: `await start_site(records=True, **sections)`."""
    async with AsyncExitStack() as stack:

        async def start(**sections: Any) -> Site:
            admin = await start_admin(part=dashboard, **sections)
            clients = [await stack.enter_async_context(browser(admin.url, token)) for token in (ADMIN, VIEWER)]
            return Site(admin, *clients)

        yield start


@pytest.fixture
async def site(start_site: StartSite) -> Site:
    """A gateway with records, and its dashboard."""
    return await start_site()


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.parts.append(data.strip())


def text_of(html: str) -> str:
    """Return the text of HTML, one space between its pieces."""
    parser = _Text()
    parser.feed(html)
    return " ".join(" ".join(parser.parts).split())
