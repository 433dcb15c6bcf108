"""When which server was out, from the events of its time. Asks no store.

Events carry no worker: a server counts as out from the first worker that says so until the first that says it is back.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

OUT = {"upstream_ejected": "ejected", "upstream_down": "down", "upstream_off": "switched off"}
BACK = {"upstream_back": "ejected", "upstream_up": "down", "upstream_on": "switched off"}
KINDS = (*OUT, *BACK)


@dataclass(frozen=True, slots=True)
class Outage:
    """One time in which a server got no requests, or only as a last resort.

    Attributes:
        upstream: the server's address.
        what: `ejected`, `down` or `switched off`.
        why: what the event said, as a breaker's reason; "" where it says nothing.
        since_us: microseconds since the epoch.
        until_us: None: it is not over, as far as the events tell.
    """

    upstream: str
    what: str
    why: str
    since_us: int
    until_us: int | None


def outages(events: Iterable[Mapping[str, Any]], urls: Sequence[str] | None = None) -> list[Outage]:
    """Return outages, the newest first.

    Args:
        events: the newest first, as stores give them. What began before the first of them is not seen.
        urls: of these servers only; None: of all.
    """
    open_: dict[tuple[str, str], tuple[int, str]] = {}
    found: list[Outage] = []
    for event in sorted(events, key=lambda one: int(one["at_us"])):
        kind, at_us = event["kind"], int(event["at_us"])
        upstream = str(event["detail"].get("upstream", ""))
        if kind not in KINDS or (urls is not None and upstream not in urls):
            continue
        what = OUT.get(kind) or BACK[kind]
        if kind in OUT:
            # A second ejection in a row goes on from the first.
            open_.setdefault((upstream, what), (at_us, str(event["detail"].get("why") or "")))
        elif (upstream, what) in open_:
            since_us, why = open_.pop((upstream, what))
            found.append(Outage(upstream, what, why, since_us, at_us))
    found += [Outage(upstream, what, why, at_us, None) for (upstream, what), (at_us, why) in open_.items()]
    return sorted(found, key=lambda one: (-one.since_us, one.upstream, one.what))


def ended_by_start(found: Iterable[Outage], started_us: int, out_now: Container[str]) -> list[Outage]:
    """End what a restart of the gateway has ended: it forgets what it knew of servers, and no event says so.

    Args:
        found: outages.
        started_us: when the process began, microseconds since the epoch.
        out_now: addresses of servers that are out now.
    """
    return [
        replace(one, until_us=started_us)
        if one.until_us is None and one.since_us < started_us and one.upstream not in out_now
        else one
        for one in found
    ]


def share_out(found: Iterable[Outage], upstream: str, starts: Sequence[int], span_s: int, now_us: int) -> list[float]:
    """Return which share of each span of time, 0 to 1, a server was out.

    Args:
        found: outages; those that overlap are counted once.
        upstream: the server's address.
        starts: of the spans, seconds since the epoch, rising.
        span_s: their length.
        now_us: until when an outage that is not over lasts so far.
    """
    times = _joined((one.since_us, one.until_us or now_us) for one in found if one.upstream == upstream)
    shares = []
    for start in starts:
        low, high = start * 1_000_000, (start + span_s) * 1_000_000
        out = sum(max(0, min(until, high) - max(since, low)) for since, until in times)
        shares.append(round(min(1.0, out / (high - low)), 6))
    return shares


def _joined(times: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for since, until in sorted(times):
        if joined and since <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], until))
        else:
            joined.append((since, until))
    return joined
