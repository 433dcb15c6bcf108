"""Runs the real gateway on a real socket inside a test, and looks at what it recorded."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import numpy as np
import uvicorn

from gateway import server
from gateway.app import create_app
from gateway.context import RequestContext, RouteRecord
from gateway.finishing import record_of
from gateway.metrics import Metrics
from gateway.recorder import Observer, Recorder
from gateway.settings import Settings
from gateway.sim.listening import settled, stop_listening
from router import ScoreBatch, Scorer, Thresholds
from tests.connections import hang_up
from tests.waiting import until

LABELS = ("math", "coding", "health", "general")


class KeywordScorer:
    """A scorer with the real interface and no model: the word that names a domain decides, `sure=` how surely.

    `strange=` sets the out-of-domain score and `moved=` the disagreement; 0 without them.
    """

    labels = LABELS
    version = "keywords"
    thresholds = Thresholds()

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        return ScoreBatch(
            labels=LABELS,
            probabilities=np.array([self._row(text) for text in texts], dtype=np.float32),
            out_of_domain=np.array([_number(text, "strange=", 0) for text in texts], dtype=np.float32),
            disagreement=np.array([_number(text, "moved=", 0) for text in texts], dtype=np.float32),
            tiers=("keywords",) * len(texts),
        )

    def _row(self, text: str) -> list[float]:
        sure = _number(text, "sure=", 0.97)
        best = next((label for label in LABELS if label in text), "general")
        rest = (1 - sure) / (len(LABELS) - 1)
        return [sure if label == best else rest for label in LABELS]


def _number(text: str, prefix: str, otherwise: float) -> float:
    found = (word.removeprefix(prefix) for word in text.split() if word.startswith(prefix))
    return float(next(found, otherwise))


class FittedScorer(KeywordScorer):
    """Comes with thresholds of its own, as a trained artifact does."""

    thresholds = Thresholds(
        confidence={"math": 0.8, "coding": 0.4}, default_confidence=0.6, margin=0.1, out_of_domain=0.9, disagreement=0.5
    )


class FaultyScorer(KeywordScorer):
    """Does one thing wrong."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        batch = super().score(texts)
        if self.fault == "raises":
            raise RuntimeError("no such luck")
        if self.fault == "slow":
            time.sleep(0.5)
        if self.fault == "bare array":
            return batch.probabilities  # type: ignore[return-value]  # what scorers answered once
        if self.fault == "nothing":
            return None  # type: ignore[return-value]  # the fault
        return replace(batch, **self._wrong(batch))

    def _wrong(self, batch: ScoreBatch) -> dict[str, Any]:
        """Return the columns that are wrong."""
        rows, column = batch.probabilities, batch.disagreement
        first = np.arange(len(LABELS)) == 0
        faults: dict[str, dict[str, Any]] = {
            "nan": {"probabilities": np.where(first, np.nan, rows)},
            "negative": {"probabilities": np.where(first, -0.1, rows)},
            "shape": {"probabilities": rows[:, :2]},
            "too few": {"probabilities": rows[1:]},
            "nan distance": {"out_of_domain": np.full_like(column, np.nan)},
            "lost disagreement": {"disagreement": column[1:]},
            "lost tier": {"tiers": ()},
            "other labels": {"labels": LABELS[::-1]},
        }
        return faults.get(self.fault, {})


class CapturingRecorder(Recorder):
    """Keeps the records too."""

    def __init__(self, metrics: Metrics, observers: Sequence[Observer]) -> None:
        super().__init__(metrics, log_requests=False, observers=observers)
        self.records: list[RouteRecord] = []
        self._arrived = asyncio.Event()

    def put(self, context: RequestContext) -> None:
        super().put(context)
        self.records.append(record_of(context))
        self._arrived.set()

    async def wait_for(self, count: int, timeout_s: float = 5) -> list[RouteRecord]:
        """Wait until `count` requests are over: a client has its answer before the record is written."""
        async with asyncio.timeout(timeout_s):
            while len(self.records) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.records


@dataclass
class RunningGateway:
    """A gateway that listens."""

    url: str
    app: Any
    recorder: CapturingRecorder
    http: httpx2.AsyncClient = field(repr=False)

    async def chat(self, text: str = "hello", model: str = "auto", **fields: Any) -> httpx2.Response:
        """Send one chat request."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return await self.http.post("/v1/chat/completions", json=body)

    async def metric(self, name: str) -> dict[str, float]:
        """Return all series of a metric by their label text."""
        text = (await self.http.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


class _PromptServer(uvicorn.Server):
    """Uvicorn's server without its pauses of 0.1 s on the way out: they were a third of the suite's time."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leaving = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for serving in self.servers:
            stop_listening(serving)
        await settled()
        for listener in sockets or ():
            listener.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            await until(lambda: not self.server_state.connections and not self.server_state.tasks, timeout_s=1)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()  # a client that takes no answer keeps it open until its bytes are gone
        await settled()


@asynccontextmanager
async def run_gateway(settings: Settings, scorer: Scorer | None = None) -> AsyncIterator[RunningGateway]:
    """Run the application as `pointsman serve` does, on a free port."""
    app = create_app(settings, scorer=scorer or KeywordScorer())
    gateway = app.state.gateway
    recorder = gateway.recorder = CapturingRecorder(gateway.metrics, gateway.recorder.observers)
    listening = server.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = server.uvicorn_config(app, settings)
    uvicorn_server = _PromptServer(config)
    serving = asyncio.create_task(uvicorn_server.serve(sockets=[listening]))
    try:
        async with asyncio.timeout(10):
            while not uvicorn_server.started:
                assert not serving.done(), "the gateway did not start"
                await asyncio.sleep(0.002)
        async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
            yield RunningGateway(url, app, recorder, client)
    finally:
        uvicorn_server.leaving.set()
        await serving


@dataclass
class RawAnswer:
    """An answer as it stands on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


async def send_raw(url: str, request: bytes, *, timeout_s: float = 5) -> RawAnswer:
    """Send bytes and read the answer until the server closes or its content-length is reached."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
            length = headers.get("content-length")
            body = await reader.readexactly(int(length)) if length else await reader.read()
        seconds = time.perf_counter() - started
    finally:
        await hang_up(writer)
    return RawAnswer(int(lines[0].split()[1]), headers, body, seconds)
