"""The configuration: in use, in the file, tried out, applied, rolled back. `admin.config_changes` does the writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from gateway.admin.config_changes import applied_config, apply_config, file_of, listed_configs, roll_back_config
from gateway.admin.differences import Line, differences
from gateway.admin.draft import MOST_ROWS
from gateway.admin.errors import ConfigInvalid, Conflict, NotThere, StoreDown
from gateway.admin.reporting import DraftTrial, try_out
from gateway.dashboard.login import read_form
from gateway.dashboard.navigation import Nav
from gateway.dashboard.view import AdminPage, View, ViewerPage
from gateway.errors import InvalidRequest, PointsmanError
from gateway.settings_file import MAXIMUM_BYTES, Problem, dump

NAV = Nav("Configuration", "config", "Manage", 20)
api = APIRouter()

# Sent by a form, a character may take three bytes; results hold the text once.
FORM_BYTES = 3 * MAXIMUM_BYTES + 10_000
LASTS = (500, 2_000, MOST_ROWS)


@dataclass(frozen=True, slots=True)
class Draft:
    """What the editor holds, and what was found about it.

    Attributes:
        text: the whole file.
        base_version: of the file that it was made from.
        last: how many stored requests it was tried on.
        trial: what it would do; None before it was checked.
        problems: why it cannot be used.
        error: why it was not applied.
        conflict: what differs between the file as it is now and the text; None: no conflict.
    """

    text: str
    base_version: str
    last: int = LASTS[1]
    trial: DraftTrial | None = None
    problems: Sequence[Problem] = ()
    error: str = ""
    conflict: Sequence[Line] | None = None


@api.get("/config")
async def page(view: ViewerPage, done: str = "") -> Response:
    """Show what is in use; administrators also see the file."""
    draft, unreadable = None, ""
    if view.is_admin and view.plane.config is not None:
        try:
            draft = Draft(*await view.plane.config.read())
        except StoreDown as error:
            unreadable = str(error)
    return await _page(view, draft, unreadable=unreadable, done=done)


@api.post("/config/check")
async def check(view: AdminPage) -> Response:
    """Check a draft and try it on stored requests; apply nothing."""
    draft = await _sent(view)
    try:
        trial = await try_out(view.plane, draft.text, draft.last)
    except ConfigInvalid as error:
        return await _page(view, Draft(draft.text, draft.base_version, draft.last, problems=error.problems), status=422)
    except StoreDown as error:
        return await _page(view, Draft(draft.text, draft.base_version, draft.last, error=str(error)), status=503)
    return await _page(view, Draft(draft.text, draft.base_version, draft.last, trial))


@api.post("/config/apply")
async def apply(view: AdminPage) -> Response:
    """Write the draft into the file and use it."""
    draft = await _sent(view)
    text, base = draft.text, draft.base_version
    try:
        await apply_config(view.plane, view.principal, text, base)
    except ConfigInvalid as error:
        return await _page(view, Draft(text, base, problems=error.problems), status=422)
    except Conflict as error:
        now, version = await file_of(view.plane).read()
        between = await view.plane.threads.query(lambda: differences(now, text))
        return await _page(view, Draft(text, version, error=str(error), conflict=between or ()), status=409)
    except PointsmanError as error:
        return await _page(view, Draft(text, base, error=str(error)), status=error.status)
    return view.see_other("config", done="applied")


@api.get("/config/history/{number}")
async def earlier(view: AdminPage, number: Annotated[int, Path(ge=1, le=2**62)]) -> Response:
    """Show an earlier configuration beside the file, with the way back to it."""
    return await _earlier(view, number)


@api.post("/config/history/{number}")
async def roll_back(view: AdminPage, number: Annotated[int, Path(ge=1, le=2**62)]) -> Response:
    """Use an earlier configuration again."""
    fields = await read_form(view.request, view.plane)
    try:
        if fields.get("sure") != "yes":
            raise InvalidRequest("Tick the box to say that you are sure.", param="sure")
        await roll_back_config(view.plane, view.principal, number)
    except PointsmanError as error:
        return await _earlier(view, number, error)
    return view.see_other("config", done="rolled_back")


async def _earlier(view: View, number: int, error: PointsmanError | None = None) -> Response:
    found = await applied_config(view.plane, number)
    now, _ = await file_of(view.plane).read()
    lines = await view.plane.threads.query(lambda: differences(now, found.text))
    return await view.page_in_thread(
        "config_history.html",
        NAV.path,
        status=200 if error is None else error.status,
        found=found,
        lines=lines,
        error=error,
        read_only=view.plane.gateway.settings.admin.read_only,
    )


async def _page(
    view: View, draft: Draft | None, *, status: int = 200, unreadable: str = "", done: str = ""
) -> Response:
    plane = view.plane
    settings, reloader = plane.gateway.settings, plane.reloader
    history, history_why = await _history(view)
    return await view.page_in_thread(
        "config.html",
        NAV.path,
        status=status,
        draft=draft,
        unreadable=unreadable,
        done=done,
        lasts=LASTS,
        from_file=plane.config is not None,
        read_only=settings.admin.read_only,
        effective=await plane.threads.query(lambda: dump(settings)),
        in_use=plane.gateway.catalog.version,
        reloaded=None if reloader is None else reloader.last,
        history=history,
        history_why=history_why,
    )


async def _history(view: View) -> tuple[list[dict[str, object]], str]:
    try:
        return await listed_configs(view.plane), ""
    except (NotThere, StoreDown) as error:
        return [], error.code or str(error)


async def _sent(view: View) -> Draft:
    """Read the editor's form. Browsers send lines that end with CR LF; the file gets LF."""
    fields = await read_form(view.request, view.plane, FORM_BYTES)
    text = fields.get("yaml", "").replace("\r\n", "\n")
    last = fields.get("last", "")
    return Draft(text, fields.get("base_version", ""), int(last) if last in map(str, LASTS) else LASTS[1])
