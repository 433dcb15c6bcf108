"""Writes a run's rows as CSV and its comparison as Markdown. Measures nothing."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import cases
import figures
from figures import DIRECT, FLOOR, Results, Spread, spread
from measure import Row

COMPARED = "c32"
SAID = {
    "direct": "straight to the mock upstream",
    "nginx": "nginx `proxy_pass`",
    "relay": "bare uvicorn + aiohttp relay",
    "pointsman-pinned": "**Pointsman, expert named**",
    "pointsman-auto": "**Pointsman, classified**",
    "litellm": "LiteLLM proxy",
    "portkey": "Portkey gateway",
}


@dataclass(frozen=True, slots=True)
class About:
    """What stands above the tables."""

    date: str
    machine: str
    command: str
    rounds: int
    versions: dict[str, str]
    missing: dict[str, str]
    """Arms that could not be had, and why."""


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write every measurement, disturbed ones too."""
    flat = [row.flat() for row in rows]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)


def markdown(about: About, rows: list[Row]) -> str:
    """Return the page: ratios first, medians over the rounds, the range behind them."""
    results = Results(rows)
    parts = [
        _head(about, rows),
        _cpu(results),
        _throughput(results),
        _latency(results),
        _lengths(results),
        _streams(results),
        _crowd(results),
        _memory(results),
        _failures(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(about: About, rows: list[Row]) -> str:
    versions = "; ".join(f"{SAID[arm].strip('*')}: {version}" for arm, version in about.versions.items() if version)
    lines = [
        f"# Speed, {about.date}",
        "",
        f"`{about.command}`. {about.machine}. {versions}.",
        "Everything runs on this machine over loopback: load generator, arm and mock upstream share its cores.",
        f"Medians over {about.rounds} interleaved rounds, lowest and highest round behind them; ratios and differences",
        "are formed within a round. A ratio whose range holds 1 is marked *inconclusive*. An arm with errors is not",
        "compared. A slow arm leaves at most one request per connection unanswered, whose CPU counts for the others.",
        f"{sum(row.disturbed for row in rows)} of {len(rows)} measurements stayed disturbed by other processes.",
    ]
    lines += [f"{SAID[arm]} is missing: {why}" for arm, why in about.missing.items()]
    return "\n".join(lines)


def _cpu(results: Results) -> str:
    rows = []
    for arm in _between(results):
        ratio = _times(results.ratio(COMPARED, arm, figures.cpu), arm)
        rows.append([SAID[arm], ratio, *(_cell(results, case.name, arm, figures.cpu, 0) for case in cases.PLAIN)])
    names = [f"us at {case.connections}" for case in cases.PLAIN]
    return _table("CPU per answer, microseconds", ["", "times the relay's, at 32", *names], rows)


def _throughput(results: Results) -> str:
    rows = []
    for arm in results.arms:
        ratio = _times(results.ratio(COMPARED, arm, figures.rate), arm)
        rows.append([SAID[arm], ratio, *(_cell(results, case.name, arm, figures.rate, 0) for case in cases.PLAIN)])
    names = [f"at {case.connections}" for case in cases.PLAIN]
    return _table("Answers per second, by connections", ["", "times the relay's, at 32", *names], rows)


def _latency(results: Results) -> str:
    rows = []
    for arm in results.arms:
        added = "" if arm == DIRECT else _number(results.added("c1", arm, figures.p50), 2)
        own = [_cell(results, "c1", arm, value, 2) for value in (figures.p50, figures.p99)]
        rows.append([SAID[arm], added, *own])
    return _table("Latency at one connection, milliseconds", ["", "added p50", "p50", "p99"], rows)


def _lengths(results: Results) -> str:
    names = [case.name for case in cases.LENGTHS]
    rows = []
    for arm in _between(results):
        used = [_cell(results, name, arm, figures.cpu, 0) for name in names]
        added = [_number(results.added(name, arm, figures.p50), 2) for name in names]
        rows.append([SAID[arm], _times(results.ratio("10k", arm, figures.cpu), arm), *used, *added])
    head = ["", "CPU, times the relay's, 10k", *(f"CPU us, {name}" for name in names)]
    title = f"Prompts of 1,000 to 100,000 tokens (4 characters each), {cases.LENGTHS_AT} connections"
    return _table(title, [*head, *(f"added p50 ms, {name}" for name in names)], rows)


def _streams(results: Results) -> str:
    rows = []
    floor = results.per_chunk(FLOOR)
    for arm in _between(results):
        chunk = results.per_chunk(arm)
        ratio = spread(chunk[turn] / floor[turn] for turn in chunk if floor.get(turn))
        added = _number(results.added("streams", arm, figures.first_p50), 2)
        used = _number(spread(chunk.values()), 1) or _cell(results, "streams", arm, figures.cpu, 0)
        rows.append([SAID[arm], _times(ratio, arm), used, added])
    title = f"Streams: {cases.STREAMS} at a time, {cases.LONG.chunks} chunks, one every {cases.LONG.gap_ms} ms"
    head = ["", "CPU per chunk, times the relay's", "CPU us per chunk", "added time to first token, p50 ms"]
    return _table(title, head, rows)


def _crowd(results: Results) -> str:
    name = cases.CROWD.name
    rows = []
    for arm in results.arms:
        found = results.rows(name, arm)
        if not found:
            continue
        firsts = [_cell(results, name, arm, value, 1) for value in (figures.first_p50, figures.first_p99)]
        added = "" if arm == DIRECT else _number(results.added(name, arm, figures.first_p99), 1)
        most = str(min(row.load.most_open for row in found))
        used = "" if arm == DIRECT else _cell(results, name, arm, figures.cores, 2)
        rows.append([SAID[arm], added, *firsts, used, most, str(results.errors(name, arm))])
    pace = f"{cases.MANY.chunks} chunks, one every {cases.MANY.gap_ms} ms, opened within {cases.MANY_RAMP_S:.0f} s"
    head = ["", "added first token p99 ms", "first token p50 ms", "p99 ms", "cores used", "open at once", "errors"]
    return _table(f"1,000 concurrent streams: {pace}", head, rows)


def _memory(results: Results) -> str:
    rows = []
    for arm in _between(results):
        found = results.rows(cases.SOAK.name, arm)
        if found:
            answers, lasted = sum(row.load.requests for row in found), sum(row.load.duration_s for row in found)
            values = [_cell(results, cases.SOAK.name, arm, value, 1) for value in (figures.growth, figures.rss)]
            rows.append([SAID[arm], *values, f"{answers:,} in {lasted:.0f} s"])
    head = ["", "MiB gained per 10,000 answers, second half", "MiB at the end", "answers"]
    return _table(f"Memory under load, {cases.SOAK.connections} connections", head, rows)


def _failures(rows: list[Row]) -> str:
    bad = [row for row in rows if row.load.errors]
    if not bad:
        return "No request failed in any arm."
    cells = [[SAID[row.arm], row.case, str(row.turn), str(row.load.errors), row.load.failures] for row in bad]
    return _table("Errors", ["", "case", "round", "errors", "kinds"], cells)


def _between(results: Results) -> list[str]:
    return [arm for arm in results.arms if arm != DIRECT]


def _cell(results: Results, case: str, arm: str, value: figures.Value, digits: int) -> str:
    if errors := results.errors(case, arm):
        return f"{errors} errors"
    return _number(results.of(case, arm, value), digits)


def _number(found: Spread, digits: int) -> str:
    if math.isnan(found.median):
        return ""
    middle, low, high = (f"{value:,.{digits}f}" for value in (found.median, found.low, found.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _times(found: Spread, arm: str) -> str:
    if arm == FLOOR:
        return "1"
    digits = 2 if found.median < 10 else 0
    return _number(found, digits) + (" *inconclusive*" if found.inconclusive else "")


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    rule = ["---", *("---:" for _ in head[1:])]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
    return "\n".join([f"## {title}", "", *lines])
