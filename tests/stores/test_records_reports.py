"""Reports of money and times over both stores: they say what the rows say."""

from __future__ import annotations

import pytest

from gateway.admin.cost_report import cost_report
from gateway.admin.latency_report import latency_report
from gateway.stores.records import Batch
from gateway.stores.records.contract import microseconds
from gateway.stores.records.tables import row_of
from tests.stores.conftest import Place
from tests.stores.samples import START_S, mixed, record

DAY_S = 86_400


def test_cost_report_compares_only_what_has_a_baseline(place: Place) -> None:
    rows = [
        record(0, cost=2.0, baseline_cost=5.0, saving=3.0),
        record(1, cost=4.0, baseline_cost=3.0, saving=-1.0, domain="law", chosen="generalist"),
        record(2, cost=8.0, reason="pinned"),
        record(3, cost=None, unpriced="no_usage", status=503, chosen=None),
        record(4, cost=1.0, baseline_cost=1.0, strategy="vote", extra_cost=0.25),
        record(5, cost=0.5),
    ]
    place.store.write(Batch([row_of(one) for one in rows]))
    found = cost_report(place.queries, START_S, START_S + DAY_S)
    total = found.total
    assert (total.requests, total.compared) == (6, 3)
    assert (total.cost, total.spent, total.baseline, total.saving) == pytest.approx((15.5, 7.0, 9.0, 2.0))
    assert total.saved_share == pytest.approx(2 / 9)
    assert {one.name: one.cost for one in found.domains} == pytest.approx({"math": 11.5, "law": 4.0})
    assert [one.name for one in found.experts] == ["math", "generalist", ""]
    assert found.recent.not_compared == {"pinned": 1, "no_usage": 1, "not_compared": 1}
    assert [(one.name, one.requests, one.extra_cost) for one in found.recent.strategies] == [("vote", 1, 0.25)]
    assert found.recent.looked_at == 6
    assert sum(point.cost for point in found.points) == pytest.approx(total.cost)
    assert found.assumptions


def test_latency_report_keeps_streams_apart_and_times_tokens_of_streams_only(place: Place) -> None:
    stream = {"stream": True, "time_to_first_byte_s": 1.0, "duration_s": 3.0, "output_tokens": 21}
    rows = [record(n, **stream) for n in range(10)]
    rows += [record(n, stream=False, duration_s=9.0, time_to_first_byte_s=9.0) for n in range(10, 40)]
    rows.append(record(41, **{**stream, "output_tokens": 1}))
    rows.append(record(42, **{**stream, "cached": True}))
    rows.append(record(43, stream=True, duration_s=2.0, time_to_first_byte_s=None, classify_s=None))
    place.store.write(Batch([row_of(one) for one in rows]))
    found = latency_report(place.queries, START_S, START_S + DAY_S)
    stages = {stage.name: stage for stage in found.stages}
    assert {"classify", "overhead", "first_byte", "per_token", "end_to_end"} <= set(stages)
    assert stages["per_token"].all.count == 10
    assert stages["per_token"].all.p50 == pytest.approx(0.1)
    assert stages["per_token"].whole_answers.count == 0
    assert stages["per_token"].all.is_thin
    assert (stages["end_to_end"].streams.p95, stages["end_to_end"].whole_answers.p50) == (3.0, 9.0)
    assert stages["classify"].all.count == 42
    assert (found.looked_at, found.whole) == (43, True)
    (expert,) = found.experts
    assert (expert.name, expert.requests, expert.end_to_end.count) == ("math", 43, 43)
    assert expert.end_to_end.p50 == pytest.approx(9.0, rel=0.2)
    assert sum(point.requests for point in found.points) == 43


def test_reports_of_an_empty_span_are_empty(place: Place) -> None:
    place.store.write(Batch([row_of(record(0))]))
    money, times = cost_report(place.queries, 0, DAY_S), latency_report(place.queries, 0, DAY_S)
    assert (money.total.requests, money.total.saved_share, money.points, money.domains) == (0, None, (), ())
    assert (times.points, times.experts, times.looked_at) == ((), (), 0)
    assert {stage.all.count for stage in times.stages} == {0}


def test_reports_agree_with_each_other_over_the_same_rows(place: Place) -> None:
    rows = mixed(500, step_s=120)
    place.store.write(Batch([row_of(one) for one in rows]))
    last_s = microseconds(rows[-1].timestamp) // 1_000_000 + 1
    money, times = cost_report(place.queries, START_S, last_s), latency_report(place.queries, START_S, last_s)
    assert money.total.requests == times.looked_at == sum(one.requests for one in times.experts) == 500
    assert sum(one.requests for one in money.domains) == sum(one.requests for one in money.experts) == 500
    assert {one.at_s for one in money.points} == {one.at_s for one in times.points}
