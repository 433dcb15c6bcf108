"""What pages say of events: a sentence, how bad it is, a short word for charts. Asks no store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.dashboard.charts import Mark

CONFIG = ("config",)
SERVERS = ("upstream_ejected", "upstream_back", "upstream_down", "upstream_up", "upstream_off", "upstream_on")
STORE = ("gap", "store_moved_aside", "store_missing", "spending_moved_aside")
ALL = (*CONFIG, *SERVERS, *STORE, "admin")
MOST_MARKS = 12

Level = Literal["good", "warn", "bad", "off"]
_SERVERS: Mapping[str, tuple[str, Level, str]] = {
    "upstream_ejected": ("was ejected", "bad", "ejected"),
    "upstream_back": ("is back after an ejection", "good", ""),
    "upstream_down": ("is down: its checks or connections fail", "bad", "down"),
    "upstream_up": ("is up again", "good", ""),
    "upstream_off": ("was switched off", "off", "off"),
    "upstream_on": ("was switched on", "good", ""),
}
_CONFIG: Mapping[str, tuple[str, Level, str]] = {
    "applied": ("A changed configuration was taken over", "off", "config"),
    "invalid": ("A changed configuration cannot be used; the last good one stayed", "bad", "bad config"),
}
_STORE: Mapping[str, str] = {
    "store_moved_aside": "The file of records was corrupt and moved aside; a new one was made.",
    "store_missing": "The file of records was gone; a new one was made.",
    "spending_moved_aside": "The file of budgets was corrupt and moved aside; what was known of the month was kept.",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event.

    Attributes:
        at_us: when, microseconds since the epoch.
        text: a sentence.
        level: how bad it is.
        mark: a word for a chart; "" for none.
        upstream: the server's address that it is about; "" for none.
    """

    at_us: int
    text: str
    level: Level
    mark: str
    upstream: str = ""


def told(event: Mapping[str, Any]) -> Happening:
    """Return what a page says of a stored event; one of a later version is shown as it is."""
    kind, detail, at_us = str(event["kind"]), event["detail"], int(event["at_us"])
    upstream = str(detail.get("upstream") or "")
    if kind in _SERVERS:
        says, level, mark = _SERVERS[kind]
        why = f" ({str(detail['why']).replace('_', ' ')})" if detail.get("why") else ""
        return Happening(at_us, f"{upstream or 'A server'} {says}{why}.", level, mark, upstream)
    if kind == "config":
        outcome = str(detail.get("outcome"))
        says, level, mark = _CONFIG.get(outcome, (f"Configuration: {outcome}", "off", ""))
        version = f": version {str(detail['version'])[:12]}" if detail.get("version") else ""
        return Happening(at_us, f"{says}{version} ({detail.get('trigger', 'unknown')}).", level, mark)
    if kind == "gap":
        return Happening(at_us, f"{detail.get('rows', 'Some')} records were dropped before this.", "bad", "dropped")
    if kind in _STORE:
        return Happening(at_us, _STORE[kind], "bad", "store")
    if kind == "admin":
        return Happening(at_us, _admin(detail), "off", "")
    return Happening(at_us, kind.replace("_", " ") + ".", "off", "", upstream)


def _admin(detail: Mapping[str, Any]) -> str:
    about = [
        f"{name} {value}" for name, value in detail.items() if name not in ("action", "who") and value not in (None, "")
    ]
    action = str(detail.get("action", "something")).replace("_", " ")
    told = f" ({', '.join(about)})" if about else ""
    return f"{detail.get('who', 'An administrator')}: {action}{told}."


def marks(found: Iterable[Happening], experts: Mapping[str, str] | None = None) -> list[Mark]:
    """Return the newest ones as marks of a chart, the earliest first.

    Args:
        found: the newest first.
        experts: name of the expert by its server's address, to be told in the mark.
    """
    shown = [one for one in found if one.mark][:MOST_MARKS]
    names = experts or {}
    return [
        Mark(one.at_us / 1e6, " ".join(filter(None, (names.get(one.upstream, ""), one.mark))))
        for one in reversed(shown)
    ]
