"""The configuration: what is in use, what the file says, and changes to it with their history. Keeps no state."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer, note
from gateway.admin.answers import Strict, accepts, answer, encoded, read_json
from gateway.admin.config_file import Change, ConfigFile
from gateway.admin.errors import Conflict, NotThere, explained
from gateway.admin.plane import Plane
from gateway.errors import PointsmanError
from gateway.keyring import Principal
from gateway.settings_file import dump, json_schema
from gateway.stores.config_history import ConfigHistory

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
    text, version = await _file(plane).read()
    return answer({"yaml": text, "file_version": version, "read_only": plane.gateway.settings.admin.read_only})


@api.post("/config/validate", openapi_extra=accepts(Text))
async def validate(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Check a configuration as a reload would: environment, artifacts and tables, too. 422 says what is wrong."""
    wanted = await read_json(request, plane, Text)
    settings = await _file(plane).validate(wanted.yaml)
    return answer({"valid": True, "experts": list(settings.named_experts())})


@api.post("/config/apply", openapi_extra=accepts(Apply))
async def apply(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Write the file and use it. 409: it has changed meanwhile. 422: it cannot be used, and is as it was."""
    wanted = await read_json(request, plane, Apply)
    try:
        change = await _file(plane).apply(wanted.yaml, wanted.base_version, principal.name)
    except PointsmanError as error:
        note(plane, principal, "config_apply", outcome=error.code)
        raise
    return _changed(plane, principal, "config_apply", change)


@api.get("/config/history")
async def history(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return what was applied, the newest first, without the texts."""
    kept = _history(plane)

    def read() -> bytes:
        with explained():
            return encoded({"history": kept.listed()})

    return answer(await plane.threads.query(read))


@api.get("/config/history/{number}")
async def applied(principal: Admin, plane: CurrentPlane, number: Annotated[int, Path(ge=1, le=2**62)]) -> Response:
    """Return one of them with its text."""
    kept = _history(plane)

    def read() -> dict[str, Any]:
        with explained():
            found = kept.find(number)
        if found is None:
            raise NotThere("The history has no such number.", param="number", code="version_not_found")
        return {name: getattr(found, name) for name in found.__slots__}

    return answer(await plane.threads.query(read))


@api.post("/config/rollback", openapi_extra=accepts(RollBack))
async def roll_back(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Use a configuration of the history again; the file says what it said then."""
    wanted = await read_json(request, plane, RollBack)
    try:
        change = await _file(plane).roll_back(wanted.number, principal.name)
    except PointsmanError as error:
        note(plane, principal, "config_rollback", number=wanted.number, outcome=error.code)
        raise
    return _changed(plane, principal, "config_rollback", change, number=wanted.number)


@api.post("/reload")
async def reload(principal: Admin, plane: CurrentPlane) -> Response:
    """Read the file again, changed or not. The outcome is `applied`, `unchanged` or `invalid`."""
    if plane.reloader is None:
        raise _no_file()
    result = await plane.reloader.reload("admin")
    note(plane, principal, "reload", outcome=result.outcome.value, version=result.version)
    return answer(
        {
            "outcome": result.outcome.value,
            "version": result.version,
            "problems": result.problems,
            "need_restart": result.need_restart,
        }
    )


def _changed(plane: Plane, principal: Principal, action: str, change: Change, **detail: int) -> Response:
    note(plane, principal, action, outcome=change.outcome, version=change.version, **detail)
    return answer({name: getattr(change, name) for name in change.__slots__})


def _file(plane: Plane) -> ConfigFile:
    if plane.config is None:
        raise _no_file()
    return plane.config


def _history(plane: Plane) -> ConfigHistory:
    if plane.history is None:
        raise NotThere("No history is kept: set admin.database.", code="history_disabled")
    return plane.history


def _no_file() -> Conflict:
    return Conflict("The configuration of this gateway comes from no file.", code="no_config_file")
