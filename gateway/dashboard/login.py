"""Logging in with an admin token and out again; a session's cookie in between. Knows no page."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from gateway.admin.access import COOKIE, CurrentPlane, Viewer, log, note, principal_of, refuse_other_sites
from gateway.admin.answers import read_body
from gateway.dashboard.links import Links
from gateway.dashboard.view import renderer_of
from gateway.errors import InvalidRequest, RateLimited, Unauthenticated

api = APIRouter()

FORM_BYTES = 4_000
_FORM = "application/x-www-form-urlencoded"


@api.get("/login")
async def form(request: Request, next: str = "") -> Response:
    """Show the form."""
    return renderer_of(request).answer("login.html", None, "", next=_inside(renderer_of(request).links, next), error="")


@api.post("/login")
async def log_in(request: Request, plane: CurrentPlane) -> Response:
    """Open a session for who shows a good token; the cookie is its only copy."""
    refuse_other_sites(request)
    fields = await read_form(request, plane)
    renderer = renderer_of(request)
    target = _inside(renderer.links, fields.get("next", ""))
    try:
        principal = principal_of(request, plane, fields.get("token", "").strip())
    except (Unauthenticated, RateLimited) as error:
        text = str(error) if isinstance(error, RateLimited) else "This is no admin token."
        answer = renderer.answer("login.html", None, "", status=error.status, next=target, error=text)
        for name, value in error.headers:
            answer.headers[name] = value
        return answer
    log.info("admin_login", who=principal.name)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        COOKIE,
        plane.sessions.open(principal),
        path=f"{renderer.links.base}/admin",
        httponly=True,
        samesite="strict",
        # The browser's own word: behind a proxy we see plain HTTP although it does not.
        secure=request.headers.get("origin", "").startswith("https://"),
    )
    return answer


@api.post("/logout")
async def log_out(request: Request, plane: CurrentPlane, principal: Viewer) -> Response:
    """End the session."""
    plane.sessions.close(request.cookies.get(COOKIE, ""))
    note(plane, principal, "logout")
    links = renderer_of(request).links
    answer = RedirectResponse(links.page("login"), 303)
    answer.delete_cookie(COOKIE, path=f"{links.base}/admin", httponly=True, samesite="strict")
    return answer


async def read_form(request: Request, plane: CurrentPlane, limit_bytes: int = FORM_BYTES) -> dict[str, str]:
    """Return the fields of a form, the last value of each.

    Raises:
        InvalidRequest: it cannot be read.
        BodyTooLarge, BodyTimeout, UnsupportedMediaType: see `endpoints.body`.
    """
    raw = await read_body(request, plane, limit_bytes, _FORM)
    try:
        found = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError as error:
        raise InvalidRequest("The form cannot be read.") from error
    return {name: values[-1] for name, values in found.items()}


def _inside(links: Links, target: str) -> str:
    """Return where to go after the login: a page of ours, whatever the address says."""
    parts = urlsplit(target)
    own = links.page()
    is_ours = not parts.scheme and not parts.netloc and target.startswith(own) and "\\" not in target
    return target if is_ours else own
