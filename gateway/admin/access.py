"""Who may use a route: each one depends on exactly one of `viewer` and `admin`. Looks at nothing but the token.

What a proxy may say of the client (`X-Forwarded-For` and the like) is not believed: anybody can write it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, cast

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from gateway.admin.plane import Plane
from gateway.admin.principals import wrong_token
from gateway.errors import RateLimited, Unauthenticated
from gateway.keyring import Principal, Role
from gateway.stores.records.contract import Value

log = structlog.get_logger(__name__)

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
    address = request.client.host if request.client is not None else ""
    given = request.headers.getlist("authorization")
    if len(given) != 1 or given[0][:7].lower() != "bearer ":
        raise wrong_token()  # not counted: browsers and probes come without one
    wait_s = plane.throttle.wait_s(address)
    if wait_s > 0:
        after = ("retry-after", str(math.ceil(wait_s)))
        raise RateLimited("Too many wrong tokens. Try again later.", code="login_throttled", headers=(after,))
    try:
        principal = plane.tokens.find(given[0][7:].strip())
    except Unauthenticated:
        plane.throttle.failed(address)
        log.warning("admin_login_failed", address=address)
        raise wrong_token() from None
    plane.throttle.succeeded(address)
    return principal
