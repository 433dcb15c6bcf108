"""Several worker processes behind one socket: one dies and the others serve, sums go on, signals reach all (D4)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from tests.faults.lifecycle import PLAIN, Served, last_error, open_streams, rest_of, serve, simulated, write_config
from tests.faults.raw import Connection, request

pytestmark = pytest.mark.slow


@asynccontextmanager
async def serve_workers(path: Path, count: int) -> AsyncIterator[Served]:
    async with serve(path, f"--workers={count}") as served:
        await served.logged("worker_started", count)
        yield served


async def metric(served: Served, series: str) -> float:
    page = (await served.ask("/metrics"))[2].decode()
    found = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(series)]
    return sum(map(float, found))


async def settled(served: Served, series: str, value: float) -> None:
    """Wait until every worker's page says so, ten pages in a row: they are a second behind each other."""
    async with asyncio.timeout(10):
        right = 0
        while right < 10:
            right = right + 1 if await metric(served, series) == value else 0
            if not right:
                await asyncio.sleep(0.1)


def pids(served: Served) -> list[int]:
    return [event["pid"] for event in served.of("worker_started")]


@pytest.mark.row("D4")
async def test_d4_killed_worker_is_replaced_and_the_sums_go_on(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve_workers(path, 2) as served:
            for _ in range(20):
                assert (await served.chat())[0] == 200
            await settled(served, "pointsman_requests_total", 20)
            os.kill(pids(served)[0], signal.SIGKILL)
            (ended,) = await served.logged("worker_ended")
            assert (ended["pid"], ended["code"]) == (pids(served)[0], -signal.SIGKILL)
            # The other one serves meanwhile.
            for _ in range(10):
                assert (await served.chat())[0] == 200
            await served.logged("worker_started", 3)
            await settled(served, "pointsman_requests_total", 30)
            # Both of those that live now take requests.
            for _ in range(40):
                assert (await served.chat())[0] == 200
            await settled(served, "pointsman_requests_total", 70)
            assert await metric(served, "pointsman_upstream_up{") == 2
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
        assert "Traceback" not in served.said


@pytest.mark.row("D4")
async def test_d4_requests_while_a_worker_is_killed_only_its_own_are_lost(tmp_path: Path) -> None:
    """A connection per request, 4 at a time: whoever waits in the socket's queue is taken by the other worker."""
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve_workers(path, 2) as served:
            over, outcomes = asyncio.Event(), Counter[str]()

            async def ask() -> None:
                while not over.is_set():
                    try:
                        outcomes[str((await served.chat())[0])] += 1
                    except (OSError, asyncio.IncompleteReadError):
                        outcomes["lost"] += 1

            clients = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.sleep(0.3)
            os.kill(pids(served)[1], signal.SIGKILL)
            await served.logged("worker_started", 3)
            over.set()
            await asyncio.gather(*clients)
            assert outcomes["200"] > 50
            assert set(outcomes) <= {"200", "lost"}
            assert outcomes["lost"] <= 4
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0


@pytest.mark.row("D1")
async def test_d1_signal_drains_all_workers(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        servers["math"].fault("drip;seconds=0.1;bytes=200", count=20)
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_grace_s": 0.5, "drain_s": 10})
        async with serve_workers(path, 2) as served:
            clients = await open_streams(served, servers["math"], 20)
            served.signal(signal.SIGTERM)
            await served.logged("drain_started", 2)
            assert (await served.ask("/health/ready"))[0] == 503
            assert {last_error(rest) for rest in await asyncio.gather(*map(rest_of, clients))} == {None}
            assert await served.ended() == 0
        assert len(served.of("request")) == 20


@pytest.mark.row("D2")
async def test_d2_second_signal_cuts_all_workers_short(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        servers["math"].fault("hang_mid;events=3", count=None)
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_grace_s": 30, "drain_s": 30})
        async with serve_workers(path, 2) as served:
            clients = await open_streams(served, servers["math"], 6)
            served.signal(signal.SIGTERM)
            await served.logged("drain_started", 2)
            started = time.monotonic()
            served.signal(signal.SIGTERM)
            assert {last_error(rest) for rest in await asyncio.gather(*map(rest_of, clients))} == {"shutting_down"}
            assert await served.ended() == 128 + signal.SIGTERM
            assert time.monotonic() - started < 4


async def test_group_wide_signal_is_still_the_first_one(tmp_path: Path) -> None:
    """systemd sends SIGTERM to every process of the group: workers must not take the supervisor's word for a second."""
    async with simulated("math") as servers:
        servers["math"].fault("drip;seconds=0.1;bytes=200", count=4)
        path = tmp_path / "experts.yaml"
        write_config(path, servers, server={"drain_s": 10})
        async with serve_workers(path, 2) as served:
            clients = await open_streams(served, servers["math"], 4)
            for pid in (*pids(served), served.process.pid):
                os.kill(pid, signal.SIGTERM)
            assert {last_error(rest) for rest in await asyncio.gather(*map(rest_of, clients))} == {None}
            assert await served.ended() == 0
        assert not served.of("stop_forced")


async def test_killed_supervisor_takes_its_workers_along(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve_workers(path, 2) as served:
            served.signal(signal.SIGKILL)
            # Its log ends when the last process that writes to it has ended.
            assert await served.ended(10) == -signal.SIGKILL
        assert len(served.of("stopped")) == 2


async def test_reload_reaches_all_workers(tmp_path: Path) -> None:
    async with simulated("math", "coding") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve_workers(path, 2) as served:
            write_config(path, {name: server for name, server in servers.items() if name != "math"})
            served.signal(signal.SIGHUP)
            await served.logged("config_applied", 2)
            answers = [await served.chat() for _ in range(10)]
            assert {headers["x-pointsman-expert"] for _, headers, _ in answers} == {"generalist"}
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0


async def test_workers_that_cannot_start_end_the_process_with_their_word(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    write_config(path, {"generalist": "http://127.0.0.1:9"}, router={"artifact": str(tmp_path / "none")})
    with pytest.raises(AssertionError, match="none"):
        async with serve_workers(path, 2):
            pass


async def test_feedback_all_workers_write_one_file(tmp_path: Path) -> None:
    """Ratings reach the worker that gave the answer on the connection that the answer came on."""
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers, feedback={"database": "feedback.db", "per_minute": 1000})
        async with serve_workers(path, 2) as served:

            async def rate() -> None:
                async with Connection(served.url) as client:
                    for _ in range(5):
                        await client.send(PLAIN)
                        rating = {"id": (await client.answer()).headers["x-request-id"], "rating": "up"}
                        await client.send(request(orjson.dumps(rating), path="/v1/feedback"))
                        assert (await client.answer()).status == 201

            await asyncio.gather(*(rate() for _ in range(20)))
            await settled(served, "pointsman_feedback_total", 100)
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
