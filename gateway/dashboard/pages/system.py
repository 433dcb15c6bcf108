"""The process, its stores, its classifier, its libraries; administrators have the file read again. Keeps nothing."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from math import isnan
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.admin import system_facts
from gateway.admin.config_changes import reload_config
from gateway.admin.plane import Plane
from gateway.dashboard.formats import number, seconds, size
from gateway.dashboard.live import Figure, live_answer
from gateway.dashboard.navigation import Nav
from gateway.dashboard.view import AdminPage, View, ViewerPage
from gateway.errors import PointsmanError
from gateway.generation import Generation
from gateway.stores.records.columns import oldest_us
from gateway.stores.records.queries import Queries
from gateway.variants import load_table
from router import QualityTable, RouterError, artifact_card

NAV = Nav("System", "system", "Manage", 30)
api = APIRouter()

_LOSSES = ("gap", "moved_aside", "missing")
MOST_LOSSES = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """Measured quality of one expert in one domain; shares, 0 to 1.

    Attributes:
        score: as measured; None where it was not.
        mean: what is expected after shrinking to the generalist's.
        low, high: 95 % interval.
        count: prompts it was measured on.
        level: `good`: surely better than the generalist, `warn`: surely worse, "": neither is sure.
    """

    score: float | None
    mean: float
    low: float
    high: float
    count: float
    level: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading files and stores has given.

    Attributes:
        rss_bytes: memory of this process.
        files: bytes on disk by section.
        schemas: section, store, version of each SQLite file.
        libraries: with version and licence.
        card: of the classifier's artifact; None: it has none.
        canary_card: of the canary's, where it has its own.
        quality: rows by domain, in the order of `experts`; None without a table.
        quality_error: why the table cannot be read; "" when all is well.
    """

    rss_bytes: int | None
    files: dict[str, Any]
    schemas: list[tuple[str, str, int | None]]
    libraries: list[dict[str, Any]]
    card: dict[str, Any] | None
    canary_card: dict[str, Any] | None
    quality: list[tuple[str, list[Cell]]] | None
    quality_experts: tuple[str, ...]
    quality_error: str


@api.get("/system")
async def page(view: ViewerPage, done: str = "") -> Response:
    """Show everything."""
    return await _page(view, done=done)


@api.get("/system/live.json")
async def live(request: Request, view: ViewerPage) -> Response:
    """Return what changes while the page is open."""
    return live_answer(request, await view.plane.threads.query(lambda: _live(view.plane)))


@api.post("/system/reload")
async def reload(view: AdminPage) -> Response:
    """Read the configuration's file again."""
    try:
        result = await reload_config(view.plane, view.principal)
    except PointsmanError as error:
        return await _page(view, error=error)
    return view.see_other("system", done=result.outcome.value)


async def _page(view: View, *, done: str = "", error: PointsmanError | None = None) -> Response:
    plane = view.plane
    generation, gateway = plane.gateway.current, plane.gateway
    settings = generation.settings
    facts, figures = await plane.threads.query(lambda: (_facts(generation), _live(plane)))
    kept = await view.ask(_kept)
    oldest, losses = kept.value or (None, [])
    return await view.page_in_thread(
        "system.html",
        NAV.path,
        status=200 if error is None else error.status,
        done=done,
        error=error,
        facts=facts,
        figures=figures,
        oldest_us=oldest,
        losses=losses,
        store_why=kept.why,
        store_kind=None if gateway.records is None else "SQLite" if settings.records.database else "PostgreSQL",
        writer=None if gateway.records is None else gateway.records.state(),
        records=settings.records,
        reloaded=None if plane.reloader is None else plane.reloader.last,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}",
        pid=os.getpid(),
        workers=plane.workers,
        started_at=plane.started_at,
        thresholds=generation.pipeline.thresholds.as_dict(),
        scorer_version=generation.scorer.scorer.version,
        settings=settings,
    )


def _live(plane: Plane) -> dict[str, Figure]:
    """Return what changes. Reads a file of the system: call it in a thread."""
    gateway = plane.gateway
    figures: dict[str, Figure] = {
        "uptime": seconds(round(time.monotonic() - plane.started)),
        "memory": size(system_facts.rss_bytes()),
        "inside": number(gateway.admission.inside),
    }
    if gateway.records is not None:
        state = gateway.records.state()
        lost = state.dropped + state.refused
        figures |= {
            "queued": number(state.queued),
            "written": number(state.written),
            "lost": {"text": number(lost), "state": "bad" if lost else "good"},
            "writing": {"text": state.failing or "yes", "state": "bad" if state.failing else "good"},
        }
    return figures


def _kept(queries: Queries) -> tuple[int | None, list[dict[str, Any]]]:
    """Return when the oldest request came, and the latest losses of records."""
    events = [event for event in queries.events(0, 500) if event["kind"].endswith(_LOSSES)]
    return oldest_us(queries.run), events[:MOST_LOSSES]


def _facts(generation: Generation) -> Facts:
    settings = generation.settings
    canary = None if settings.canary is None else settings.canary.artifact
    table, quality_error = None, ""
    try:
        table = load_table(settings.policy.quality_table, generation.catalog, generation.scorer.scorer)
    except RouterError as error:
        quality_error = str(error)
    return Facts(
        rss_bytes=system_facts.rss_bytes(),
        files=system_facts.file_sizes(settings),
        schemas=system_facts.schemas(settings),
        libraries=system_facts.libraries(),
        card=_card(settings.router.artifact, generation.scorer.scorer.version),
        canary_card=None if canary is None else _card(canary),
        quality=None if table is None else _quality(table),
        quality_experts=() if table is None else tuple(table.experts),
        quality_error=quality_error,
    )


def _card(artifact: str, version: str | None = None) -> dict[str, Any] | None:
    """Return an artifact's card; None where there is none, or `version` is another classifier's."""
    try:
        card = artifact_card(artifact)
    except RouterError:
        return None
    return card if version is None or version.startswith(f"{card.get('name')}-") else None


def _quality(table: QualityTable) -> list[tuple[str, list[Cell]]]:
    low, high = table.interval()
    generalist = table.experts.index(table.generalist)
    found = []
    for row, domain in enumerate(table.labels):
        cells = []
        for column in range(len(table.experts)):
            better = low[row, column] > high[row, generalist]
            worse = high[row, column] < low[row, generalist]
            score = float(table.score[row, column])
            cells.append(
                Cell(
                    score=None if isnan(score) else score,
                    mean=float(table.mean[row, column]),
                    low=float(low[row, column]),
                    high=float(high[row, column]),
                    count=float(table.count[row, column]),
                    level="good" if better else "warn" if worse else "",
                )
            )
        found.append((domain, cells))
    return found
