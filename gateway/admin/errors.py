"""The errors of the admin API, in the shape of all others. Maps what stores and files raise; raises nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.errors import PointsmanError, RequestError
from gateway.settings_file import ConfigError, Problem
from gateway.stores.config_history import HistoryUnavailable
from gateway.stores.records import QueryTooSlow, RecordsUnavailable
from gateway.stores.records.queries import BadCursor


class NotThere(RequestError):
    """What was asked for by name is not there."""

    status = 404
    code = "not_found"


class Conflict(RequestError):
    """What is asked for does not go with what has happened meanwhile, or with how the gateway is set up."""

    status = 409
    code = "config_changed"


class ConfigInvalid(RequestError):
    """A configuration that cannot be used.

    Attributes:
        problems: what is wrong, each with line (0: the file as a whole) and key where they are known.
    """

    status = 422
    code = "config_invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = [": ".join(part for part in (p.line and f"line {p.line}", p.key, p.message) if part) for p in problems]
        super().__init__("The configuration cannot be used. " + "; ".join(lines[:20]))
        self.problems = tuple(problems)

    def payload(self, *, anthropic: bool = False) -> dict[str, object]:
        """Return the body, with `problems` beside OpenAI's four fields."""
        found = super().payload(anthropic=anthropic)
        error = found["error"]
        assert isinstance(error, dict)
        error["problems"] = [{"line": p.line, "key": p.key, "message": p.message} for p in self.problems]
        return found


class StoreDown(PointsmanError):
    """A store cannot be asked now."""

    status = 503
    code = "records_unavailable"


class QueryTooSlowError(PointsmanError):
    """A query took longer, or read more, than one may."""

    status = 503
    code = "query_too_slow"


def of_config(error: ConfigError) -> ConfigInvalid:
    """Return what clients see of a wrong file: no path."""
    return ConfigInvalid(error.problems)


def of_message(message: str) -> ConfigInvalid:
    """Return what clients see of a file that is well-formed and cannot be used."""
    return ConfigInvalid([Problem(0, "", message)])


@contextmanager
def explained() -> Iterator[None]:
    """Turn what stores raise into errors of the API; their messages hold neither addresses nor rows."""
    try:
        yield
    except RecordsUnavailable as error:
        raise StoreDown(f"The store of records cannot be asked now: {error}.") from error
    except HistoryUnavailable as error:
        raise StoreDown(f"The history cannot be read now: {error}.", code="history_unavailable") from error
    except QueryTooSlow as error:
        raise QueryTooSlowError(f"The query {error}.") from error
    except BadCursor as error:
        raise RequestError("The cursor is none that a page gave.", param="cursor", code="bad_cursor") from error
