import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.scoring import BREAKER, AsyncScorer
from gateway.types import Reason
from router import DomainScores, ScoreBatch
from tests.harness import FaultyScorer, FittedScorer, KeywordScorer


def bridge(
    scorer: Any, *, deadline_s: float = 2, batch_size: int = 8, queue_size: int = 64, **more: Any
) -> AsyncScorer:
    return AsyncScorer(scorer, deadline_s=deadline_s, batch_size=batch_size, queue_size=queue_size, **more)


class GatedScorer(KeywordScorer):
    """Waits until it may, and remembers its batches."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.batches: list[list[str]] = []

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        self.may.wait(5)
        self.batches.append(list(texts))
        return super().score(texts)


async def test_score_gives_each_prompt_its_own_scores() -> None:
    async with bridge(KeywordScorer()) as scorer:
        found = await asyncio.gather(*(scorer.score(f"{word} {i}") for i in range(20) for word in ("math", "coding")))
    assert [scores.top()[0] for scores in found if isinstance(scores, DomainScores)] == ["math", "coding"] * 20


async def test_score_prompts_that_wait_become_one_batch() -> None:
    gated = GatedScorer()
    async with bridge(gated, batch_size=8) as scorer:
        gated.batches.clear()
        gated.may.clear()
        waiting = [asyncio.create_task(scorer.score(f"math {i}")) for i in range(12)]
        await asyncio.sleep(0)
        gated.may.set()
        await asyncio.gather(*waiting)
    assert [len(batch) for batch in gated.batches] == [8, 4]


async def test_score_empty_text_is_no_text() -> None:
    async with bridge(KeywordScorer()) as scorer:
        assert await scorer.score("") is Reason.NO_TEXT


async def test_score_carries_everything_the_scorer_said() -> None:
    async with bridge(KeywordScorer()) as scorer:
        scores = await scorer.score("math strange=0.7 moved=0.2")
    assert isinstance(scores, DomainScores)
    assert (scores.labels, scores.tier) == (KeywordScorer.labels, "keywords")
    assert (scores.out_of_domain, scores.disagreement) == pytest.approx((0.7, 0.2))


def test_thresholds_and_labels_are_the_scorers() -> None:
    scorer = bridge(FittedScorer())
    assert (scorer.labels, scorer.thresholds) == (FittedScorer.labels, FittedScorer.thresholds)


FAULTS = (
    "raises", "nan", "negative", "shape", "too few", "nan distance", "lost disagreement", "lost tier", "other labels",
    "bare array", "nothing",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.row("F1", "F3")
async def test_score_scorer_does_wrong_gives_the_reason_and_goes_on(fault: str) -> None:
    faulty = FaultyScorer(fault)
    async with bridge(faulty) as scorer:
        assert await scorer.score("math") is Reason.SCORER_ERROR
        faulty.fault = ""
        assert isinstance(await scorer.score("math"), DomainScores)


@pytest.mark.row("F2")
async def test_score_past_deadline_is_timeout_and_given_up_prompts_are_not_scored() -> None:
    gated = GatedScorer()
    async with bridge(gated, deadline_s=0.05, batch_size=1) as scorer:
        gated.batches.clear()
        gated.may.clear()
        assert set(await asyncio.gather(*(scorer.score(f"math {i}") for i in range(5)))) == {Reason.SCORER_TIMEOUT}
        gated.may.set()
        assert isinstance(await asyncio.wait_for(scorer.score("math again"), 1), DomainScores)
    assert len(gated.batches) == 2  # the first of the five, and the new one


@pytest.mark.row("F5")
async def test_score_full_queue_is_timeout_at_once() -> None:
    gated = GatedScorer()
    async with bridge(gated, queue_size=3, batch_size=1) as scorer:
        gated.may.clear()
        first = asyncio.create_task(scorer.score("math"))
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(scorer.score(f"math {i}")) for i in range(3)]
        await asyncio.sleep(0)
        started = time.perf_counter()
        assert await scorer.score("one too many") is Reason.SCORER_TIMEOUT
        assert time.perf_counter() - started < 0.05
        gated.may.set()
        assert all(isinstance(scores, DomainScores) for scores in await asyncio.gather(first, *waiting))


@pytest.mark.row("F2")
async def test_score_slow_scorer_does_not_block_the_event_loop() -> None:
    class Sleeper(KeywordScorer):
        def score(self, texts: Sequence[str]) -> ScoreBatch:
            time.sleep(0.1)
            return super().score(texts)

    gaps: list[float] = []
    async with bridge(Sleeper()) as scorer:
        scoring = asyncio.create_task(scorer.score("math"))
        last = time.perf_counter()
        while not scoring.done():
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()
        assert isinstance(await scoring, DomainScores)
    assert max(gaps) < 0.05


class FailingScorer(KeywordScorer):
    """Fails while it should, and counts its calls."""

    def __init__(self) -> None:
        self.fails = True
        self.calls = 0

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        self.calls += 1
        if self.fails:
            raise RuntimeError("broken")
        return super().score(texts)


@pytest.mark.row("F1")
async def test_f1_scorer_failing_ten_times_in_a_row_is_left_alone_and_asked_again_later() -> None:
    failing = FailingScorer()
    quick = BREAKER.model_copy(update={"ejection_s": 0.2})
    async with bridge(failing, breaker=quick) as scorer:
        called = failing.calls
        found = [await scorer.score("math") for _ in range(30)]
        assert set(found) == {Reason.SCORER_ERROR}
        assert failing.calls - called == 10
        failing.fails = False
        assert await scorer.score("math") is Reason.SCORER_ERROR
        await asyncio.sleep(0.25)
        again = await scorer.score("math")
        assert isinstance(again, DomainScores)
        assert again.top()[0] == "math"


@pytest.mark.row("F1")
async def test_f1_scorer_failing_now_and_then_is_always_asked() -> None:
    failing = FailingScorer()
    async with bridge(failing) as scorer:
        called = failing.calls
        for number in range(40):
            failing.fails = number % 5 != 0
            await scorer.score("math")
        assert failing.calls - called == 40


async def test_thread_ends_with_the_bridge() -> None:
    before = set(threading.enumerate())
    async with bridge(KeywordScorer()) as scorer:
        (thread,) = set(threading.enumerate()) - before
        assert isinstance(await scorer.score("math"), DomainScores)
    await asyncio.to_thread(thread.join, 2)
    assert not thread.is_alive()


def test_scorer_that_outlives_the_event_loop_disturbs_nobody() -> None:
    gated, threads = GatedScorer(), set(threading.enumerate())

    async def give_up() -> None:
        async with bridge(gated, deadline_s=0.02) as scorer:
            gated.may.clear()
            assert await scorer.score("math") is Reason.SCORER_TIMEOUT

    asyncio.run(give_up())
    gated.may.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(2)
        assert not thread.is_alive()
    assert gated.batches[-1] == ["math"]
