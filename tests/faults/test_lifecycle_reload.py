"""A running process takes over its changed file, by signal and by itself, under traffic (OPERATIONS D5 to D8)."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import orjson
import pytest

import router
from tests.faults.lifecycle import chat_body, last_error, open_streams, rest_of, serve, simulated, write_config
from tests.faults.raw import Connection, request

pytestmark = pytest.mark.slow

SHIPPED = Path(router.__file__).parent / "artifacts" / "default"
CODE = "Write a Python function that sorts a list."


@pytest.mark.row("D8")
async def test_d8_hangup_takes_over_the_file_and_streams_go_on(tmp_path: Path) -> None:
    async with simulated("math", "coding") as servers:
        servers["math"].fault("drip;seconds=0.05;bytes=200", count=10)
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve(path) as served:
            clients = await open_streams(served, servers["math"], 10)
            write_config(path, {name: server for name, server in servers.items() if name != "math"})
            served.signal(signal.SIGHUP)
            (applied,) = await served.logged("config_applied")
            assert applied["file"] == str(path)
            assert (await served.chat())[1]["x-pointsman-expert"] == "generalist"
            assert servers["math"].running == 10
            served.signal(signal.SIGTERM)
            assert {last_error(rest) for rest in await asyncio.gather(*map(rest_of, clients))} == {None}
            assert await served.ended() == 0
        records = served.of("request")
        assert [record["chosen"] for record in records] == ["generalist", *["math"] * 10]
        assert records[0]["catalog_version"] == applied["version"]
        assert {record["catalog_version"] for record in records[1:]} != {applied["version"]}


@pytest.mark.row("D5")
async def test_d5_wrong_file_changes_nothing_whoever_asks(tmp_path: Path) -> None:
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve(path) as served:
            write_config(path, servers, router={"minimum_confidence": 3})
            invalid = (await served.logged("config_invalid"))[0]  # the watch's own doing
            assert invalid["problems"][0].startswith(f"{path}:1: router.minimum_confidence: ")
            served.signal(signal.SIGHUP)
            assert (await served.logged("config_invalid", 2))[1]["problems"] == invalid["problems"]
            assert (await served.chat())[1]["x-pointsman-expert"] == "math"
            write_config(path, servers, currency="EUR")
            await served.logged("config_applied")
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
        assert len(served.of("config_invalid")) == 2
        assert "Traceback" not in served.said


@pytest.mark.row("D7")
async def test_d7_storm_of_hangups_loses_no_request(tmp_path: Path) -> None:
    async with simulated("math", "coding") as servers:
        path, over = tmp_path / "experts.yaml", asyncio.Event()
        write_config(path, servers)
        async with serve(path) as served:
            statuses: list[int] = []

            async def ask_on_one_connection() -> None:
                async with Connection(served.url) as client:
                    while not over.is_set():
                        await client.send(request(orjson.dumps(chat_body(CODE))))
                        statuses.append((await client.answer()).status)

            clients = [asyncio.create_task(ask_on_one_connection()) for _ in range(4)]
            for number in range(50):
                write_config(path, servers, currency=("EUR", "CHF")[number % 2])
                served.signal(signal.SIGHUP)
                await asyncio.sleep(0.03)
            write_config(path, servers, currency="SEK")
            served.signal(signal.SIGHUP)
            async with asyncio.timeout(20):
                while b'outcome="applied"} 0' in (await served.ask("/metrics"))[2]:  # noqa: ASYNC110 - as a scraper does
                    await asyncio.sleep(0.1)
            await served.logged("config_applied", 5)
            over.set()
            await asyncio.gather(*clients)
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
        assert set(statuses) == {200}
        assert len(statuses) > 50
        assert not served.of("config_invalid")
        assert "Traceback" not in served.said


@pytest.mark.parametrize("options", [(), ("--port", "0")])
async def test_reload_restart_needed_is_said_unless_the_command_line_says_so(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with simulated() as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers)
        async with serve(path, *options) as served:
            write_config(path, servers, server={"port": 1, "drain_s": 7})
            served.signal(signal.SIGHUP)
            await served.logged("config_applied")
            assert (await served.ask("/health/live"))[0] == 200
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
        named = [event["settings"] for event in served.of("config_needs_restart")]
        assert named == ([] if options else [["server.port"]])
        assert served.of("drain_started")[0]["drain_s"] == 7


@pytest.mark.row("F4")
async def test_reload_artifact_that_was_trained_again_is_loaded_and_a_broken_one_is_not(tmp_path: Path) -> None:
    artifact = Path(shutil.copytree(SHIPPED, tmp_path / "artifact"))
    async with simulated("math") as servers:
        path = tmp_path / "experts.yaml"
        write_config(path, servers, router={"artifact": str(artifact)})
        async with serve(path) as served:
            card = artifact / "card.json"
            card.write_bytes(card.read_bytes() + b"\n")
            (applied,) = await served.logged("config_applied")
            assert applied["trigger"] == "watch"
            assert (await served.chat())[1]["x-pointsman-expert"] == "math"
            card.write_bytes(b"{")
            assert str(artifact) in (await served.logged("config_invalid"))[0]["problems"][0]
            assert (await served.chat())[1]["x-pointsman-expert"] == "math"
            served.signal(signal.SIGTERM)
            assert await served.ended() == 0
