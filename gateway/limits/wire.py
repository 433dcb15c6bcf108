"""The connection to a Valkey or Redis server: pipelines, a time limit, a breaker. Knows no limits."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from gateway.limits import scripts
from gateway.limits.valkey import Command
from gateway.settings.quotas import ValkeySettings

log = structlog.get_logger(__name__)

PIPELINE = 32
QUEUE = 10_000
PAUSE_S = 1.0
CLOSE_S = 2.0
_SOURCES = {"reserve": scripts.RESERVE, "settle": scripts.SETTLE}
_DIGESTS = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in _SOURCES.items()}
_FAILURES = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)


_Asked = tuple[Command, "asyncio.Future[list[bytes]] | None"]


class Wire:
    """Sends commands.

    Args:
        settings: which server, and how long to wait.
        url: its address, which may hold a password.
        pause_s: how long a server that failed is left alone.

    Attributes:
        up: whether the server is asked.
        failures: how often it did not answer in time, or with an error.
        dropped: settlements that found the queue full while it was down, or that it refused.
    """

    def __init__(self, settings: ValkeySettings, url: str, *, pause_s: float = PAUSE_S) -> None:
        self._settings = settings
        self._pause_s = pause_s
        self._connect = _connector(settings, url)
        self._client: Any = None
        self._asked: deque[tuple[Command, asyncio.Future[list[bytes]]]] = deque()
        self._posted: deque[Command] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False
        self.up = False
        self.failures = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Settlements that were not sent yet."""
        return len(self._posted)

    async def open(self) -> None:
        """Connect. When the server is not there, go on trying in the background."""
        if not await self._try():
            log.warning("valkey_down")
            self._recovery = asyncio.create_task(self._recover())

    async def close(self) -> None:
        """Send what waits, within `CLOSE_S`, and close the connection."""
        self._closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        if self._pump is not None:
            await asyncio.wait([self._pump], timeout=CLOSE_S)
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self.up = False
        await self._disconnect()

    async def ask(self, command: Command) -> list[bytes] | None:
        """Return a script's reply; None when it was not sent; empty when it was, and whether it ran is not known."""
        if not self.up:
            return None
        reply: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._asked.append((command, reply))
        self._run()
        return await reply

    def post(self, command: Command) -> None:
        """Send a command some time soon; the oldest is dropped when `QUEUE` wait."""
        if len(self._posted) >= QUEUE:
            self._posted.popleft()
            self.dropped += 1
        self._posted.append(command)
        if self.up:
            self._run()

    def _run(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self.up and (self._asked or self._posted):
            batch = self._next()
            try:
                replies = await self._in_time(
                    self._execute([command for command, _ in batch]), self._settings.timeout_s
                )
            except BaseException as error:
                self._give_up(batch)
                if not isinstance(error, _FAILURES):
                    raise
                log.warning("valkey_failed", error=type(error).__name__)
                return
            if not self._hand_over(batch, replies):
                return

    def _next(self) -> list[_Asked]:
        """Take the next pipeline: requests first, somebody waits for them; of settlements a few at least."""
        batch: list[_Asked] = []
        while self._asked and len(batch) < PIPELINE * 3 // 4:
            command, future = self._asked.popleft()
            if future.done():  # the request has been cancelled: nobody would settle it
                continue
            batch.append((command, future))
        while self._posted and len(batch) < PIPELINE:
            batch.append((self._posted.popleft(), None))
        return batch

    def _hand_over(self, batch: Sequence[_Asked], replies: Sequence[Any]) -> bool:
        """Give everybody their reply; False when the server refused some: it is full, a replica, or out of order."""
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        for (_, future), reply in zip(batch, replies, strict=True):
            failed = isinstance(reply, Exception)
            if future is None:
                # Sent again it would fail again, and hold up the others.
                self.dropped += failed
            elif not future.done():
                future.set_result([] if failed else reply)
        if refused:
            log.warning("valkey_failed", error=type(refused[0]).__name__)
            self._give_up(())
        return not refused

    def _give_up(self, batch: Sequence[_Asked]) -> None:
        """Let nobody wait any more; keep what has to be settled."""
        self.up = False
        self.failures += 1
        self._posted.extendleft(command for command, future in reversed(batch) if future is None)
        waiting = [*(future for _, future in batch), *(future for _, future in self._asked)]
        self._asked.clear()
        for future in waiting:
            if future is not None and not future.done():
                future.set_result([])
        if not self._closed and (self._recovery is None or self._recovery.done()):
            self._recovery = asyncio.create_task(self._recover())

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        """Run one pipeline. Returns replies and, where a command failed, its error.

        Raises:
            RedisError, OSError: of the connection.
        """
        replies = await self._pipeline(commands)
        missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:  # the server was started anew, or another took its place
            await self._load(self._client)
            for index, reply in zip(missing, await self._pipeline([commands[i] for i in missing]), strict=True):
                replies[index] = reply
        return replies

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            # Not `evalsha`, which pipelines of a cluster do not have: they cannot tell that all keys are in one slot.
            digest, keys = _DIGESTS[command.script], command.keys
            pipeline.execute_command("EVALSHA", digest, len(keys), *keys, *command.arguments)
        found: list[Any] = await pipeline.execute(raise_on_error=False)
        return found

    async def _in_time(self, work: Any, limit_s: float) -> Any:
        """Await `work` for so long.

        Unlike `asyncio.timeout`, it takes an answer that came in time although this process was too busy to look, and
        waits once more where this process did not run for a good part of the time: then it is not the server's fault.

        Raises:
            TimeoutError: it took longer; it is cancelled, and its connection closed with it.
        """
        task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
        try:
            until = loop.time() + limit_s
            await asyncio.wait([task], timeout=limit_s)
            for _ in range(3):
                if not task.done():
                    await asyncio.sleep(0)
            if not task.done() and loop.time() - until > limit_s / 2:
                await asyncio.wait([task], timeout=limit_s)
            if task.done():
                return task.result()
            raise TimeoutError
        finally:
            if not task.done():
                task.cancel()
                # Its connection may hang too: nobody waits for that.
                task.add_done_callback(_look_away)

    async def _recover(self) -> None:
        """Try the server until it answers as quickly as requests need it to."""
        while True:
            await asyncio.sleep(self._pause_s)
            if await self._try():
                log.info("valkey_up")
                return

    async def _try(self) -> bool:
        await self._disconnect()
        try:
            async with asyncio.timeout(self._settings.connect_s):
                self._client = self._connect()
                await self._load(self._client)
            await self._in_time(self._client.ping(), self._settings.timeout_s)
        except _FAILURES:
            return False
        self.up = True
        self._run()
        return True

    async def _load(self, client: Any) -> None:
        for text in _SOURCES.values():
            await client.script_load(text)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(self._settings.connect_s):
                await client.aclose()
        except _FAILURES:
            pass


def _connector(settings: ValkeySettings, url: str) -> Callable[[], Any]:
    """Return what makes a client that neither tries again nor waits by itself: both is this module's business."""
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": settings.connect_s,
        "socket_timeout": None,
        "decode_responses": False,
    }
    if settings.cluster:
        return lambda: RedisCluster.from_url(url, **options)
    return lambda: Redis.from_url(url, max_connections=4, **options)


def _look_away(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
