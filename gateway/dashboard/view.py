"""What a page's function is given: who looks, the plane, and ways to ask and to answer. Holds no page's content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, cast

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from gateway.admin.access import Admin, CurrentPlane, Viewer
from gateway.admin.errors import NotThere, QueryTooSlowError, StoreDown
from gateway.admin.plane import Plane
from gateway.dashboard.links import Links
from gateway.dashboard.rendering import Renderer, html
from gateway.keyring import Principal, Role
from gateway.stores.records.queries import Queries

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Found]):
    """What a store said.

    Attributes:
        value: the answer; None when there is none.
        why: why not, a code of `texts.EMPTY`; None when there is one.
    """

    value: Found | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One request for a page.

    Attributes:
        request: as it came.
        plane: what the admin side works with.
        principal: who looks.
        renderer: fills templates.
    """

    request: Request
    plane: Plane
    principal: Principal
    renderer: Renderer

    @property
    def links(self) -> Links:
        """Return what makes addresses."""
        return self.renderer.links

    @property
    def is_admin(self) -> bool:
        """Tell whether who looks may change things and see prompts."""
        return self.principal.role is Role.ADMIN

    async def ask(self, work: Callable[[Queries], Found]) -> Asked[Found]:
        """Ask the store of records, in a thread; a store that is off, down or too slow is part of the page."""
        try:
            return Asked(await self.plane.ask(work))
        except (StoreDown, QueryTooSlowError, NotThere) as error:
            return Asked(None, error.code)

    def page(self, template: str, active: str, *, status: int = 200, **context: Any) -> Response:
        """Return a whole page; `active` is the path of its `Nav`."""
        return self.renderer.answer(template, self.principal, active, status=status, view=self, **context)

    async def page_in_thread(self, template: str, active: str, *, status: int = 200, **context: Any) -> Response:
        """Return a page that takes more than a moment to fill: the event loop serves requests meanwhile.

        Raises:
            QueryTooSlowError: it took too long, or waited too long for others.
        """
        return await self.plane.threads.query(lambda: self.page(template, active, status=status, **context))

    def part(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """Return a part of a page, for htmx to put in its place."""
        return html(self.renderer.fill(template, view=self, principal=self.principal, **context), status)

    def see_other(self, path: str = "", **query: object) -> Response:
        """Send the browser to another page after a form, so that going back sends nothing again."""
        return RedirectResponse(self.links.page(path, **query), 303)


def renderer_of(request: Request) -> Renderer:
    """Return the application's renderer."""
    return cast("Renderer", request.app.state.renderer)


def _view(request: Request, plane: CurrentPlane, principal: Viewer) -> View:
    return View(request, plane, principal, renderer_of(request))


def _admin_view(request: Request, plane: CurrentPlane, principal: Admin) -> View:
    return View(request, plane, principal, renderer_of(request))


ViewerPage = Annotated[View, Depends(_view)]
"""For pages that everybody with a token may see."""
AdminPage = Annotated[View, Depends(_admin_view)]
"""For what changes something or shows prompts."""
