"""The classifier fails, is slow, is crowded: every request is answered, the same prompt always by the same expert."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.sim.server import SimServer
from gateway.types import Endpoint
from router import ScoreBatch, Scorer, load_scorer
from tests.conftest import Town, quick_expert, settings_for
from tests.faults.raw import Connection, body_of, open_town, request
from tests.harness import FaultyScorer, KeywordScorer, RunningGateway, run_gateway

PROMPTS = (
    "A ladder 5 m long leans on a wall with its foot 3 m away. How high does it reach?",
    "git: undo the last two commits but keep my changes staged",
    "early signs of type 2 diabetes",
    "Why did the Weimar Republic fail?",
    "Is a verbal contract to sell a car binding?",
    "roth vs traditional ira if i expect a higher salary later",
    "balance the reaction C3H8 + O2 -> CO2 + H2O",
    "write a limerick about a mathematician who fell ill",
    "ok",
    "what should I cook tonight? " * 40,
)


class CountedScorer(FaultyScorer):
    """Counts its calls, and can be mended."""

    calls = 0

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        self.calls += 1
        return super().score(texts)


class SlowScorer(KeywordScorer):
    """Takes 20 ms for any batch, as a transformer does for long prompts."""

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        time.sleep(0.02)
        return super().score(texts)


class FlatScorer(KeywordScorer):
    """Finds all domains equally likely."""

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        rows = np.full((len(texts), len(self.labels)), 1 / len(self.labels), dtype=np.float32)
        nothing = np.zeros(len(texts), dtype=np.float32)
        return ScoreBatch(self.labels, rows, nothing, nothing, ("flat",) * len(texts))


@pytest.mark.row("F1")
async def test_f1_classifier_that_raises_is_left_alone_after_ten_and_all_are_answered(start_town: Any) -> None:
    scorer = CountedScorer("raises")
    town: Town = await start_town(scorer=scorer)
    warm_up = scorer.calls
    for _ in range(25):
        answer = await town.gateway.chat("math")
        assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, "generalist")
        assert answer.headers["x-pointsman-reason"] == "scorer_error"
    assert scorer.calls - warm_up == 10


@pytest.mark.row("F2")
async def test_f2_classifier_that_hangs_costs_its_deadline_and_never_the_loop(start_town: Any) -> None:
    town: Town = await start_town(scorer=FaultyScorer("slow"), router={"deadline_s": 0.15})
    took, late = [], []
    for _ in range(3):  # the machine is shared: best of some
        watching = asyncio.create_task(_lateness(20))
        started = time.perf_counter()
        answers = await asyncio.gather(*(town.gateway.chat("math") for _ in range(5)))
        took.append(time.perf_counter() - started)
        assert {answer.headers["x-pointsman-reason"] for answer in answers} == {"scorer_timeout"}
        assert {answer.status_code for answer in answers} == {200}
        late.append(await watching)
    assert min(took) < 0.15 + 0.3
    assert min(late) < 0.02


async def _lateness(looks: int) -> float:
    """How late the loop is, the ninth tenth of looks at it every 10 ms."""
    late, loop = [], asyncio.get_running_loop()
    for _ in range(looks):
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        late.append(loop.time() - due)
    return sorted(late)[looks * 9 // 10]


@pytest.mark.slow
@pytest.mark.row("F5")
async def test_f5_two_thousand_at_once_are_all_answered() -> None:
    """More than any classifier does in its deadline: those beyond it go to the generalist, and nothing piles up."""
    # Clients, gateway and experts share one loop here, so its lag and the time of connections say nothing.
    sections: dict[str, Any] = {
        "router": {"deadline_s": 0.3},
        "concurrency": {"requests": 2_000},
        "timeouts": {"connect_s": 30},
        "overload": {"loop_lag_s": 60},
    }
    async with open_town(scorer=SlowScorer(), **sections) as town:
        clients = [Connection(town.gateway.url) for _ in range(2_000)]
        for client in clients:
            await client.__aenter__()
        raw = request(body_of(Endpoint.CHAT))
        await asyncio.gather(*(client.send(raw) for client in clients))
        answers = await asyncio.gather(*(_answer(client) for client in clients))
        for client in clients:
            client.writer.close()
        assert Counter(answer.status for answer in answers) == {200: 2_000}
        reasons = Counter(answer.headers["x-pointsman-reason"] for answer in answers)
        assert set(reasons) <= {"confident", "scorer_timeout"}
        assert reasons["scorer_timeout"] > 500
        assert len(await town.gateway.recorder.wait_for(2_000)) == 2_000
        # The crowd is gone, and the next prompt is classified as ever.
        assert (await town.gateway.chat("math")).headers["x-pointsman-reason"] == "confident"


async def _answer(client: Connection) -> Any:
    async with asyncio.timeout(20):
        head = await client.reader.readuntil(b"\r\n\r\n")
        lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        await client.reader.readexactly(int(headers["content-length"]))
    return type("Answer", (), {"status": int(head.split()[1]), "headers": headers})


@pytest.fixture
async def experts() -> AsyncIterator[dict[str, Any]]:
    domains = ("math", "coding", "health", "science", "law", "finance", "humanities", "writing")
    async with SimServer(*(quick_expert(f"sim/{name}", name) for name in ("generalist", *domains))) as server:
        yield {
            name: {"model": f"sim/{name}", "upstreams": [server.url]} | ({"domains": [name]} if name in domains else {})
            for name in ("generalist", *domains)
        }


@pytest.mark.slow
@pytest.mark.row("F6")
async def test_f6_thousand_times_the_same_prompts_by_two_gateways_and_after_a_restart(experts: dict[str, Any]) -> None:
    """The shipped classifier scores them in ever other company; what it says may not depend on that."""
    seen: dict[str, set[tuple[str, str]]] = {prompt: set() for prompt in PROMPTS}
    confidence: dict[str, list[float]] = {prompt: [] for prompt in PROMPTS}
    settings = settings_for(experts, router={"deadline_s": 30}, sessions={"enabled": False})
    for restart in range(2):
        async with AsyncExitStack() as stack:
            gateways = [
                await stack.enter_async_context(run_gateway(settings, load_scorer())) for _ in range(2 - restart)
            ]
            asked = list(PROMPTS) * (35 if restart else 65)
            random.Random(restart).shuffle(asked)
            for start in range(0, len(asked), 16):
                some = asked[start : start + 16]
                answers = await asyncio.gather(*(_route(random.choice(gateways), text) for text in some))
                for text, told in zip(some, answers, strict=True):
                    seen[text].add((told["expert"], told["reason"]))
                    confidence[text].append(told["confidence"] or 0.0)
    assert sum(len(values) for values in confidence.values()) == 1_000
    assert {text[:20]: told for text, told in seen.items() if len(told) > 1} == {}
    assert all(max(values) - min(values) < 0.01 for values in confidence.values())
    assert len({expert for told in seen.values() for expert, _ in told}) >= 5


async def _route(gateway: RunningGateway, text: str) -> Any:
    answer = await gateway.http.post(
        "/v1/route",
        content=body_of(Endpoint.CHAT, messages=[{"role": "user", "content": text}]),
        headers={"content-type": "application/json"},
    )
    return orjson.loads(answer.content)


@pytest.mark.row("F7")
async def test_f7_all_scores_equal_go_to_the_generalist(start_town: Any) -> None:
    scorer: Scorer = FlatScorer()
    town: Town = await start_town(scorer=scorer)
    for _ in range(5):
        answer = await town.gateway.chat("math")
        assert answer.headers["x-pointsman-expert"] == "generalist"
        assert answer.headers["x-pointsman-reason"] in ("low_confidence", "small_margin")
