"""The configuration: what is in use, what the file says, and changes to it with their history. Keeps no state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer
from gateway.admin.answers import Strict, accepts, answer, encoded, read_json
from gateway.admin.config_changes import (
    applied_config,
    apply_config,
    file_of,
    listed_configs,
    reload_config,
    roll_back_config,
)
from gateway.admin.config_file import Change
from gateway.settings_file import dump, json_schema

api = APIRouter(tags=["config"])


class Text(Strict):
    """A configuration."""

    yaml: str = Field(max_length=1_000_000, description="The whole file.")


class Apply(Text):
    """A configuration to be used from now on."""

    base_version: str = Field(max_length=64, description="`file_version` of the file that it was made from.")


class RollBack(Strict):
    """Which configuration is to be used again."""

    number: int = Field(ge=1, le=2**62, description="Its number in the history.")


@api.get("/config")
async def effective(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the configuration in use, defaults included. It names environment variables and holds no secret."""
    settings, version = plane.gateway.settings, plane.gateway.catalog.version
    read_only = plane.config is None or settings.admin.read_only

    def write() -> bytes:
        content = settings.model_dump(mode="json")
        return encoded({"version": version, "read_only": read_only, "json": content, "yaml": dump(settings)})

    return answer(await plane.threads.query(write))


@api.get("/config/schema")
async def schema(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the JSON Schema of the file."""
    return answer(await plane.threads.query(lambda: json_schema().encode()))


@api.get("/config/file")
async def file(principal: Admin, plane: CurrentPlane) -> Response:
    """Return the file as it is written, comments included, with the version that a change has to name."""
    text, version = await file_of(plane).read()
    return answer({"yaml": text, "file_version": version, "read_only": plane.gateway.settings.admin.read_only})


@api.post("/config/validate", openapi_extra=accepts(Text))
async def validate(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Check a configuration as a reload would: environment, artifacts and tables, too. 422 says what is wrong."""
    wanted = await read_json(request, plane, Text)
    settings = await file_of(plane).validate(wanted.yaml)
    return answer({"valid": True, "experts": list(settings.named_experts())})


@api.post("/config/apply", openapi_extra=accepts(Apply))
async def apply(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Write the file and use it. 409: it has changed meanwhile. 422: it cannot be used, and is as it was."""
    wanted = await read_json(request, plane, Apply)
    return _changed(await apply_config(plane, principal, wanted.yaml, wanted.base_version))


@api.get("/config/history")
async def history(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return what was applied, the newest first, without the texts."""
    return answer({"history": await listed_configs(plane)})


@api.get("/config/history/{number}")
async def applied(principal: Admin, plane: CurrentPlane, number: Annotated[int, Path(ge=1, le=2**62)]) -> Response:
    """Return one of them with its text."""
    return answer(asdict(await applied_config(plane, number)))


@api.post("/config/rollback", openapi_extra=accepts(RollBack))
async def roll_back(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Use a configuration of the history again; the file says what it said then."""
    wanted = await read_json(request, plane, RollBack)
    return _changed(await roll_back_config(plane, principal, wanted.number))


@api.post("/reload")
async def reload(principal: Admin, plane: CurrentPlane) -> Response:
    """Read the file again, changed or not. The outcome is `applied`, `unchanged` or `invalid`."""
    result = await reload_config(plane, principal)
    return answer(
        {
            "outcome": result.outcome.value,
            "version": result.version,
            "problems": result.problems,
            "need_restart": result.need_restart,
        }
    )


def _changed(change: Change) -> Response:
    return answer({name: getattr(change, name) for name in change.__slots__})
