"""What FastAPI endpoints ask for by type. Nothing but access to the gateway object."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from gateway.state import Gateway


def _gateway(request: Request) -> Gateway:
    return cast("Gateway", request.app.state.gateway)


CurrentGateway = Annotated[Gateway, Depends(_gateway)]
