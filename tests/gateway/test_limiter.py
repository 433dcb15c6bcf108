"""Places: never more than there are, none lost, in turn between keys; the queue before them; the budget of retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.errors import UpstreamSaturated
from gateway.fair_queue import FairQueue
from gateway.limiter import Limiter, Place
from gateway.retry_budget import RetryBudget
from gateway.settings.reliability import RetrySettings


async def turns(count: int = 3) -> None:
    """Let everything happen that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def waiting(limiter: Limiter, *keys: str) -> list[asyncio.Task[Place]]:
    """Start waiters, one after the other."""
    tasks = []
    for key in keys:
        tasks.append(asyncio.create_task(limiter.place(key)))
        await turns()
    return tasks


async def test_places_are_handed_on_in_order() -> None:
    limiter = Limiter(1, 10, 5)
    first = await limiter.place()
    second, third = await waiting(limiter, "", "")
    assert (limiter.running, limiter.waiting) == (1, 2)
    first.close()
    first.close()
    await turns()
    assert (second.done(), third.done(), limiter.running) == (True, False, 1)
    with second.result():
        pass
    (await third).close()
    assert (limiter.running, limiter.waiting, limiter.full) == (0, 0, False)


async def test_newcomer_does_not_overtake() -> None:
    limiter = Limiter(1, 10, 5)
    place = limiter.take()
    assert place is not None
    (waiter,) = await waiting(limiter, "")
    place.close()
    # The waiter's task has not run yet, the place is its own all the same.
    assert limiter.take() is None
    (await waiter).close()


async def test_keys_get_places_in_turn() -> None:
    limiter = Limiter(1, 100, 5)
    place = await limiter.place()
    order: list[str] = []

    async def one(key: str) -> None:
        with await limiter.place(key):
            order.append(key)

    tasks = []
    for key in "aaaaabbc":
        tasks.append(asyncio.create_task(one(key)))
        await turns()
    place.close()
    await asyncio.gather(*tasks)
    assert "".join(order) == "abcabaaa"


@pytest.mark.row("G6")
async def test_full_queue_refuses_at_once() -> None:
    limiter = Limiter(1, 1, 5)
    place = await limiter.place("a")
    assert (limiter.full, limiter.refuses) == (True, False)
    (waiter,) = await waiting(limiter, "a")
    assert limiter.refuses
    seconds = []
    for _ in range(5):  # the machine is shared: the best counts
        started = time.perf_counter()
        with pytest.raises(UpstreamSaturated) as refused:
            await limiter.place("a")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.005
    assert (refused.value.status, refused.value.code) == (503, "upstream_saturated")
    assert refused.value.headers == (("retry-after", "5"),)
    place.close()
    (await waiter).close()


async def test_full_queue_of_one_key_makes_room_for_another() -> None:
    limiter = Limiter(1, 4, 5)
    place = await limiter.place("noisy")
    noisy = await waiting(limiter, *["noisy"] * 4)
    quiet = await waiting(limiter, "quiet", "quiet")
    await turns()
    # The newest of the noisy gave way; when both have as many, nobody does.
    assert [task.done() for task in noisy] == [False, False, True, True]
    assert all(isinstance(task.exception(), UpstreamSaturated) for task in noisy[2:])
    with pytest.raises(UpstreamSaturated):
        await limiter.place("quiet")
    place.close()
    for task in (noisy[0], quiet[0], noisy[1], quiet[1]):
        (await task).close()
    assert limiter.running == 0


async def test_queue_of_none_is_a_plain_limit() -> None:
    limiter = Limiter(1, 0, 5)
    place = await limiter.place()
    with pytest.raises(UpstreamSaturated):
        await limiter.place()
    place.close()
    (await limiter.place()).close()


async def test_wait_ends_by_the_shorter_limit() -> None:
    limiter = Limiter(1, 10, 0.3)
    place = await limiter.place()
    for limit_s, least_s, most_s in ((None, 0.28, 9), (0.01, 0.005, 0.28), (9.0, 0.28, 9), (0.0, 0, 0.2), (-1, 0, 0.2)):
        started = time.perf_counter()
        with pytest.raises(UpstreamSaturated):
            await limiter.place("", limit_s)
        assert least_s <= time.perf_counter() - started <= most_s, limit_s
    assert limiter.waiting == 0
    place.close()
    (await limiter.place()).close()


async def test_cancelled_waiter_leaves_no_hole() -> None:
    limiter = Limiter(1, 10, 5)
    place = await limiter.place()
    first, second, third = await waiting(limiter, "a", "b", "a")
    second.cancel()
    first.cancel()
    place.close()  # in the same turn: their tasks have not run yet
    (await third).close()
    assert (limiter.running, limiter.waiting) == (0, 0)
    assert first.cancelled()
    assert second.cancelled()


async def test_cancelled_waiters_take_no_room() -> None:
    limiter = Limiter(1, 2, 5)
    place = await limiter.place()
    for task in await waiting(limiter, "a", "b"):
        task.cancel()
    await turns()
    assert limiter.waiting == 0
    waiters = await waiting(limiter, "a", "b")
    place.close()
    for waiter in waiters:
        (await waiter).close()


async def test_keys_that_have_nearly_the_same_do_not_take_places_from_each_other() -> None:
    limiter = Limiter(1, 3, 5)
    place = await limiter.place()
    waiters = await waiting(limiter, "a", "a", "b")
    for key in "ab":
        with pytest.raises(UpstreamSaturated):
            await limiter.place(key)
    assert not any(waiter.done() for waiter in waiters)
    place.close()
    for index in (0, 2, 1):
        (await waiters[index]).close()


async def test_place_handed_to_a_waiter_cancelled_in_the_same_moment_goes_on() -> None:
    limiter = Limiter(1, 10, 5)
    place = await limiter.place()
    first, second = await waiting(limiter, "", "")
    place.close()
    first.cancel()
    (await second).close()
    assert first.cancelled()
    assert limiter.running == 0


async def test_task_cancelled_with_its_last_place_gives_it_back() -> None:
    limiter = Limiter(1, 10, 5)
    place = await limiter.place()
    (only,) = await waiting(limiter, "")
    place.close()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert limiter.running == 0
    (await limiter.place()).close()


async def test_limit_that_grows_lets_waiters_in_and_one_that_shrinks_takes_nothing() -> None:
    limiter = Limiter(1, 10, 5)
    place = await limiter.place()
    tasks = await waiting(limiter, "", "", "")
    limiter.limit = 3
    await turns()
    assert [task.done() for task in tasks] == [True, True, False]
    limiter.limit = 1
    assert limiter.running == 3
    place.close()
    tasks[0].result().close()
    await turns()
    assert not tasks[2].done()
    tasks[1].result().close()
    (await tasks[2]).close()


async def test_other_limits_hold_from_then_on() -> None:
    limiter = Limiter(1, 0, 5)
    place = await limiter.place()
    limiter.configure(2, 1, 0.01)
    second = await limiter.place()
    with pytest.raises(UpstreamSaturated):
        await limiter.place()
    budget = RetryBudget(RetrySettings(minimum=0))
    budget.configure(RetrySettings(minimum=2))
    assert budget.limit == 2
    place.close()
    second.close()


async def test_oldest_wait_is_told() -> None:
    now = [100.0]
    limiter = Limiter(1, 10, 5, clock=lambda: now[0])
    place = await limiter.place()
    assert limiter.oldest_s == 0
    tasks = await waiting(limiter, "a")
    now[0] += 2
    tasks += await waiting(limiter, "b")
    assert limiter.oldest_s == 2
    place.close()
    (await tasks[0]).close()
    (await tasks[1]).close()
    assert limiter.oldest_s == 0


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 5), queue=st.integers(0, 20), seed=st.integers(0, 2**32), busy=st.integers(1, 60))
def test_any_crowd_never_exceeds_the_limit_and_loses_nobody(limit: int, queue: int, seed: int, busy: int) -> None:
    draw = random.Random(seed)
    limiter = Limiter(limit, queue, 0.01)
    inside, outcomes = [0], Counter[str]()

    async def visit() -> None:
        try:
            with await limiter.place(draw.choice("abc"), draw.choice([None, 0.001, 0.002])):
                inside[0] += 1
                assert inside[0] <= limit
                try:
                    await asyncio.sleep(draw.choice([0, 0, 0.0005, 0.003]))
                finally:
                    inside[0] -= 1
            outcomes["served"] += 1
        except UpstreamSaturated:
            outcomes["refused"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
            raise

    async def crowd() -> None:
        tasks = [asyncio.create_task(visit()) for _ in range(busy)]
        for task in tasks:
            if draw.random() < 0.3:
                await asyncio.sleep(draw.choice([0, 0.001]))
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Everybody has got an answer (a task cancelled before it ran has none to give), and all places are free.
        never_ran = sum(task.cancelled() for task in tasks) - outcomes["cancelled"]
        assert sum(outcomes.values()) + never_ran == busy
        assert (limiter.running, limiter.waiting, inside[0]) == (0, 0, 0)
        places = [limiter.take() for _ in range(limit + 1)]
        assert [place is None for place in places] == [False] * limit + [True]

    asyncio.run(crowd())


class QueueModel(RuleBasedStateMachine):
    """The queue beside a plain list that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.model: list[tuple[str, int]] = []
        self.turns: list[str] = []
        self.count = 0

    def lengths(self) -> Counter[str]:
        return Counter(key for key, _ in self.model)

    @rule(key=st.sampled_from("abcd"))
    def push(self, key: str) -> None:
        self.count += 1
        self.queue.push(key, self.count)
        self.model.append((key, self.count))
        if key not in self.turns:
            self.turns.append(key)

    @precondition(lambda self: self.model)
    @rule()
    def pop(self) -> None:
        key = self.turns.pop(0)
        expected = next(item for owner, item in self.model if owner == key)
        assert self.queue.pop() == expected
        self.model.remove((key, expected))
        if self.lengths()[key]:
            self.turns.append(key)

    @precondition(lambda self: not self.model)
    @rule()
    def pop_of_nothing(self) -> None:
        with pytest.raises(KeyError):
            self.queue.pop()

    @rule(item=st.integers(1, 60))
    def discard(self, item: int) -> None:
        self.queue.discard(item)
        self.model = [(key, other) for key, other in self.model if other != item]
        self.turns = [key for key in self.turns if self.lengths()[key]]

    @rule(longer_than=st.integers(0, 5))
    def newest_of_the_longest(self, longer_than: int) -> None:
        found, lengths = self.queue.last_of_longest(longer_than), self.lengths()
        longest = max(lengths.values(), default=0)
        if longest <= longer_than:
            assert found is None
        else:
            (key,) = [owner for owner, item in self.model if item == found]
            assert lengths[key] == longest
            assert found == max(item for owner, item in self.model if owner == key)

    @invariant()
    def same(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.oldest() == (self.model[0][1] if self.model else None)
        assert all(self.queue.length_of(key) == self.lengths()[key] for key in "abcde")


TestQueueModel = QueueModel.TestCase


def test_queue_with_ten_thousand_keys_is_as_fast_as_with_ten() -> None:
    def seconds(keys: int) -> float:
        queue: FairQueue[int] = FairQueue()
        for item in range(20_000):
            queue.push(str(item % keys), item)
        started = time.perf_counter()
        for item in range(20_000, 30_000):
            last = queue.last_of_longest(0)
            assert last is not None
            queue.discard(last)
            queue.push(str(item % keys), item)
            queue.push("more", -item)
            queue.pop()
        return time.perf_counter() - started

    few, many = min(seconds(10) for _ in range(3)), min(seconds(10_000) for _ in range(3))
    assert many < 6 * few + 0.05


async def test_budget_is_a_fifth_of_the_running_and_three_at_least() -> None:
    budget = RetryBudget(RetrySettings(wait_s=0.02))
    running = [budget.running() for _ in range(40)]
    limits = []
    for number, request in enumerate(running):
        if number in (0, 1, 15, 19, 39):
            limits.append(budget.limit)
        request.__enter__()
    assert (limits, budget.limit) == ([3, 3, 3, 3, 7], 8)
    granted = [await request.retry() for request in running[:9]]
    assert granted == [True] * 8 + [False]
    assert (budget.retries, budget.exhausted) == (8, 1)
    for request in running:
        request.__exit__(None, None, None)
    assert (budget.active, budget.retries, budget.limit) == (0, 0, 3)


async def test_retry_waits_for_one_that_has_begun_to_answer() -> None:
    budget = RetryBudget(RetrySettings(minimum=1, share=0, wait_s=5))
    with budget.running() as first, budget.running() as second:
        assert await first.retry()
        asked = asyncio.create_task(second.retry())
        await turns()
        assert not asked.done()
        first.began()
        assert await asked
        # Its further tries need no further unit.
        assert await second.retry()
        assert budget.retries == 1
    assert budget.retries == 0


async def test_retry_is_refused_when_the_deadline_is_near() -> None:
    budget = RetryBudget(RetrySettings(minimum=0, share=0, wait_s=5))
    with budget.running() as request:
        started = time.perf_counter()
        assert not await request.retry(limit_s=0.01)
        assert time.perf_counter() - started < 0.5


async def test_request_that_is_cancelled_gives_its_unit_back() -> None:
    budget = RetryBudget(RetrySettings(minimum=1, share=0))
    reached = asyncio.Event()

    async def request() -> None:
        with budget.running() as running:
            assert await running.retry()
            reached.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(request())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (budget.active, budget.retries) == (0, 0)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32), minimum=st.integers(0, 4), share=st.sampled_from([0, 0.2, 1]), busy=st.integers(1, 60)
)
@pytest.mark.row("A18")
def test_any_crowd_of_failures_never_exceeds_the_budget(seed: int, minimum: int, share: float, busy: int) -> None:
    draw = random.Random(seed)
    budget = RetryBudget(RetrySettings(minimum=minimum, share=share, wait_s=0.005))
    most, trying = max(minimum, int(share * busy)), set[int]()

    async def request(number: int) -> None:
        with budget.running() as running:
            await asyncio.sleep(draw.choice([0, 0.001]))
            for _ in range(draw.randint(0, 3)):
                if not await running.retry():
                    return
                trying.add(number)
                assert len(trying) <= budget.retries <= most
                try:
                    await asyncio.sleep(draw.choice([0, 0.001]))
                finally:
                    trying.discard(number)
            running.began()
            await asyncio.sleep(0)

    async def crowd() -> None:
        tasks = [asyncio.create_task(request(number)) for number in range(busy)]
        for task in tasks:
            if draw.random() < 0.2:
                await asyncio.sleep(0)
                task.cancel()
        failures = [e for e in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(e, AssertionError)]
        assert not failures
        assert (budget.active, budget.retries, budget.limit) == (0, 0, minimum)

    asyncio.run(crowd())
