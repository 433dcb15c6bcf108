"""The page of latencies: percentiles of what is stored, streams apart, and of how many requests they are."""

from __future__ import annotations

import pytest

from tests.dashboard.conftest import Site, StartSite, text_of
from tests.dashboard.storing import store

pytestmark = pytest.mark.slow


async def test_latency_page_keeps_streams_apart_and_says_what_it_looked_at(site: Site) -> None:
    stream = {"stream": True, "time_to_first_byte_s": 0.5, "duration_s": 2.5, "output_tokens": 21}
    whole = {"stream": False, "time_to_first_byte_s": 7.0, "duration_s": 7.0}
    await store(site, *[stream] * 30, *[whole] * 3)
    page = await site.get("latency", span="hour")
    text = text_of(page.text)
    assert "First byte of streams p50 500 ms" in text
    assert "Per output token p50 100 ms 10 tokens a second in a stream" in text
    assert "all 33 stored requests of this span" in text
    assert "End to end" in text
    assert "30 2.5 s 2.5 s 2.5 s 3 7 s 7 s 7 s" in text
    assert 'title="Fewer than 20 requests' in page.text, "three requests have no percentiles to trust"
    assert "stream=true" in page.text
    assert "chosen=math" in page.text


async def test_latency_page_of_real_requests_has_every_stage(site: Site) -> None:
    await site.chat("math", "hello")
    text = await site.text("latency")
    for stage in ("Classify", "Own work in all", "First byte", "Per output token", "End to end"):
        assert stage in text
    assert "no stream told its tokens" in text


async def test_latency_page_where_nobody_answered_shows_dashes(site: Site) -> None:
    nothing = {"time_to_first_byte_s": None, "classify_s": None, "chosen": None, "status": 503, "output_tokens": None}
    await store(site, nothing)
    page = await site.get("latency")
    assert "no expert answered" in text_of(page.text)
    assert "chosen=-" in page.text


async def test_latency_page_without_traffic_and_without_records_says_why(start_site: StartSite) -> None:
    assert "No request in this span of time." in await (await start_site()).text("latency")
    assert "No records are kept." in await (await start_site(records=False)).text("latency")
