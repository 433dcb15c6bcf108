"""Every fault, observed on the wire."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import zlib
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from gateway.sim import SimExpert, SimServer
from gateway.sim.fault_kinds import KINDS
from tests.fixtures_sim import StartSim
from tests.sim.wire import CHAT, HELLO, RawAnswer, chat, get, post

HANGS_S = 0.2


async def faulty(start: StartSim, fault: str, *, stream: bool = False, quiet_s: float = 10.0) -> RawAnswer:
    return await chat(await start(), sim_fault=fault, stream=stream, quiet_s=quiet_s)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("code", "kind"),
    [(429, "Too Many Requests"), (500, "InternalServerError"), (502, "Bad Gateway"), (503, "Service Unavailable")],
)
async def test_status_has_vllms_body(sim_server: StartSim, code: int, kind: str, stream: bool) -> None:
    answer = await faulty(sim_server, f"status;code={code}", stream=stream)
    assert answer.status == code
    assert "retry-after" not in answer.headers
    assert (answer.json["error"]["type"], answer.json["error"]["code"]) == (kind, code)


async def test_status_carries_retry_after_as_given(sim_server: StartSim) -> None:
    assert (await faulty(sim_server, "status;code=429;retry_after=7")).headers["retry-after"] == "7"
    dated = await faulty(sim_server, "status;code=503;retry_after_date=90;message=busy")
    seconds = parsedate_to_datetime(dated.headers["retry-after"]) - parsedate_to_datetime(dated.headers["date"])
    assert 88 <= seconds.total_seconds() <= 91
    assert dated.json["error"]["message"] == "busy"


async def test_delay_comes_before_the_headers(sim_server: StartSim) -> None:
    server = await sim_server()
    started_s = time.monotonic()
    answer = await chat(server, sim_fault="delay;seconds=0.15", stream=True)
    assert time.monotonic() - started_s >= 0.15
    assert answer.events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_hang_sends_nothing_and_counts_as_running(sim_server: StartSim, stream: bool) -> None:
    server = await sim_server()
    task = asyncio.create_task(chat(server, sim_fault="hang", stream=stream, quiet_s=HANGS_S))
    await server.until(lambda sim: sim.running == 1)
    answer = await task
    assert (answer.raw, answer.end) == (b"", "open")
    await server.until(lambda sim: sim.running == 0 and sim.aborted == 1)


async def test_hang_mid_sends_so_many_events(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "hang_mid;events=3", stream=True, quiet_s=HANGS_S)
    assert (len(answer.chunks), answer.complete, answer.end) == (3, False, "open")


@pytest.mark.parametrize(("fault", "end"), [("cut_fin", "eof"), ("cut_rst", "reset")])
async def test_cut_ends_a_stream_without_last_chunk(sim_server: StartSim, fault: str, end: str) -> None:
    server = await sim_server()
    answer = await chat(server, sim_fault=f"{fault};events=4", stream=True)
    assert answer.status == 200
    assert (len(answer.chunks), answer.complete, answer.end) == (4, False, end)
    assert b"[DONE]" not in answer.raw
    await server.until(lambda sim: sim.running == 0)
    assert server.aborted == 0


@pytest.mark.parametrize(("fault", "end"), [("cut_fin", "eof"), ("cut_rst", "reset")])
async def test_cut_ends_a_plain_body_in_the_middle(sim_server: StartSim, fault: str, end: str) -> None:
    answer = await faulty(sim_server, fault)
    announced = int(answer.headers["content-length"])
    assert (len(answer.rest), answer.end) == (announced // 2, end)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("fault", "end"), [("close_fin", "eof"), ("close_rst", "reset")])
async def test_close_sends_no_byte(sim_server: StartSim, fault: str, end: str, stream: bool) -> None:
    answer = await faulty(sim_server, fault, stream=stream)
    assert (answer.raw, answer.end) == (b"", end)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("how", "end"), [("fin", "eof"), ("rst", "reset"), ("hang", "open")])
async def test_headers_cut_ends_after_the_headers(sim_server: StartSim, how: str, end: str, stream: bool) -> None:
    answer = await faulty(sim_server, f"headers_cut;how={how}", stream=stream, quiet_s=HANGS_S)
    assert (answer.status, answer.rest, answer.end) == (200, b"", end)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("bad_json", b"data: {bad\n\n"),
        ("no_colon", b"this line has no colon\n\n"),
        ("comments", b": keep-alive\n\n: another comment\n\n"),
        ("unknown_field", b"id: 7\nretry: 100\nfoo: bar\n\n"),
    ],
)
async def test_malformed_inserts_an_odd_line(sim_server: StartSim, kind: str, line: bytes) -> None:
    answer = await faulty(sim_server, f"malformed;kind={kind};events=2", stream=True)
    assert answer.chunks[2] == line
    assert answer.chunks[-1] == b"data: [DONE]\n\n"
    assert answer.complete


async def test_malformed_crlf_mixes_all_three_line_ends(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "malformed;kind=crlf", stream=True)
    assert answer.chunks[0].endswith(b"\r\n\r\n")
    assert answer.chunks[1].endswith(b"\r\r")
    assert answer.chunks[2].endswith(b"}\n\n")


async def test_split_cuts_every_k_bytes_and_keeps_the_bytes(sim_server: StartSim) -> None:
    server = await sim_server()
    split = await chat(server, sim_fault="split;bytes=7", request_id="fixed", stream=True)
    assert {len(chunk) for chunk in split.chunks[:-1]} == {7}
    assert split.events[-1] == "[DONE]"
    assert [event["id"] for event in split.events[:-1]] == ["chatcmpl-fixed"] * (len(split.events) - 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_drip_sends_byte_by_byte(sim_server: StartSim, stream: bool) -> None:
    server = await sim_server()
    started_s = time.monotonic()
    answer = await chat(server, sim_fault="drip;seconds=0.01;bytes=50", stream=stream, max_tokens=1)
    assert time.monotonic() - started_s > 0.05
    assert answer.complete
    if stream:
        assert {len(chunk) for chunk in answer.chunks[:-1]} == {50}


async def test_truncated_json_is_well_framed(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "truncated_json")
    assert (answer.status, answer.complete) == (200, True)
    with pytest.raises(ValueError):
        answer.json  # noqa: B018


@pytest.mark.parametrize("events", [0, 3])
async def test_error_event_is_followed_by_done_in_a_200_stream(sim_server: StartSim, events: int) -> None:
    answer = await faulty(sim_server, f"error_event;events={events}", stream=True)
    assert (answer.status, answer.complete) == (200, True)
    *before, error, done = answer.events
    assert (len(before), done) == (events, "[DONE]")
    assert error["error"]["type"] == "InternalServerError"
    assert error["error"]["code"] == 500
    assert error["error"]["message"].startswith("EngineCore encountered an issue.")


async def test_error_event_without_stream_is_500(sim_server: StartSim) -> None:
    assert (await faulty(sim_server, "error_event")).status == 500


@pytest.mark.parametrize("stream", [True, False])
async def test_html_is_200_of_another_type(sim_server: StartSim, stream: bool) -> None:
    answer = await faulty(sim_server, "html", stream=stream)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<html>" in answer.body


@pytest.mark.parametrize(("how", "end"), [("fin", "eof"), ("hang", "open")])
async def test_length_larger_promises_too_much(sim_server: StartSim, how: str, end: str) -> None:
    answer = await faulty(sim_server, f"length_larger;bytes=9;how={how}", quiet_s=HANGS_S)
    assert int(answer.headers["content-length"]) - len(answer.rest) == 9
    assert answer.end == end


async def test_length_smaller_sends_more_than_promised(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "length_smaller;bytes=9")
    assert len(answer.rest) - int(answer.headers["content-length"]) == 9


async def test_redirect_points_elsewhere(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "redirect;location=http://evil.example/x")
    assert (answer.status, answer.headers["location"]) == (307, "http://evil.example/x")


async def test_gzip_bomb_unpacks_to_megabytes(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "gzip_bomb;megabytes=8")
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.rest) < 20_000
    assert len(zlib.decompress(answer.rest, 16 + zlib.MAX_WBITS)) == 8 << 20


async def test_endless_line_has_no_line_end(sim_server: StartSim) -> None:
    answer = await faulty(sim_server, "endless_line;megabytes=2", stream=True)
    assert len(answer.body) > 2 << 20
    assert b"\n" not in answer.body


async def test_refuse_closes_the_port_and_reopens_the_same(sim_server: StartSim) -> None:
    server = await sim_server()
    port = server.port
    server.refuse()
    assert not server.listening
    with pytest.raises(ConnectionRefusedError):
        await get(server, "/health")
    await server.accept()
    assert server.port == port
    assert (await get(server, "/health")).status == 200


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("how", ["refuse", "drop", "stop"])
async def test_connection_being_accepted_at_the_end_is_not_lost(sim_server: StartSim, how: str, turns: int) -> None:
    """The warning about a lost one is an error; a turn of the event loop lies between accepting and serving."""
    server = await sim_server()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "stop":
            await server.stop()
        else:
            server.refuse(drop=how == "drop")
        await asyncio.sleep(0.02)
        gc.collect()
        assert server.connections == (1 if how == "refuse" and turns >= 2 else 0)
        if how != "refuse":
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 2) == b""


async def test_refuse_drop_resets_open_connections(sim_server: StartSim) -> None:
    server = await sim_server()
    task = asyncio.create_task(chat(server, sim_fault="hang_mid;events=1", stream=True))
    await server.until(lambda sim: sim.running == 1)
    server.refuse(drop=True)
    assert (await task).end == "reset"


async def test_every_fault_keeps_the_engine_clean(sim_server: StartSim) -> None:
    server = await sim_server()
    for name in KINDS:
        for stream in (True, False):
            await chat(server, sim_fault=f"{name};megabytes=1;seconds=0;bytes=500", stream=stream, quiet_s=0.05)
    await server.until(lambda sim: sim.running == 0)
    assert (await chat(server)).status == 200


async def test_fault_by_header_and_by_field(sim_server: StartSim) -> None:
    server = await sim_server()
    by_header = await post(server, CHAT, {"messages": HELLO}, x_sim_fault="status;code=418")
    assert by_header.status == 418
    assert (await chat(server, sim_fault="status;code=418")).status == 418
    assert (await get(server, "/health", x_sim_fault="status;code=503")).status == 503


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 30}),
    ],
)
async def test_faults_hit_the_other_streams_too(sim_server: StartSim, path: str, body: dict[str, Any]) -> None:
    server = await sim_server()
    answer = await post(server, path, {**body, "stream": True, "sim_fault": "cut_fin;events=2"})
    assert (len(answer.chunks), answer.complete, answer.end) == (2, False, "eof")


@pytest.mark.parametrize("fault", ["nonsense", "status;code", "delay;seconds=soon"])
async def test_bad_fault_is_refused_visibly(sim_server: StartSim, fault: str) -> None:
    answer = await faulty(sim_server, fault)
    assert answer.status == 400
    assert answer.json["error"]["param"] == "sim_fault"


async def test_faults_set_in_process_hit_so_many_requests(sim_server: StartSim) -> None:
    server: SimServer = await sim_server(SimExpert("m"), SimExpert("other"))
    server.fault("status;code=503", count=2, model="m")
    assert [(await chat(server, model="m")).status for _ in range(3)] == [503, 503, 200]
    server.fault("status;code=500", count=None, path="/v1/completions")
    assert (await chat(server)).status == 200
    for _ in range(2):
        assert (await post(server, "/v1/completions", {"prompt": "x"})).status == 500
    server.clear_faults()
    assert (await post(server, "/v1/completions", {"prompt": "x"})).status == 200


async def test_faults_without_path_leave_health_alone(sim_server: StartSim) -> None:
    server = await sim_server()
    server.fault("status;code=503", count=None)
    assert (await get(server, "/health")).status == 200
    server.fault("status;code=500", count=None, path="/health")
    assert (await get(server, "/health")).status == 500
