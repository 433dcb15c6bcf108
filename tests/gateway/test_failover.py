"""Failures of the expert's server: what the client gets, who is asked next, what is recorded."""

from typing import Any

import psutil
import pytest
from openai import APIError, AsyncOpenAI

from tests.conftest import Town, quick_expert, settings_for

SLOW = {"timeouts": {"first_token_s": 0.3, "idle_s": 0.3, "total_s": 5}}
BEFORE_FIRST_BYTE = [
    "close_fin",
    "close_rst",
    "headers_cut",
    "headers_cut;how=rst",
    "status;code=502",
    "status;code=503",
    "status;code=504",
    "status;code=429;retry_after=1",
    "html",
]


async def outcomes(town: Town) -> list[str]:
    """Why tries before the last one failed."""
    series = await town.gateway.metric("pointsman_retries_total")
    return [name.split('"')[1] for name, value in series.items() if value]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BEFORE_FIRST_BYTE)
@pytest.mark.row("A4", "A5", "A14", "A16")
async def test_expert_fails_before_first_byte_generalist_answers(town: Town, fault: str, stream: bool) -> None:
    town.servers["math"].fault(fault, count=None)
    reply = await town.gateway.chat("math", stream=stream)
    assert reply.status_code == 200, reply.text
    assert "sim/generalist" in reply.text
    assert reply.headers["x-pointsman-expert"] == "generalist"
    assert int(reply.headers["x-pointsman-fallbacks"]) >= 1
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.status, record.error, record.domain) == ("generalist", 200, None, "math")
    assert await outcomes(town)


@pytest.mark.parametrize("fault", ["truncated_json", "length_larger", "gzip_bomb;megabytes=4", "cut_fin;events=0"])
@pytest.mark.row("A12", "A15", "A22")
async def test_plain_answer_broken_generalist_answers(town: Town, fault: str) -> None:
    town.servers["math"].fault(fault, count=None)
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "generalist")


@pytest.mark.row("A7")
async def test_stream_hangs_before_headers_generalist_answers(start_town: Any) -> None:
    town = await start_town(timeouts={"first_token_s": 0.5})
    town.servers["math"].fault("hang", count=None)
    reply = await town.gateway.chat("math", stream=True)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "generalist")
    await town.servers["math"].until(lambda server: server.running == 0, timeout_s=1.5)


@pytest.mark.row("A7")
async def test_plain_answer_hangs_past_the_total_is_504(start_town: Any) -> None:
    # A plain answer may take its whole total time, so nothing is left for anybody else.
    town = await start_town(timeouts={"total_s": 1})
    town.servers["math"].fault("hang", count=None)
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")
    assert reply.headers["x-should-retry"] == "false"
    await town.servers["math"].until(lambda server: server.running == 0, timeout_s=1.5)


@pytest.mark.row("A4", "A23")
async def test_reset_of_an_idle_connection_same_expert_answers(town: Town) -> None:
    assert (await town.gateway.chat("math")).status_code == 200
    town.servers["math"].fault("close_rst", count=1)
    reply = await town.gateway.chat("math")
    assert (reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-fallbacks"]) == ("math", "1")


@pytest.mark.row("A1")
async def test_refused_connection_next_replica_answers(start_gateway: Any, sim_server: Any) -> None:
    first, second = await sim_server(quick_expert("m")), await sim_server(quick_expert("m"))
    settings = settings_for({"generalist": {"model": "m", "upstreams": [first.url, second.url]}})
    gateway = await start_gateway(settings)
    first.refuse(drop=True)
    for _ in range(6):
        assert (await gateway.chat("hello")).status_code == 200
    assert len(second.prompts) == 6


@pytest.mark.row("A1", "A24")
async def test_all_down_is_503_then_recovers(start_gateway: Any, sim_server: Any) -> None:
    server = await sim_server(quick_expert("m"))
    gateway = await start_gateway(settings_for({"generalist": {"model": "m", "upstreams": [server.url]}}))
    server.refuse(drop=True)
    for _ in range(3):
        reply = await gateway.chat("hello")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "upstream_unreachable")
        assert reply.headers["retry-after"] == "5"
        assert server.url not in reply.text
    assert (await gateway.http.get("/health/ready")).status_code == 503
    assert (await gateway.http.get("/health/live")).status_code == 200
    await server.accept()
    # The next probe brings it back; so does the next request, because all being down means trying anyway.
    assert (await gateway.chat("hello")).status_code == 200
    assert (await gateway.http.get("/health/ready")).status_code == 200


@pytest.mark.row("A1")
async def test_expert_known_to_be_down_is_not_chosen(town: Town) -> None:
    town.servers["math"].refuse(drop=True)
    for _ in range(2):
        await town.gateway.chat("math")
    reply = await town.gateway.chat("math")
    assert reply.headers["x-pointsman-reason"] == "unhealthy"
    assert (reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-fallbacks"]) == ("generalist", "0")


@pytest.mark.row("A16")
async def test_pinned_expert_is_never_replaced(town: Town) -> None:
    town.servers["math"].fault("status;code=503;retry_after=7", count=None)
    reply = await town.gateway.chat("hello", model="math")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")
    assert (reply.headers["x-pointsman-expert"], reply.headers["x-should-retry"]) == ("math", "false")
    assert reply.json()["error"]["code"] == 503  # vLLM's own body, unchanged


@pytest.mark.parametrize("code", [400, 404, 422, 500])
@pytest.mark.row("A20")
async def test_other_errors_pass_through_unchanged(town: Town, code: int) -> None:
    town.servers["math"].fault(f"status;code={code};message=about your request", count=None)
    reply = await town.gateway.chat("math")
    assert reply.status_code == code
    assert reply.json()["error"]["message"] == "about your request"
    assert not town.servers["generalist"].prompts
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.status, record.error) == (code, f"upstream_{code}")


async def test_last_failure_is_not_put_on_an_expert_that_failed_before(start_town: Any) -> None:
    town = await start_town(policy={"specialist_fallback": False})
    town.servers["math"].fault("status;code=503", count=None)
    town.servers["generalist"].fault("close_rst", count=None)
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_reset")
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.error, record.attempts) == (None, "upstream_reset", 2)


@pytest.mark.row("A21")
async def test_redirect_is_not_followed(town: Town) -> None:
    town.servers["math"].fault(f"redirect;location={town.servers['coding'].url}/v1/chat/completions", count=None)
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_redirect")
    assert not town.servers["coding"].prompts


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut_fin;events=3", "upstream_reset"),
        ("cut_rst;events=3", "upstream_reset"),
        ("hang_mid;events=3", "upstream_idle"),
        ("error_event;events=3", "upstream_broke"),
    ],
)
@pytest.mark.row("A6", "A8")
async def test_stream_breaks_after_first_byte_client_gets_an_error_event(
    start_town: Any, fault: str, code: str
) -> None:
    town = await start_town(**SLOW)
    math = town.servers["math"]
    # A reset throws away what nobody has read yet, and without any token this would be a failover.
    math.fault(f"{fault};seconds=0.1" if fault.startswith("cut_rst") else fault, count=None)
    async with AsyncOpenAI(base_url=town.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "math"}], stream=True
        )
        with pytest.raises(APIError):
            async for _ in stream:
                pass
    raw = (await town.gateway.chat("math", stream=True)).content
    assert raw.count(b'data: {"error"') == 1
    assert b"[DONE]" not in raw
    records = await town.gateway.recorder.wait_for(2)
    assert [record.error for record in records] == [code, code]
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0}
    await math.until(lambda server: server.running == 0)


@pytest.mark.row("A13")
async def test_endless_line_is_cut_at_the_limit(start_town: Any) -> None:
    town = await start_town(changes={"math": {"domains": []}}, limits={"event_bytes": 2**18})
    town.servers["math"].fault("endless_line;megabytes=256", count=None)
    before = psutil.Process().memory_info().rss
    reply = await town.gateway.chat("hello", model="math", stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_bad_response")
    # Simulator and gateway share this process, so the bound is generous; 256 MB would show.
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


@pytest.mark.parametrize("kind", ["bad_json", "no_colon", "crlf", "comments", "unknown_field"])
@pytest.mark.row("A10")
async def test_odd_but_complete_stream_is_relayed(town: Town, kind: str) -> None:
    town.servers["math"].fault(f"malformed;kind={kind}", count=None)
    reply = await town.gateway.chat("math", stream=True)
    assert b"[DONE]" in reply.content
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.error, record.output_tokens is not None) == (None, True)
