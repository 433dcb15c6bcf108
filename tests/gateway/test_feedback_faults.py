"""Feedback of a real gateway process: killed, out of disk, started with a bad file. What was confirmed is there."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.sim.server import SimServer
from gateway.stores.feedback import check
from tests.conftest import quick_expert

pytestmark = pytest.mark.slow

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway process and what it writes."""

    process: asyncio.subprocess.Process
    http: httpx2.AsyncClient
    database: Path

    def stored(self) -> set[str]:
        """Return the ids in the file, which must be sound."""
        with closing(sqlite3.connect(self.database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return {row[0] for row in connection.execute("SELECT record_id FROM feedback")}

    async def ask(self, request_id: str) -> httpx2.Response:
        body = {"model": "generalist", "messages": [{"role": "user", "content": "hello"}]}
        return await self.http.post("/v1/chat/completions", json=body, headers={"x-request-id": request_id})

    async def rate(self, request_id: str, **fields: Any) -> httpx2.Response:
        return await self.http.post("/v1/feedback", json={"id": request_id, "rating": "up", **fields})


def write_config(folder: Path, expert_url: str = "http://127.0.0.1:9", database: str = "feedback.db") -> Path:
    config = folder / "experts.yaml"
    settings = {
        "generalist": {"model": "sim/generalist", "upstreams": [expert_url]},
        "server": {"log_requests": False},
        "feedback": {"database": database, "per_minute": 100_000},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML, too
    return config


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def start(config: Path, port: int) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), "--port", str(port)]
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    port = free_port()
    async with (
        SimServer(quick_expert("sim/generalist")) as expert,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http,
    ):
        process = await start(write_config(folder, expert.url), port)
        try:
            async with asyncio.timeout(START_S):
                while not await is_ready(http):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            yield Running(process, http, folder / "feedback.db")
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/health/ready")).status_code == 200
    except httpx2.TransportError:
        return False


async def test_killed_process_has_lost_nothing_it_confirmed(tmp_path: Path) -> None:
    confirmed: set[str] = set()
    enough = asyncio.Event()

    async def rate_on_and_on(gateway: Running, worker: int) -> None:
        for number in range(100_000):
            request_id = f"{worker}-{number}"
            try:
                await gateway.ask(request_id)
                if (await gateway.rate(request_id)).status_code == 201:
                    confirmed.add(request_id)
                if len(confirmed) >= 300:
                    enough.set()
            except httpx2.TransportError:
                return

    async with running(tmp_path) as gateway:
        rating = [asyncio.create_task(rate_on_and_on(gateway, worker)) for worker in range(16)]
        async with asyncio.timeout(20):
            await enough.wait()
        gateway.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*rating)
        assert confirmed <= gateway.stored()
        assert len(gateway.stored() - confirmed) <= 16
    async with running(tmp_path) as gateway:
        await gateway.ask("after")
        assert (await gateway.rate("after")).status_code == 201
        assert confirmed | {"after"} <= gateway.stored()


async def test_full_disk_refuses_ratings_only_and_recovers_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await gateway.ask("before")
        assert (await gateway.rate("before")).status_code == 201
        limit = resource.RLIMIT_FSIZE
        unlimited = resource.prlimit(gateway.process.pid, limit)
        # Files may not grow any more: a write fails as on a full disk.
        resource.prlimit(gateway.process.pid, limit, (4_096, unlimited[1]))
        for number in range(3):
            assert (await gateway.ask(f"full-{number}")).status_code == 200
            answer = await gateway.rate(f"full-{number}", comment="x" * 1_000)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "feedback_unavailable")
            assert answer.headers["retry-after"] == "5"
        assert (await gateway.http.get("/health/ready")).status_code == 200
        resource.prlimit(gateway.process.pid, limit, unlimited)
        assert (await gateway.rate("full-0")).status_code == 201
        assert gateway.stored() == {"before", "full-0"}


async def test_stopped_process_leaves_one_whole_file(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        for number in range(5):
            await gateway.ask(f"r-{number}")
            assert (await gateway.rate(f"r-{number}")).status_code == 201
        gateway.process.terminate()
        await gateway.process.communicate()
        assert gateway.process.returncode == 0
    assert names_in(tmp_path) == {"experts.yaml", "feedback.db"}
    assert len(gateway.stored()) == 5


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("notes.txt", "notes.txt: file is not a database"),
        ("missing/feedback.db", "missing/feedback.db: No such file or directory"),
        ("newer.db", "newer.db: holds version 9 of feedback, this program knows up to 1"),
    ],
)
async def test_file_that_cannot_be_used_is_said_and_keeps_the_gateway_down(
    tmp_path: Path, database: str, message: str
) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 500)
    check(str(tmp_path / "newer.db"))
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 9")
    process = await start(write_config(tmp_path, database=database), free_port())
    async with asyncio.timeout(START_S):
        _, said = await process.communicate()
    assert process.returncode == 1
    last = said.decode().splitlines()[-1]
    assert last.startswith("pointsman: ")
    assert message in last
