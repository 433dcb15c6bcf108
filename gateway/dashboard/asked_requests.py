"""Reads from a page's address which requests are meant, and writes it back with a part left out. Asks no store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gateway.admin.routes.records import PageQuery
from gateway.dashboard.spans import LABELS, LENGTHS
from gateway.stores.records.filters import NOTHING, RecordFilter

_PAGING = ("cursor", "limit")
_BOUNDS = ("since_us", "until_us")
NAMES = {
    "status_class": "status",
    "chosen": "answered by",
    "not_chosen": "answered by another than",
    "decided": "decided for",
    "expert_tried": "tried at the expert",
    "upstream": "tried at the server",
    "failed_over": "after a failed try",
    "catalog_version": "configuration",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A condition as the page shows it, with the address of the page without it."""

    text: str
    without: dict[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests a page is asked for.

    Attributes:
        given: fields of the address that count, as text.
        filter: the same for the store.
        rating: `up`, `down` or "".
        cursor: where to go on.
        problems: what of the address could not be used, for people.
    """

    given: dict[str, str]
    filter: RecordFilter
    rating: str
    cursor: str | None
    problems: list[str]

    def chips(self) -> list[Chip]:
        """Return the conditions, in the order of the address."""
        found = []
        for name, value in self.given.items():
            without = {key: text for key, text in self.given.items() if key != name}
            found.append(Chip(_words(name, value), without))
        return found

    @property
    def is_bounded(self) -> bool:
        """Tell whether requests from now on cannot be meant."""
        return "until_us" in self.given


def read(query: Mapping[str, str]) -> Wanted:
    """Read an address; what cannot be used is left out and told, so that the page is there all the same."""
    given, problems = {name: text for name, text in query.items() if text != ""}, []
    cursor, rating, span = given.pop("cursor", None), given.pop("rating", ""), given.pop("span", "")
    given.pop("limit", None)
    if rating not in ("", "up", "down"):
        problems.append("rating: takes up or down")
        rating = ""
    if span and span not in LENGTHS:
        problems.append(f"span: takes {', '.join(LENGTHS)}")
        span = ""
    for name in [name for name in given if name not in PageQuery.model_fields]:
        problems.append(f"{name[:40]}: there is no such filter")
        del given[name]
    found = _checked(given, problems)
    wanted = found.wanted()
    if span and "since_us" not in given:
        since = int(datetime.now(UTC).timestamp()) - LENGTHS[span]
        wanted = RecordFilter(**{**_fields(wanted), "since_us": since * 1_000_000})
    given |= {name: value for name, value in (("rating", rating), ("span", span)) if value}
    return Wanted(given, wanted, rating, cursor, problems)


def _fields(wanted: RecordFilter) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in RecordFilter.__dataclass_fields__}


def _checked(given: dict[str, str], problems: list[str]) -> PageQuery:
    """Return what can be used; fields that cannot are taken out of `given`."""
    try:
        return PageQuery.model_validate_strings(given)
    except ValidationError as error:
        for one in error.errors():
            name = str(one["loc"][0])
            if given.pop(name, None) is not None:
                problems.append(f"{name}: {one['msg'][:100]}")
    return PageQuery.model_validate_strings(given)


def _words(name: str, value: str) -> str:
    if name == "span":
        return LABELS[value]
    label = NAMES.get(name, name.replace("_", " "))
    if name in _BOUNDS:
        moment = f"{datetime.fromtimestamp(int(value) / 1e6, UTC):%Y-%m-%d %H:%M:%S}" if int(value) < 1e16 else value
        return f"{'from' if name == 'since_us' else 'before'} {moment} UTC"
    if name == "status_class":
        return f"{label} {value}xx"
    if name in ("failed_over", "stream"):
        return label if value == "true" else f"not {label}"
    for end, sign in (("_from", "at least"), ("_below", "below")):
        if name.endswith(end):
            return f"{name.removesuffix(end).replace('_', ' ')} {sign} {value}"
    return f"{label}: none" if value == NOTHING else f"{label}: {value}"
