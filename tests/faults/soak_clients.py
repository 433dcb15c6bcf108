"""The clients of the soak: they ask, read, break off, and say what they saw. They set no faults and judge nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import orjson

from gateway.types import Endpoint
from tests.faults.raw import JSON, Connection, body_of, request

PATIENCE_S = 40
"""Longer than any limit of the gateway's in the soak."""
PAUSE_S = 1.0
TEXTS = (
    "Solve 3x + 5 = 20 for x.",
    "Why does my Python loop never end?",
    "early signs of type 2 diabetes",
    "Write a limerick about rain.",
    "What is the capital of Peru?",
)
_CLOSE = (*JSON, ("connection", "close"))
_LAST = b"\r\n0\r\n\r\n"


@dataclass
class Seen:
    """What all clients saw.

    Attributes:
        sent: whole requests sent.
        outcomes: how often each word was the end: `plain STATUS CODE`, `stream done`, `stream CODE`, `left`.
        wrong: what no fault of an upstream explains.
    """

    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Client:
    """One client, which asks again and again.

    Args:
        url: the gateway.
        seen: where it notes what it saw.
        leaves: it breaks off in the middle of every answer.
        dice: makes it repeatable what it asks.
    """

    def __init__(self, url: str, seen: Seen, *, stream: bool, leaves: bool, dice: random.Random) -> None:
        self._url = url
        self._seen = seen
        self._stream = stream
        self._leaves = leaves
        self._dice = dice

    async def ask_until(self, ending: asyncio.Event) -> None:
        """Ask until told to stop; the request that is under way then is finished."""
        while not ending.is_set():
            await asyncio.sleep(self._dice.random() * 2 * PAUSE_S)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    self._seen.outcomes[await self._ask()] += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                kind = "stream" if self._stream else "plain"
                self._seen.wrong.append(f"{kind}: {type(error).__name__}: {error}"[:200])

    async def _ask(self) -> str:
        endpoint = Endpoint.CHAT if self._dice.random() < 0.8 else Endpoint.COMPLETIONS
        text = self._dice.choice(TEXTS)
        asked = {"messages": [{"role": "user", "content": text}]} if endpoint is Endpoint.CHAT else {"prompt": text}
        raw = request(body_of(endpoint, stream=self._stream, **asked), path=endpoint.path, headers=_CLOSE)
        async with Connection(self._url) as client:
            await client.send(raw)
            self._seen.sent += 1
            if self._leaves:
                return await self._leave(client)
            head = await client.reader.readuntil(b"\r\n\r\n")
            rest = await client.reader.read()
        return self._judge(int(head.split()[1]), head.lower(), rest)

    async def _leave(self, client: Connection) -> str:
        # Not before the gateway has read the request: a reset may take it back unread, and then nothing was asked.
        await client.reader.readuntil(b"\r\n\r\n") if self._stream else await asyncio.sleep(0.5)
        await asyncio.sleep(self._dice.random() * 0.5)
        client.leave(reset=self._dice.random() < 0.5)
        return "left"

    def _judge(self, status: int, head: bytes, rest: bytes) -> str:
        if b"content-type: text/event-stream" not in head:
            code = (orjson.loads(rest).get("error") or {}).get("code", "")
            return f"plain {status} {code}".strip()
        if not rest.endswith(_LAST):
            raise ValueError(f"a stream without its end: {rest[-60:]!r}")
        # Servers may end lines with CR, LF or both.
        if rest.removesuffix(_LAST).rstrip(b"\r\n").endswith(b"data: [DONE]"):
            return "stream done"
        error = rest.rpartition(b"data: ")[2].partition(b"\n")[0]
        if not error.startswith(b'{"error"'):
            raise ValueError(f"a truncated stream that looks whole: {rest[-60:]!r}")
        return f"stream {orjson.loads(error)['error']['code']}"
