"""Changes of the configuration that an administrator asks for, with their trace in the events; for routes and pages."""

from __future__ import annotations

from gateway.admin.access import note
from gateway.admin.config_file import Change, ConfigFile
from gateway.admin.errors import Conflict, NotThere, explained
from gateway.admin.plane import Plane
from gateway.errors import PointsmanError
from gateway.keyring import Principal
from gateway.reload import Reload
from gateway.stores.config_history import Applied, ConfigHistory


async def apply_config(plane: Plane, principal: Principal, text: str, base_version: str) -> Change:
    """Write the file and use it.

    Raises:
        Conflict: the file has changed meanwhile, or there is none.
        Forbidden, ConfigInvalid, StoreDown: see `ConfigFile.apply`.
    """
    try:
        change = await file_of(plane).apply(text, base_version, principal.name)
    except PointsmanError as error:
        note(plane, principal, "config_apply", outcome=error.code)
        raise
    note(plane, principal, "config_apply", outcome=change.outcome, version=change.version)
    return change


async def roll_back_config(plane: Plane, principal: Principal, number: int) -> Change:
    """Use a configuration of the history again.

    Raises:
        NotThere: the history has no such number, or there is no history.
        Conflict, Forbidden, ConfigInvalid, StoreDown: see `ConfigFile.apply`.
    """
    try:
        change = await file_of(plane).roll_back(number, principal.name)
    except PointsmanError as error:
        note(plane, principal, "config_rollback", number=number, outcome=error.code)
        raise
    note(plane, principal, "config_rollback", outcome=change.outcome, version=change.version, number=number)
    return change


async def reload_config(plane: Plane, principal: Principal) -> Reload:
    """Read the file again, changed or not.

    Raises:
        Conflict: the configuration comes from no file.
    """
    if plane.reloader is None:
        raise _no_file()
    result = await plane.reloader.reload("admin")
    note(plane, principal, "reload", outcome=result.outcome.value, version=result.version)
    return result


async def applied_config(plane: Plane, number: int) -> Applied:
    """Return one configuration of the history with its text.

    Raises:
        NotThere: the history has no such number, or there is no history.
        StoreDown: the history cannot be read.
    """
    kept = history_of(plane)

    def read() -> Applied | None:
        with explained():
            return kept.find(number)

    found = await plane.threads.query(read)
    if found is None:
        raise NotThere("The history has no such number.", param="number", code="version_not_found")
    return found


async def listed_configs(plane: Plane) -> list[dict[str, object]]:
    """Return what was applied, the newest first, without the texts.

    Raises:
        NotThere: there is no history.
        StoreDown: it cannot be read.
    """
    kept = history_of(plane)

    def read() -> list[dict[str, object]]:
        with explained():
            return kept.listed()

    return await plane.threads.query(read)


def file_of(plane: Plane) -> ConfigFile:
    """Return what changes the file.

    Raises:
        Conflict: the configuration comes from no file.
    """
    if plane.config is None:
        raise _no_file()
    return plane.config


def history_of(plane: Plane) -> ConfigHistory:
    """Return the history.

    Raises:
        NotThere: none is kept.
    """
    if plane.history is None:
        raise NotThere("No history is kept: set admin.database.", code="history_disabled")
    return plane.history


def _no_file() -> Conflict:
    return Conflict("The configuration of this gateway comes from no file.", code="no_config_file")
