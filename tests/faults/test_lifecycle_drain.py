"""Stopping the process loses nothing that could have ended, and ends the rest with a word (OPERATIONS D1, D2, D11)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from gateway.stores.feedback import read_rows
from tests.faults.lifecycle import (
    PLAIN,
    STREAM,
    chat_body,
    last_error,
    open_streams,
    refuses,
    rest_of,
    serve,
    simulated,
    write_config,
)
from tests.faults.raw import Connection, request

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.row("D1")
async def test_d1_sigterm_with_200_streams(tmp_path: Path) -> None:
    """Half of them can end in time, half cannot."""
    async with simulated("math", "coding") as servers:
        servers["math"].fault("drip;seconds=0.1;bytes=200", count=100)
        servers["coding"].fault("hang_mid;events=3", count=100)
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_grace_s": 1, "drain_s": 6})
        async with serve(path) as served:
            slow = await open_streams(served, servers["math"], 100)
            code = request(orjson.dumps(chat_body("Write a Python function that sorts a list.", stream=True)))
            stuck = [Connection(served.url) for _ in range(100)]
            for client in stuck:
                await client.__aenter__()
                await client.send(code)
            await servers["coding"].until(lambda server: server.running >= 100, timeout_s=20)
            stopped = time.monotonic()
            served.signal(signal.SIGTERM)
            await served.logged("drain_started")
            status, _, body = await served.ask("/health/ready")
            assert (status, body) == (503, b'{"status":"stopping"}')
            assert (await served.ask("/health/live"))[0] == 200
            status, headers, _ = await served.chat("Hello there, how are you today?")
            assert (status, headers["connection"]) == (200, "close")
            assert time.monotonic() - stopped < 1
            while not await refuses(served.url):  # noqa: ASYNC110 - a closed door announces nothing
                await asyncio.sleep(0.02)
            assert 1 <= time.monotonic() - stopped < 3
            rests = await asyncio.gather(*map(rest_of, slow + stuck))
            assert await served.ended() == 0
            assert time.monotonic() - stopped < 1 + 6 + 3
        ends = list(map(last_error, rests))
        assert Counter(ends[100:]) == {"shutting_down": 100}
        assert Counter(ends[:100]) == {None: 100}
        records = Counter((record["status"], record["error"]) for record in served.of("request"))
        assert records == {(200, None): 101, (200, "shutting_down"): 100}
        assert served.of("drain_cut")[0]["requests"] == 100
        assert "Traceback" not in served.said
        for server in servers.values():
            await server.until(lambda server: server.running == 0)


@pytest.mark.row("D1")
async def test_d1_idle_and_half_open_connections_do_not_hold_up_the_exit(tmp_path: Path) -> None:
    async with simulated() as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_s": 20})
        async with serve(path) as served:
            clients = [Connection(served.url) for _ in range(60)]
            for index, client in enumerate(clients):
                await client.__aenter__()
                if index % 3:
                    await client.send(PLAIN if index % 3 == 1 else PLAIN[:20])
                if index % 3 == 1:
                    assert (await client.answer()).status == 200
            started = time.monotonic()
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
            assert time.monotonic() - started < 4
            for client in clients:
                client.writer.close()
        assert len(served.of("request")) == 20
        assert not served.of("drain_cut")


@pytest.mark.parametrize("when", ["hang", "body"])
@pytest.mark.row("D1")
async def test_d1_plain_request_that_cannot_end_is_answered_503(tmp_path: Path, when: str) -> None:
    async with simulated("math") as servers:
        servers["math"].fault("hang")
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_s": 0.3})
        async with serve(path) as served, Connection(served.url) as client:
            await client.send(PLAIN if when == "hang" else PLAIN[:-3])
            if when == "hang":
                await servers["math"].until(lambda server: server.running == 1)
            else:
                await served.ask("/health/live")
            served.signal(signal.SIGINT)
            answer = await client.answer()
            assert answer.status == 503
            assert orjson.loads(answer.body)["error"]["code"] == "shutting_down"
            assert await client.reader.read() == b""
            assert await served.ended() == 0
        assert [(record["status"], record["error"]) for record in served.of("request")] == [(503, "shutting_down")]
        assert "Traceback" not in served.said


@pytest.mark.row("D1")
async def test_d1_client_that_reads_nothing_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        servers["math"].say("word " * 2_000_000)
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_s": 0.5})
        async with serve(path) as served, Connection(served.url) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a reading transport, too
            await client.send(STREAM)
            await asyncio.sleep(0.5)
            started = time.monotonic()
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
            assert time.monotonic() - started < 0.5 + 2 + 0.5 + 2
        assert len(served.of("request")) == 1


@pytest.mark.row("D1")
async def test_d1_requests_during_the_grace_are_all_answered(tmp_path: Path) -> None:
    """Clients that open a connection per request, as a load balancer sends them before it has looked."""
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_grace_s": 1})
        async with serve(path) as served:
            statuses: list[int] = []

            async def ask_until(ends: float) -> None:
                while time.monotonic() < ends:
                    statuses.append((await served.chat())[0])

            clients = [asyncio.create_task(ask_until(time.monotonic() + 0.9)) for _ in range(4)]
            served.signal(signal.SIGTERM)
            await asyncio.gather(*clients)
            assert await served.ended() == 0
        assert set(statuses) == {200}
        assert len(statuses) > 20


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)],
)
@pytest.mark.row("D2")
async def test_d2_second_signal_ends_at_once_with_its_number(
    tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    async with simulated("math") as servers:
        servers["math"].fault("hang_mid;events=3", count=None)
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_grace_s": 30, "drain_s": 30})
        async with serve(path) as served:
            clients = await open_streams(served, servers["math"], 5)
            served.signal(first)
            await served.logged("drain_started")
            started = time.monotonic()
            served.signal(second)
            assert Counter(map(last_error, await asyncio.gather(*map(rest_of, clients)))) == {"shutting_down": 5}
            assert await served.ended() == 128 + second
            assert time.monotonic() - started < 3
        assert len(served.of("request")) == 5
        assert "Traceback" not in served.said


@pytest.mark.row("D3")
async def test_d3_killed_process_is_back_on_its_port(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers, feedback={"database": "feedback.db"})
        async with serve(path) as served, Connection(served.url) as client:
            await client.send(PLAIN)
            rating = {"id": (await client.answer()).headers["x-request-id"], "rating": "up"}
            assert (await served.ask("/v1/feedback", rating))[0] == 201
            served.signal(signal.SIGKILL)
            assert await served.ended() == -signal.SIGKILL
            port = served.url.rpartition(":")[2]
        assert [row["score"] for row in read_rows(str(tmp_path / "feedback.db"))] == [1.0]
        async with serve(path, f"--port={port}") as served:
            assert served.url.endswith(f":{port}")
            assert (await served.chat())[0] == 200


@pytest.mark.row("D11")
async def test_d11_starts_with_servers_down_and_is_ready_when_one_is_up(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        for server in servers.values():
            server.refuse()
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve(path) as served:
            assert (await served.ask("/health/live"))[0] == 200
            assert (await served.ask("/health/ready"))[::2] == (503, b'{"status":"no expert is up"}')
            assert (await served.chat())[0] == 503
            await servers["math"].accept()
            async with asyncio.timeout(5):
                while (await served.ask("/health/ready"))[0] != 200:  # noqa: ASYNC110 - as a load balancer does
                    await asyncio.sleep(0.05)
            assert (await served.chat())[1]["x-pointsman-expert"] == "math"
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
