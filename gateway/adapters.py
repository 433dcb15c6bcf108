"""Loads LoRA adapters into servers that lack them, in the background. Never on a request's path, and unloads nothing.

vLLM loads an adapter at run time when `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1` is set for it; otherwise the path does not
exist. What was loaded so is gone when the server restarts, so somebody has to look again and again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, Protocol

import orjson
import structlog

from gateway.errors import UpstreamError
from gateway.metrics import Metrics
from gateway.types import Expert
from gateway.upstream import UpstreamClient

log = structlog.get_logger(__name__)

LOAD_PATH = "/v1/load_lora_adapter"
# A server may have to fetch the adapter from a slow disk; one that goes on after this answers "already loaded" later.
LOAD_S = 120.0
LONGEST_PAUSE_S = 300.0
MOST_DOUBLINGS = 16
ANSWER_LIMIT_BYTES = 64 * 1024
SHOWN_CHARACTERS = 200


class Outcome(StrEnum):
    """What became of one call to load an adapter: the metric's label and the log's word."""

    LOADED = "loaded"
    """The server has loaded it."""
    ALREADY_LOADED = "already_loaded"
    """Somebody else was faster, another gateway for example."""
    NOT_ALLOWED = "not_allowed"
    """The server does not load at run time, or wants another key."""
    NOT_FOUND = "not_found"
    """The server sees nothing at the path."""
    REFUSED = "refused"
    """Any other answer: a rank too large, a broken file."""
    TIMEOUT = "timeout"
    """No answer in time."""
    UNREACHABLE = "unreachable"
    """The connection failed."""


class Server(Protocol):
    """What is known of a server; `gateway.health.UpstreamState` is one."""

    url: str
    up: bool

    def has(self, model: str) -> bool:
        """Tell whether it lists the model, or its list is not known."""


@dataclass(slots=True)
class _Tries:
    """How often loading has failed since the adapter was last seen, and when (loop time) it may be tried again."""

    failed: int = 0
    due_s: float = 0.0


class AdapterLoader:
    """Asks servers to load adapters.

    Args:
        client: the way to the servers.
        metrics: where outcomes are counted.
        connect_s: time to a connection.
        every_s: how often a server is looked at; a failed try is repeated after twice this time, then after twice
            that, up to `LONGEST_PAUSE_S`.
        load_s: time to the end of one call.
    """

    def __init__(
        self, client: UpstreamClient, metrics: Metrics, connect_s: float, every_s: float, load_s: float = LOAD_S
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._connect_s = connect_s
        self._every_s = every_s
        self._load_s = load_s

    async def tend(self, server: Server, experts: Sequence[Expert], reread: Callable[[], Awaitable[None]]) -> NoReturn:
        """Keep the experts' adapters loaded in one server: one call at a time, until cancelled.

        Args:
            server: as it is known now.
            experts: those whose adapter may be loaded there.
            reread: fetches the server's list of models anew; called after every try.
        """
        tries = {expert.model: _Tries() for expert in experts}
        while True:
            for expert in experts:
                if await self._load_if_due(server, expert, tries[expert.model]):
                    await reread()
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))

    async def load(self, server: Server, expert: Expert) -> Outcome:
        """Ask a server to load an expert's adapter, log and count what came of it.

        Returns:
            The outcome; nothing is raised for a server that fails.
        """
        try:
            async with asyncio.timeout(self._load_s):
                status, body = await self._post(server.url, expert)
        except TimeoutError:
            outcome, said = Outcome.TIMEOUT, ""
        except UpstreamError as error:
            outcome, said = Outcome.UNREACHABLE, error.code
        else:
            outcome, said = _outcome(status, body), "" if status == 200 else _message(body)
        tell = log.info if outcome in (Outcome.LOADED, Outcome.ALREADY_LOADED) else log.warning
        tell("adapter_load", outcome=outcome.value, expert=expert.name, upstream=server.url, said=said)
        self._metrics.adapter_loads.labels(outcome.value).inc()
        return outcome

    async def _load_if_due(self, server: Server, expert: Expert, tries: _Tries) -> bool:
        now = asyncio.get_running_loop().time()
        if server.has(expert.model) or not server.up:
            # Only being listed proves that it worked: a server that says "loaded" and lists nothing must not be
            # hammered. One that was down may come back with other settings.
            tries.failed, tries.due_s = 0, 0.0
            return False
        if now < tries.due_s:
            return False
        outcome = await self.load(server, expert)
        tries.failed = min(tries.failed + 1, MOST_DOUBLINGS)
        pause_s = min(self._every_s * 2**tries.failed, LONGEST_PAUSE_S)
        if outcome is Outcome.NOT_ALLOWED:
            pause_s = LONGEST_PAUSE_S
        tries.due_s = asyncio.get_running_loop().time() + pause_s * random.uniform(0.8, 1.2)
        return True

    async def _post(self, url: str, expert: Expert) -> tuple[int, bytes]:
        headers = {"content-type": "application/json", "user-agent": "pointsman"}
        if expert.authorization is not None:
            headers["authorization"] = expert.authorization
        body = orjson.dumps({"lora_name": expert.model, "lora_path": expert.adapter})
        response = await self._client.post(url + LOAD_PATH, body, headers, self._connect_s)
        try:
            return response.status, await response.read_all(ANSWER_LIMIT_BYTES)
        finally:
            response.close()


def _outcome(status: int, body: bytes) -> Outcome:
    """Read vLLM's answer: text on success, its error object, or `{"detail": ...}` where the path does not exist."""
    if status == 200:
        return Outcome.LOADED
    if status == 400 and b"already been loaded" in body:
        return Outcome.ALREADY_LOADED
    if status in (401, 403, 405) or (status == 404 and b'"NotFoundError"' not in body):
        return Outcome.NOT_ALLOWED
    return Outcome.NOT_FOUND if status == 404 else Outcome.REFUSED


def _message(body: bytes) -> str:
    """Return the error's message for the log, shortened; no prompt can be in it."""
    try:
        message = orjson.loads(body)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return message[:SHOWN_CHARACTERS] if isinstance(message, str) else ""


def denies_model(status: int, body: bytes, model: str) -> bool:
    """Tell whether an answer says that the server has no such model.

    Only what the server itself writes is looked at (the 404's `param` or `code`, or its message's beginning), never
    what a client could have put into the message: else a request could make an expert look missing.

    Args:
        status: of the answer.
        body: the whole of it, in OpenAI's shape or, for `/v1/messages`, in Anthropic's.
        model: the served model name that was asked for.
    """
    if status != 404:
        return False
    try:
        error = orjson.loads(body)["error"]
        message = error["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False
    if error.get("param") == "model" or error.get("code") == "model_not_found":
        return True
    return isinstance(message, str) and message.startswith(f"The model `{model}` does not exist")
