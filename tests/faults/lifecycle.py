"""Runs `pointsman serve` as a process of its own in front of simulated experts, and reads what it logs."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from gateway.sim.server import SimServer
from tests.conftest import DEFAULTS, quick_expert
from tests.connections import hang_up
from tests.faults.raw import Connection, request

LOG_BYTES = 1 << 20


class Served:
    """A running gateway process.

    Attributes:
        url: where it listens.
        events: all that it has logged.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.events: list[dict[str, Any]] = []
        self.said = ""
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def logged(self, event: str, count: int = 1, timeout_s: float = 20) -> list[dict[str, Any]]:
        """Wait until an event has been logged so often, and return them."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(self.of(event)) >= count or self._reading.done())
        assert len(self.of(event)) >= count, self.said
        return self.of(event)

    def of(self, event: str) -> list[dict[str, Any]]:
        """All events of a kind so far."""
        return [line for line in self.events if line["event"] == event]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = 20) -> int:
        """Wait for the process to end and its log to be read; return the exit code."""
        async with asyncio.timeout(timeout_s):
            code = await self.process.wait()
            await self._reading
        return code

    async def ask(self, path: str, body: object = None, **options: Any) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own; return status, headers and body."""
        raw = request(b"", method="GET", path=path) if body is None else request(orjson.dumps(body), path=path)
        async with Connection(self.url) as client:
            await client.send(raw)
            answer = await client.answer()
        return answer.status, answer.headers, answer.body

    async def chat(self, text: str = "Solve 3x + 5 = 20 for x.") -> tuple[int, dict[str, str], bytes]:
        """Ask one plain question."""
        return await self.ask("/v1/chat/completions", chat_body(text))

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said += line.decode()
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "not JSON"}
            async with self._news:
                self.events.append(event)
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


def chat_body(text: str = "Solve 3x + 5 = 20 for x.", **fields: Any) -> dict[str, Any]:
    """A chat request that is routed."""
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}


def write_config(path: Path, experts: Mapping[str, SimServer | str], **sections: Any) -> None:
    """Write a configuration, all at once; the expert `generalist` must be among them."""
    described: dict[str, dict[str, Any]] = {}
    for name, server in experts.items():
        url = server if isinstance(server, str) else server.url
        domains = {} if name == "generalist" else {"domains": [name]}
        described[name] = {"model": f"sim/{name}", "upstreams": [url], **domains}
    defaults = {**DEFAULTS, "server": {"port": 0, "drain_grace_s": 0}}
    merged = {
        name: {**defaults.get(name, {}), **section} if isinstance(section, dict) else section
        for name, section in {**defaults, **sections}.items()
    }
    generalist = described.pop("generalist")
    new = path.with_name("new")
    new.write_text(json.dumps({"generalist": generalist, "experts": described, **merged}))
    new.replace(path)


STREAM = request(orjson.dumps(chat_body(stream=True)))
PLAIN = request(orjson.dumps(chat_body()))


@asynccontextmanager
async def simulated(*names: str) -> AsyncIterator[dict[str, SimServer]]:
    """Start experts that answer at once: the generalist and those named."""
    servers = {name: SimServer(quick_expert(f"sim/{name}", name)) for name in ("generalist", *names)}
    for server in servers.values():
        await server.start()
    try:
        yield servers
    finally:
        for server in servers.values():
            await server.stop()


@asynccontextmanager
async def serve(path: Path, *options: str) -> AsyncIterator[Served]:
    """Run `pointsman serve` until the block ends."""
    command = (sys.executable, "-m", "gateway.cli", "serve", "--config", str(path), *options)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, limit=LOG_BYTES
    )
    served = Served(process)
    try:
        served.url = (await served.logged("listening"))[0]["address"]
        await _ready(served)
        yield served
    finally:
        if process.returncode is None:
            process.kill()
        await served.ended()


async def _ready(served: Served) -> None:
    """Wait until it takes requests: it listens a moment before."""
    async with asyncio.timeout(30):
        while served.process.returncode is None:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await served.ask("/health/live")
                return
            await asyncio.sleep(0.05)
    await served.ended()
    raise AssertionError(served.said)


async def open_streams(served: Served, server: SimServer, count: int) -> list[Connection]:
    """Open streams and read each one's first event."""
    clients = [Connection(served.url) for _ in range(count)]
    for client in clients:
        await client.__aenter__()
        await client.send(STREAM)
    await server.until(lambda server: server.running >= count, timeout_s=20)
    await asyncio.gather(*(client.reader.readuntil(b"data: ") for client in clients))
    return clients


async def rest_of(client: Connection, timeout_s: float = 20) -> bytes:
    """Read to the end of the connection."""
    async with asyncio.timeout(timeout_s):
        rest = await client.reader.read()
    client.writer.close()
    return rest


def last_error(rest: bytes) -> str | None:
    """The code of the error event that the stream ends with; None when it ends well."""
    assert rest.endswith(b"\r\n0\r\n\r\n"), rest[-200:]
    if rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
        return None
    found = re.search(rb'data: (\{"error":[^\n]*\})\n\n\r\n0\r\n\r\n$', rest)
    assert found is not None, rest[-200:]
    assert b"[DONE]" not in rest
    code: str = orjson.loads(found[1])["error"]["code"]
    return code


async def refuses(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    await hang_up(writer)
    return False
