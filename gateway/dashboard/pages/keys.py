"""Callers' keys: what each may use and uses, spending by key; administrators make, renew and end keys of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from gateway.admin.key_changes import Create, NewSecret, Revoke, Rotate, create_key, revoke_key, rotate_key
from gateway.admin.key_report import MOST_KEYS
from gateway.admin.reporting import KeyReport, keys
from gateway.dashboard.charts import Chart, Series
from gateway.dashboard.links import Links
from gateway.dashboard.login import read_form
from gateway.dashboard.navigation import Nav
from gateway.dashboard.spans import ChosenSpan, Span, span_ending_now
from gateway.dashboard.view import AdminPage, View, ViewerPage
from gateway.error_answers import invalid_field
from gateway.errors import InvalidRequest, PointsmanError

Model = TypeVar("Model", bound=BaseModel)

NAV = Nav("Keys and budgets", "keys", "Manage", 10)
api = APIRouter()

DAY_S = 86_400
MOST_LINES = 7
GRACES = {"0": "at once", "3600": "after an hour", "86400": "after a day", "604800": "after a week"}
_COUNTS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")
_MONEY = ("daily_budget", "monthly_budget", "price_cap")


@api.get("/keys")
async def page(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show all keys."""
    return await _page(view, span)


@api.post("/keys/create")
async def create(view: AdminPage) -> Response:
    """Make a key; the answer shows its secret, once."""
    fields = await read_form(view.request, view.plane)
    try:
        made = await create_key(view.plane, view.principal, _wanted(fields))
    except PointsmanError as error:
        return await _page(view, span_ending_now(), error=error, fields=fields)
    return await _page(view, span_ending_now(), made=made)


@api.post("/keys/rotate")
async def rotate(view: AdminPage) -> Response:
    """Give a key a new secret; the answer shows it, once."""
    fields = await read_form(view.request, view.plane)
    try:
        wanted = _checked(Rotate, {"name": fields.get("name", ""), "grace_s": _number(fields, "grace_s") or 0.0})
        made = await rotate_key(view.plane, view.principal, wanted)
    except PointsmanError as error:
        return await _page(view, span_ending_now(), error=error)
    return await _page(view, span_ending_now(), made=made)


@api.post("/keys/revoke")
async def revoke(view: AdminPage) -> Response:
    """End a key for ever."""
    fields = await read_form(view.request, view.plane)
    try:
        if fields.get("sure") != "yes":
            raise InvalidRequest("Tick the box to say that you are sure.", param="sure")
        await revoke_key(view.plane, view.principal, _checked(Revoke, {"name": fields.get("name", "")}))
    except PointsmanError as error:
        return await _page(view, span_ending_now(), error=error)
    return view.see_other("keys")


async def _page(
    view: View,
    span: Span,
    *,
    made: NewSecret | None = None,
    error: PointsmanError | None = None,
    fields: Mapping[str, str] | None = None,
) -> Response:
    report = await keys(view.plane, span.since_s, span.until_s)
    settings = view.plane.gateway.settings
    return await view.page_in_thread(
        NAV.path + ".html",
        NAV.path,
        status=error.status if error is not None else 200,
        span=span,
        report=report,
        chart=_chart(report, span, view.links, settings.currency),
        made=made,
        error=error,
        fields=fields or {},
        graces=GRACES,
        most_keys=MOST_KEYS,
        experts=list(view.plane.gateway.catalog.experts),
        can_change=view.is_admin and report.stored is not None,
        keys_needed=view.plane.gateway.settings.key_store.wanted or bool(report.configured),
    )


def _chart(report: KeyReport, span: Span, links: Links, currency: str) -> Chart:
    total: dict[str, float] = {}
    cells: dict[tuple[int, str], float] = {}
    for one in report.spend:
        total[one.key] = total.get(one.key, 0.0) + one.cost
        cells[one.at_s, one.key] = cells.get((one.at_s, one.key), 0.0) + one.cost
    shown = sorted(total, key=lambda name: -total[name])[:MOST_LINES]
    step_s = report.spend_step_s
    x = list(range(report.spend_since_s // step_s * step_s, span.until_s, step_s)) if cells else []
    lines = [
        Series(
            name or "no key",
            [cells.get((at_s, name), 0.0) for at_s in x],
            [_requests(links, at_s, step_s, name) for at_s in x],
            "area",
        )
        for name in shown
    ]
    if report.spend_exact:
        summary = "Of all requests, by day (UTC), over two weeks at least."
    else:
        summary = f"Of the newest {report.looked_at} stored requests{' of the span' if report.whole else ''}."
    if len(total) > MOST_LINES:
        summary += f" The {MOST_LINES} keys that spent most of {len(total)}."
    return Chart(
        "key-spend",
        "Spending by key",
        x,
        lines,
        unit="money",
        currency=currency,
        stacked=len(shown) > 1,
        summary=summary,
        empty="Nothing was spent in this span of time, or no request has a price.",
    )


def _requests(links: Links, at_s: int, step_s: int, key: str) -> str:
    since_us = at_s * 1_000_000
    return links.page("requests", since_us=since_us, until_us=since_us + step_s * 1_000_000, key=key)


def _wanted(fields: Mapping[str, str]) -> Create:
    """Read the form of a new key; fields left empty are not limits.

    Raises:
        InvalidRequest: a field is not acceptable.
    """
    experts = [name.removeprefix("expert:") for name in fields if name.startswith("expert:")]
    tags = [tag for tag in fields.get("tags", "").replace(",", " ").split() if tag]
    terms: dict[str, Any] = {name: _number(fields, name) for name in (*_COUNTS, *_MONEY)}
    for name in _COUNTS:
        value = terms[name]
        terms[name] = int(value) if value is not None and value == int(value) else value
    terms |= {"experts": experts or None, "tags": tags or None}
    days = _number(fields, "expires_days")
    return _checked(
        Create,
        {
            "name": fields.get("name", "").strip(),
            "terms": {name: value for name, value in terms.items() if value is not None},
            "expires_in_s": None if days is None else days * DAY_S,
        },
    )


def _number(fields: Mapping[str, str], name: str) -> float | None:
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidRequest("This is no number.", param=name) from error
    if not abs(value) < 1e15:  # NaN too
        raise InvalidRequest("This number is too large.", param=name)
    return value


def _checked(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_field(error.errors()[0]) from error
