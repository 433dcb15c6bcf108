"""Drift of stored requests against a reference week, and confidence by domain: both databases, real rollups."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil
from typing import Any

import orjson
import pytest

from gateway.admin.confidence_report import compared, confidence_report, tried
from gateway.admin.drift_report import Drift, drift
from gateway.admin.drift_windows import Name, Window, windows
from gateway.admin.stability import Verdict
from gateway.stores.records import Batch
from gateway.stores.records.queries import RecordFilter
from gateway.stores.records.rollups import DAY_S
from gateway.stores.records.tables import row_of
from gateway.types import Catalog, Endpoint, Expert, Price, Timeouts
from router import Thresholds
from tests.stores.conftest import Place
from tests.stores.samples import mixed, record

NOW_S = int(datetime(2026, 3, 20, 12, 30, 30, tzinfo=UTC).timestamp())
HOUR_S = 3_600


def write(place: Place, at_s: Iterable[float], seed: int = 1, **changes: Any) -> None:
    """One request at each time, with confidence and margin drawn anew."""
    chance = random.Random(seed)
    rows = []
    for number, moment in enumerate(at_s):
        sure = round(chance.betavariate(8, 2), 4)
        figures = {"confidence": sure, "margin": round(max(0.0, 2 * sure - 1), 4), **changes}
        if callable(changes.get("domain")):
            figures["domain"] = changes["domain"](chance)
        when = datetime.fromtimestamp(moment, UTC)
        rows.append(row_of(record(0, request_id=f"{seed}-{number}", timestamp=when, **figures)))
    for start in range(0, len(rows), 500):
        place.store.write(Batch(rows[start : start + 500]))


def evenly(since_s: float, until_s: float, count: int) -> list[float]:
    return [since_s + (until_s - since_s) * n / count for n in range(count)]


def mostly(name: str, share: float) -> Any:
    return lambda chance: name if chance.random() < share else "coding"


def found(place: Place, name: Name = "day", reference_s: int | None = None) -> Drift:
    return drift(place.queries, *windows(name, NOW_S, reference_s))


def test_same_traffic_as_in_the_week_before_is_stable(place: Place) -> None:
    write(place, evenly(NOW_S - 8 * DAY_S, NOW_S, 4_000), domain=mostly("math", 0.5))
    got = found(place)
    assert {one.verdict for one in got.shifts.values()} == {Verdict.STABLE}
    assert got.length.verdict is Verdict.STABLE
    assert got.requests_before == pytest.approx(500 * (6 + 11.5 / 24), abs=3)  # its first day is cut
    assert 450 < got.requests_now < 510
    for shift in got.shifts.values():
        assert (shift.now, shift.before) == (got.requests_now, got.requests_before)
    orjson.dumps(got.as_json())


def test_what_changed_most_comes_first_and_says_which_part_did(place: Place) -> None:
    write(place, evenly(NOW_S - 8 * DAY_S, NOW_S - DAY_S, 3_000), domain=mostly("math", 0.5))
    today = evenly(NOW_S - 23 * HOUR_S, NOW_S, 600)
    write(place, today, seed=2, domain=mostly("math", 0.9), input_tokens=160)
    got = found(place)
    assert next(iter(got.shifts)) == "domains"
    assert got.shifts["domains"].verdict is Verdict.LARGE
    assert got.shifts["domains"].index > 0.5
    mover = got.shifts["domains"].movers(1)[0]
    assert mover.change == pytest.approx(0.4 if mover.name == "math" else -0.4, abs=0.06)
    assert got.shifts["confidence"].verdict is Verdict.STABLE
    assert got.length.verdict is Verdict.LARGE
    assert got.length.ratio == pytest.approx(0.6)
    assert (got.length.least, got.length.most) == (100.0, 100.0)


def test_scores_and_abstentions_that_move_are_seen(place: Place) -> None:
    write(place, evenly(NOW_S - 8 * DAY_S, NOW_S - DAY_S, 3_000))
    today = evenly(NOW_S - 20 * HOUR_S, NOW_S, 500)
    write(place, today, seed=2, confidence=0.31, margin=0.05, reason="out_of_domain", chosen="generalist")
    got = found(place)
    for name in ("confidence", "margin", "out_of_domain", "reasons", "experts"):
        assert got.shifts[name].verdict is Verdict.LARGE, name
    assert got.shifts["domains"].verdict is Verdict.STABLE
    day = got.days[-1]
    assert (day.out_of_domain, day.abstained) == (1.0, 1.0)
    assert day.confidence is not None
    assert day.confidence > 1


def test_few_requests_are_not_called_drift(place: Place) -> None:
    write(place, evenly(NOW_S - 8 * DAY_S, NOW_S - DAY_S, 2_000))
    write(place, evenly(NOW_S - HOUR_S, NOW_S, 60), seed=2, domain="law", input_tokens=9_000)
    got = found(place)
    assert {one.verdict for one in got.shifts.values()} == {Verdict.TOO_FEW}
    assert got.length.verdict is Verdict.TOO_FEW
    assert got.days[-1].domains is None


def test_hour_is_compared_with_the_same_hour_of_the_days_before(place: Place) -> None:
    for day in range(1, 8):
        then = NOW_S - day * DAY_S
        write(place, evenly(then - HOUR_S + 60, then - 60, 150), seed=day, domain="math")
        write(place, evenly(then - 10 * HOUR_S, then - 9 * HOUR_S, 300), seed=50 + day, domain="law")
    write(place, evenly(NOW_S - HOUR_S + 60, NOW_S, 400), seed=99, domain="math")
    got = found(place, "hour")
    assert (got.requests_before, got.requests_now) == (7 * 150, 400)
    assert got.shifts["domains"].verdict is Verdict.STABLE
    assert found(place, "day").shifts["domains"].verdict is Verdict.LARGE


def test_chosen_reference_is_the_week_from_that_day_on(place: Place) -> None:
    start_s = NOW_S // DAY_S * DAY_S - 15 * DAY_S
    write(place, evenly(start_s, start_s + 7 * DAY_S, 700), domain="law")
    write(place, evenly(NOW_S - 8 * DAY_S, NOW_S, 900), seed=2, domain="math")
    assert found(place).shifts["domains"].verdict is Verdict.STABLE
    got = found(place, "week", start_s + 5_000)
    assert got.requests_before == 700
    assert got.shifts["domains"].verdict is Verdict.LARGE


def test_store_without_requests_gives_an_empty_report(place: Place) -> None:
    write(place, [5.0])
    got = found(place)
    assert (got.requests_now, got.requests_before, got.days) == (0, 0, ())
    assert got.length.now is got.length.ratio is None


def test_days_are_those_with_requests_and_the_reference_is_near_itself(place: Place) -> None:
    write(place, evenly(NOW_S - 30 * DAY_S, NOW_S, 6_000), domain=mostly("math", 0.5))
    days = found(place).days
    assert len(days) == 28
    assert [day.at_s % DAY_S for day in days] == [0] * 28
    assert [day.at_s for day in days] == sorted(day.at_s for day in days)
    assert all(day.domains is not None and day.domains < 0.1 for day in days[:-1])
    assert sum(day.requests for day in days) == pytest.approx(6_000 * 27.5 / 30, rel=0.01)


@pytest.mark.parametrize("name", ["hour", "day", "week"])
def test_windows_begin_at_whole_units_and_do_not_overlap(name: Name) -> None:
    for now_s in (NOW_S, NOW_S - NOW_S % DAY_S, NOW_S - NOW_S % DAY_S - 1, 5):
        now, reference = windows(name, now_s)
        assert isinstance(now, Window)
        assert now.until_s == now_s + 1
        assert now.since_s % now.step_s == reference.since_s % reference.step_s == 0
        assert 0 < now.until_s - now.since_s <= {"hour": HOUR_S, "day": DAY_S, "week": 7 * DAY_S}[name]
        assert len(reference.spans) == (7 if name == "hour" else 1)
        assert sum(span.until_s - span.since_s for span in reference.spans) == (
            7 * DAY_S if name != "hour" else pytest.approx(10.5 * HOUR_S, abs=3.5 * HOUR_S)
        )
        assert now_s < 8 * DAY_S or not now.overlaps(reference)
    chosen = windows("day", NOW_S, NOW_S - 3 * DAY_S)
    assert chosen[0].overlaps(chosen[1])


def catalog() -> Catalog:
    names = ("generalist", "math", "coding", "health")
    limits, serves = Timeouts(1, 1, 1, 1), frozenset({Endpoint.CHAT})
    experts = {name: Expert(name, name, (), (), serves, frozenset(), limits, Price(1.0, 2.0)) for name in names}
    return Catalog(experts, experts["generalist"], {name: experts[name] for name in names[1:]}, "v")


def test_confidence_by_domain_is_what_the_rows_say(place: Place) -> None:
    rows = mixed(900, step_s=60)
    place.store.write(Batch([row_of(one) for one in rows[:450]]))
    place.store.write(Batch([row_of(one) for one in rows[450:]]))
    since_s, until_s = int(rows[0].timestamp.timestamp()), int(rows[-1].timestamp.timestamp()) + 1
    thresholds = Thresholds({"law": 0.25}, 0.6)
    report = confidence_report(place.queries, since_s, until_s, thresholds)
    assert (report.requests, report.scored) == (900, 900)
    assert [one.requests for one in report.domains] == sorted((one.requests for one in report.domains), reverse=True)
    for one in report.domains:
        mine = [row for row in rows if row.domain == one.domain]
        assert (one.requests, sum(one.confidence), sum(one.margin)) == (len(mine),) * 3
        assert one.below == sum((row.confidence or 0) < thresholds.of(one.domain) for row in mine)
        assert one.confidence[ceil(0.77 * 100)] == sum(0.77 <= (row.confidence or 0) < 0.78 for row in mine)
    assert report.below == sum(one.below for one in report.domains)


def test_what_if_reads_the_newest_rows_of_the_span_and_says_how_many(place: Place) -> None:
    rows = mixed(300, step_s=60)
    place.store.write(Batch([row_of(one) for one in rows]))
    since_s, until_s = int(rows[0].timestamp.timestamp()), int(rows[-1].timestamp.timestamp()) + 1
    thresholds = Thresholds(default_confidence=0.5)
    whole = tried(place.queries, since_s, until_s, thresholds, catalog())
    assert (whole.looked_at, whole.whole, whole.curve.requests) == (300, True, 300)
    part = tried(place.queries, since_s, until_s, thresholds, catalog(), limit=100)
    assert (part.looked_at, part.whole) == (100, False)
    assert part.oldest_us is not None
    assert part.newest_us is not None
    assert part.newest_us - part.oldest_us == 99 * 60_000_000
    assert tried(place.queries, 0, 10, thresholds, catalog()).oldest_us is None
    strict = compared(place.queries, Thresholds(default_confidence=0.9), catalog(), 100)
    newest_rows = list(place.queries.every(RecordFilter()))[:100]
    assert strict["before"]["requests"] == {"math": 100}
    stays = sum(row["reason"] == "confident" and row["confidence"] >= 0.9 for row in newest_rows)
    assert strict["after"]["requests"]["math"] >= stays
    assert part.curve.at(0.9)[0] == strict["after"]["requests"]
