"""Simulated callers: send made-up requests to a gateway, a few a second, until told to stop. Reads no sense in answers.

    python -m gateway.sim.callers http://127.0.0.1:8080 --per-second 3 --upstream http://127.0.0.1:8102

What they do is what gateways see: conversations, streams, other languages, names that do not exist, callers that leave,
ratings. Now and then a simulated expert is told to fail for a while, so that there is something to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import aiohttp

from gateway.sim.said import COMMENTS, FOLLOW_UPS, FOREIGN, ODD, PROMPTS

MOST_AT_ONCE = 32
PATIENCE_S = 60.0
TROUBLE_EVERY_S = 90.0
RATED = 0.15
_TROUBLES = (
    "status;code=503;retry_after=2",
    "status;code=500",
    "delay;seconds=4",
    "refuse;seconds=8",
)
# How often each field is asked about, for each of the others.
_SHARES = {
    **{"math": 5, "coding": 8, "health": 4, "law": 3, "finance": 1, "science": 2, "humanities": 1, "writing": 2},
    **{"general": 4, "foreign": 2, "odd": 3},
}

Body = dict[str, Any]


def what_is_said() -> dict[str, float]:
    """Return every prompt and how often it is asked, for each of the others."""
    fields = {**PROMPTS, "foreign": FOREIGN, "odd": ODD}
    return {prompt: _SHARES[field] / len(prompts) for field, prompts in fields.items() for prompt in prompts}


class Callers:
    """All simulated callers of one gateway.

    Args:
        http: a session whose base is the gateway's address.
        chance: makes runs alike in tests.
        think_s: longest pause between two turns of a conversation.
    """

    def __init__(self, http: aiohttp.ClientSession, chance: random.Random, think_s: float = 3.0) -> None:
        self._http = http
        self._chance = chance
        self._think_s = think_s
        said = what_is_said()
        self._prompts, self._weights = tuple(said), tuple(said.values())
        self.sent = 0

    async def call(self) -> None:
        """Be one caller: one request, at times with a rating or a second turn. What fails is the gateway's to show."""
        self.sent += 1
        ways: tuple[tuple[Callable[[], Awaitable[None]], int], ...] = (
            (self._chat, 70),
            (self._conversation, 12),
            (self._leave_early, 2),
            (self._name_an_expert, 5),
            (self._name_nobody, 2),
            (self._send_nonsense, 1),
            (self._embed, 3),
            (self._ask_as_anthropic, 3),
        )
        way = self._chance.choices([way for way, _ in ways], [weight for _, weight in ways])[0]
        with suppress(aiohttp.ClientError, TimeoutError):
            await way()

    def _prompt(self) -> str:
        return self._chance.choices(self._prompts, self._weights)[0]

    async def _chat(self) -> None:
        await self._say([_user(self._prompt())], stream=self._chance.random() < 0.4)

    async def _conversation(self) -> None:
        said = [_user(self._prompt())]
        for _ in range(self._chance.randint(2, 3)):
            await self._say(said)
            said += [{"role": "assistant", "content": "A simulated answer."}, _user(self._chance.choice(FOLLOW_UPS))]
            await asyncio.sleep(self._chance.uniform(0, self._think_s))

    async def _leave_early(self) -> None:
        body = {"model": "auto", "stream": True, "messages": [_user(self._prompt())]}
        async with self._http.post("/v1/chat/completions", json=body) as answer:
            await answer.content.readany()

    async def _name_an_expert(self) -> None:
        async with self._http.get("/v1/models") as answer:
            names = [model["id"] for model in (await answer.json())["data"]]
        await self._say([_user(self._prompt())], model=self._chance.choice(names))

    async def _name_nobody(self) -> None:
        await self._say([_user("Who are you?")], model="gpt-of-nobody")

    async def _send_nonsense(self) -> None:
        await self._post("/v1/chat/completions", {"model": "auto", "messages": "not a list"})

    async def _embed(self) -> None:
        await self._post("/v1/embeddings", {"model": "embed", "input": self._prompt()})

    async def _ask_as_anthropic(self) -> None:
        said = [_user(self._prompt())]
        await self._post("/v1/messages", {"model": "auto", "max_tokens": 64, "messages": said})

    async def _say(self, messages: Sequence[Body], model: str = "auto", *, stream: bool = False) -> None:
        length = self._chance.choice((24, 48, 96, 200))
        body = {"model": model, "messages": list(messages), "stream": stream, "max_tokens": length}
        status, name = await self._post("/v1/chat/completions", body)
        if status == 200 and name and self._chance.random() < RATED:
            await self._rate(name)

    async def _rate(self, name: str) -> None:
        good = self._chance.random() < 0.75
        rating: Body = {"id": name, "rating": "up" if good else "down"}
        if self._chance.random() < 0.3:
            rating["comment"] = COMMENTS[0 if good else self._chance.randrange(1, len(COMMENTS))]
        if not good and self._chance.random() < 0.5:
            rating["domain"] = self._chance.choice(list(PROMPTS))
        await self._post("/v1/feedback", rating)

    async def _post(self, path: str, body: Body) -> tuple[int, str]:
        """Return the status and the request's id once the answer is whole."""
        async with self._http.post(path, json=body) as answer:
            await answer.read()
            return answer.status, answer.headers.get("x-request-id", "")


async def run(address: str, per_second: float, upstreams: Sequence[str] = (), seed: int | None = None) -> None:
    """Send requests until SIGINT or SIGTERM.

    Args:
        address: the gateway's.
        per_second: how many requests, on average.
        upstreams: simulated experts that may be told to fail.
        seed: of everything that is left to chance.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chance = random.Random(seed)
    limit = aiohttp.ClientTimeout(total=PATIENCE_S)
    agent = {"user-agent": "simulated-caller"}
    async with aiohttp.ClientSession(address, timeout=limit, headers=agent) as http, asyncio.TaskGroup() as group:
        trouble = group.create_task(_make_trouble(upstreams, chance))
        await _send(Callers(http, chance), per_second, stop, chance)
        trouble.cancel()


async def _send(callers: Callers, per_second: float, stop: asyncio.Event, chance: random.Random) -> None:
    running: set[asyncio.Task[None]] = set()
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:  # who started them may have been killed
        if len(running) < MOST_AT_ONCE:
            task = asyncio.create_task(callers.call())
            running.add(task)
            task.add_done_callback(running.discard)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), chance.expovariate(per_second))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _make_trouble(upstreams: Sequence[str], chance: random.Random) -> None:
    """Have some expert fail for some requests, again and again."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        while upstreams:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * TROUBLE_EVERY_S)
            order = {"fault": chance.choice(_TROUBLES), "count": chance.randint(2, 6)}
            with suppress(aiohttp.ClientError, TimeoutError):
                await http.post(f"{chance.choice(upstreams)}/sim/faults", json=order)


def _user(text: str) -> Body:
    return {"role": "user", "content": text}


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("address", help="the gateway's, such as http://127.0.0.1:8080")
    parser.add_argument("--per-second", type=float, default=3.0, help="how many requests, on average")
    parser.add_argument("--upstream", action="append", default=[], help="a simulated expert that may be told to fail")
    parser.add_argument("--seed", type=int, help="makes runs alike")
    chosen = parser.parse_args()
    asyncio.run(run(chosen.address, chosen.per_second, chosen.upstream, chosen.seed))


if __name__ == "__main__":
    main()
