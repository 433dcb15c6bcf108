"""Who may use a route: each one depends on exactly one of `viewer` and `admin`. Looks at token or session only.

Scripts send a token. Browsers send the cookie of a session; what changes something must then come from one of our own
pages, which the browser itself says (`Origin`, `Sec-Fetch-Site`): a form of another site, or of another port of this
machine, cannot. The cookie is `SameSite=Strict` besides (OWASP, Cross-Site Request Forgery Prevention).

What a proxy may say of the client (`X-Forwarded-For` and the like) is not believed: anybody can write it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from gateway.admin.plane import Plane
from gateway.admin.principals import wrong_token
from gateway.errors import Forbidden, RateLimited, Unauthenticated
from gateway.keyring import Principal, Role
from gateway.stores.records.contract import Value

log = structlog.get_logger(__name__)

COOKIE = "pointsman_admin"
_READING = ("GET", "HEAD")

# For the OpenAPI document only: which header it is, and that there must be one of them, is settled below.
_SCHEME = HTTPBearer(auto_error=False, description="An admin token.")


def _plane(request: Request) -> Plane:
    return cast("Plane", request.app.state.plane)


CurrentPlane = Annotated[Plane, Depends(_plane)]


async def viewer(request: Request, plane: CurrentPlane, _: Annotated[Any, Depends(_SCHEME)]) -> Principal:
    """Let in who may look.

    Raises:
        Unauthenticated: no token, or a wrong one; which, is not said.
        RateLimited: too many wrong ones.
    """
    return _principal(request, plane)


async def admin(request: Request, plane: CurrentPlane, _: Annotated[Any, Depends(_SCHEME)]) -> Principal:
    """Let in who may change things.

    Raises:
        Unauthenticated, RateLimited: as for `viewer`.
        Forbidden: the token may only look.
    """
    principal = _principal(request, plane)
    principal.require(Role.ADMIN)
    return principal


Viewer = Annotated[Principal, Depends(viewer)]
Admin = Annotated[Principal, Depends(admin)]


def note(plane: Plane, principal: Principal, action: str, **detail: Value) -> None:
    """Write down that somebody changed something, or tried to: an event beside the records, and a line in the log."""
    log.info("admin_action", action=action, who=principal.name, **detail)
    plane.gateway.event("admin", action=action, who=principal.name, **detail)


def _principal(request: Request, plane: Plane) -> Principal:
    given = request.headers.getlist("authorization")
    cookie = request.cookies.get(COOKIE)
    if not given and cookie:
        if request.method not in _READING:
            refuse_other_sites(request)
        return plane.sessions.find(cookie)
    if len(given) != 1 or given[0][:7].lower() != "bearer ":
        raise wrong_token()  # not counted: browsers and probes come without one
    return principal_of(request, plane, given[0][7:].strip())


def principal_of(request: Request, plane: Plane, token: str) -> Principal:
    """Return whose token this is; wrong ones are counted by the client's address.

    Raises:
        Unauthenticated, RateLimited: as for `viewer`.
    """
    address = request.client.host if request.client is not None else ""
    wait_s = plane.throttle.wait_s(address)
    if wait_s > 0:
        after = ("retry-after", str(math.ceil(wait_s)))
        raise RateLimited("Too many wrong tokens. Try again later.", code="login_throttled", headers=(after,))
    try:
        principal = plane.tokens.find(token)
    except Unauthenticated:
        plane.throttle.failed(address)
        log.warning("admin_login_failed", address=address)
        raise wrong_token() from None
    plane.throttle.succeeded(address)
    return principal


def refuse_other_sites(request: Request) -> None:
    """Let pass what one of our own pages sends.

    Raises:
        Forbidden: another page sends it, or a browser too old to say.
    """
    origin = request.headers.get("origin", "null")
    if origin == "null":  # not said, or withheld for privacy
        own = request.headers.get("sec-fetch-site") == "same-origin"
    else:
        # The host alone: behind a proxy the scheme may be another one than the browser's.
        own = urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    if not own:
        raise Forbidden("This was sent by a page of another site.", code="cross_origin")
