"""Several processes' metrics on one page: what is counted adds up and never falls, what is a state does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.metrics_sum import Snapshot, add, counted, render, snapshot
from gateway.shared_metrics import SharedMetrics
from tests.waiting import until

AMOUNTS = st.lists(st.integers(0, 5), max_size=5)


def process(retries: Sequence[int] = (), lags: Sequence[int] = (), **gauges: float) -> Metrics:
    """A process that has counted something."""
    metrics = Metrics()
    for number in retries:
        metrics.retries.labels(str(number)).inc(number)
    for lag in lags:
        metrics.loop_lag.observe(lag / 100)
    metrics.reliability.inflight.labels("http://a").set(gauges.get("inflight", 0))
    metrics.reliability.up.labels("http://a").set(gauges.get("up", 0))
    return metrics


def page(text: bytes) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(text.decode())
    return {(s.name, str(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def total(values: dict[tuple[str, str], float], name: str) -> float:
    return sum(value for (sample, _), value in values.items() if sample == name)


@pytest.mark.slow
@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=4))
def test_sum_of_processes_is_what_one_would_have_counted(parts: list[tuple[list[int], list[int]]]) -> None:
    summed = page(render(add([snapshot(process(*part).registry) for part in parts]))[0])
    alone = process([n for retries, _ in parts for n in retries], [n for _, lags in parts for n in lags])
    expected = page(alone.exposition()[0])
    for key in summed.keys() | expected.keys():
        if not key[0].endswith("_created"):
            assert abs(summed.get(key, 0.0) - expected.get(key, 0.0)) < 1e-9, key


def test_one_process_alone_is_shown_as_it_shows_itself() -> None:
    metrics = process([1, 2], [3], inflight=4, up=1)
    text, media_type = metrics.exposition()
    assert render(snapshot(metrics.registry)) == (text, media_type)


def test_amounts_add_up_and_states_show_the_largest() -> None:
    parts = [process(inflight=2, up=0), process(inflight=3, up=1)]
    summed = page(render(add([snapshot(part.registry) for part in parts]))[0])
    assert total(summed, "pointsman_upstream_inflight") == 5
    assert total(summed, "pointsman_upstream_up") == 1


def test_dead_processes_gauges_do_not_count() -> None:
    kept = counted(snapshot(process([2], inflight=7).registry))
    assert total(page(render(kept)[0]), "pointsman_retries_total") == 2
    assert "pointsman_upstream_inflight" not in kept
    assert add([]) == Snapshot()


async def test_place_taken_again_counts_on_and_others_are_shown(tmp_path: Path) -> None:
    (tmp_path / "9.json").write_bytes(b"{")  # nobody's
    for _ in range(3):
        async with SharedMetrics(process([2], inflight=1), tmp_path, 0):
            await until((tmp_path / "0.json").exists)
    async with SharedMetrics(process([5], inflight=1), tmp_path, 1) as other:
        values = page((await other.page())[0])
        assert total(values, "pointsman_retries_total") == 3 * 2 + 5
        assert total(values, "pointsman_upstream_inflight") == 2
        again = page((await other.page())[0])
        assert total(again, "pointsman_retries_total") == 3 * 2 + 5
