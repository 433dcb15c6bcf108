"""What every page says on top: what is wrong with the gateway itself just now. Asks no store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.admin.plane import Plane
from gateway.dashboard.links import Links
from gateway.reload import Outcome


@dataclass(frozen=True, slots=True)
class Banner:
    """One line on top of every page.

    Attributes:
        level: `error`: something does not work; `warning`: something will be missed; `info`: good to know.
        text: a sentence.
        link: where to see more; "" for nowhere.
        link_text: what the link says.
    """

    level: Literal["error", "warning", "info"]
    text: str
    link: str = ""
    link_text: str = ""


def banners(plane: Plane, links: Links) -> list[Banner]:
    """Return what is wrong, the worst first."""
    found = [*_reload(plane, links), *_ready(plane, links), *_records(plane, links)]
    return sorted(found, key=lambda banner: ("error", "warning", "info").index(banner.level))


def _reload(plane: Plane, links: Links) -> list[Banner]:
    last = plane.reloader.last if plane.reloader is not None else None
    if last is None:
        return []
    result = last[1]
    if result.outcome is Outcome.INVALID:
        text = "The configuration file was changed and cannot be used; the last good one is still in use."
        return [Banner("error", text, links.page("config"), "What is wrong with it")]
    if result.need_restart:
        text = f"Changed settings count only after a restart: {', '.join(result.need_restart)}."
        return [Banner("warning", text, links.page("config"), "Configuration")]
    return []


def _ready(plane: Plane, links: Links) -> list[Banner]:
    gateway = plane.gateway
    if gateway.draining:
        return [Banner("warning", "The gateway is stopping: it finishes open requests and takes no new ones.")]
    if not gateway.ready:
        return [Banner("error", "The gateway is not ready: no expert can answer.", links.page("health"), "Health")]
    return []


def _records(plane: Plane, links: Links) -> list[Banner]:
    records = plane.gateway.records
    if records is None:
        return [Banner("info", "No records are kept: pages show live figures only. See records.database.")]
    state = records.state()
    found = []
    if state.failing is not None:
        text = "Records cannot be written just now; requests are answered all the same."
        found.append(Banner("error", text, links.page("system"), "System"))
    if state.dropped:
        text = f"{state.dropped} records were dropped since the start: sums on these pages are too low."
        found.append(Banner("warning", text, links.page("system"), "System"))
    return found
