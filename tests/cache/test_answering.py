"""What is answered from the cache, what is kept, and what is not, with answers made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import Opened, Usage
from gateway.cache import Bypass, CachedAnswering, Outcome, ResponseCache, Use, Wish, cache_headers
from gateway.cache.answering import BLOCK_BYTES
from gateway.context import RequestContext
from gateway.cutoff import Cutoff
from gateway.errors import PointsmanError, UpstreamReset
from gateway.openai import ApiRequest, parse
from gateway.settings import CacheSettings, LimitSettings, PassThroughSettings
from gateway.types import Decision, Endpoint, Grant, Reason
from tests.gateway.routing import catalog_of, expert

SETTINGS = CacheSettings.model_validate({"enabled": True, "answer_bytes": 16_384, "memory_bytes": 65_536})
MATH, CODING = expert("math", "math"), expert("coding", "coding")
CATALOG = catalog_of(MATH, CODING)
PLAIN = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'
EVENTS = [
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]


@dataclass
class Lease:
    closed: int = 0
    ends: list[PointsmanError | None] = field(default_factory=list)

    def close(self) -> None:
        self.closed += 1

    def ended(self, error: PointsmanError | None) -> None:
        self.ends.append(error)


class Events:
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = list(chunks)

    async def read_chunk(self) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


@dataclass
class Upstream:
    """Answers as a dispatcher does, with what it is told to."""

    body: bytes = PLAIN
    events: list[bytes] = field(default_factory=lambda: list(EVENTS))
    status: int = 200
    by: str | None = None
    strategic: bool = False
    asked: int = 0
    lease: Lease = field(default_factory=Lease)

    async def open(self, request: ApiRequest, context: RequestContext, cutoff: Cutoff, asked: str | None) -> Opened:
        assert context.decision is not None
        self.asked += 1
        context.chosen, context.usage = self.by or context.decision.expert.name, Usage(3, 2, 1)
        if not request.stream:
            return Opened(self.status, "application/json", self.body, self.lease)
        rest = Events(self.events[1:])
        return Opened(self.status, "text/event-stream", self.events[0], self.lease, rest)

    def is_strategic(self, request: ApiRequest, context: RequestContext, asked: str | None) -> bool:
        return self.strategic


@dataclass
class Counter:
    """A cache in front of an upstream."""

    upstream: Upstream = field(default_factory=Upstream)
    settings: CacheSettings = SETTINGS

    def __post_init__(self) -> None:
        self.cache = ResponseCache(self.settings)
        self.answering = CachedAnswering(self.settings, self.cache, self.upstream)

    async def open(
        self, *, key: str = "a", wish: Wish | None = None, reason: Reason = Reason.CONFIDENT, **fields: Any
    ) -> tuple[Opened, Use, RequestContext]:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, **fields}
        request = parse(Endpoint.CHAT, orjson.dumps(body), LimitSettings(), PassThroughSettings())
        context = RequestContext("r", Endpoint.CHAT, CATALOG, grant=Grant(name=key))
        context.decision = Decision(MATH, reason)
        opened, use = await self.answering.open(request, context, Cutoff(5), None, wish or Wish())
        return opened, use, context

    async def stream(self, *, error: PointsmanError | None = None, **fields: Any) -> tuple[bytes, Use]:
        """Read a stream to its end as the endpoint does."""
        opened, use, _ = await self.open(stream=True, **fields)
        assert opened.stream is not None
        seen = opened.first
        while chunk := await opened.stream.read_chunk():
            seen += chunk
        opened.lease.ended(error)
        opened.lease.close()
        return seen, use


async def test_second_time_nobody_is_asked() -> None:
    counter = Counter()
    first, use, _ = await counter.open()
    assert use == Use(Outcome.MISS)
    second, use, context = await counter.open()
    assert use == Use(Outcome.HIT, age_s=0)
    assert (second.first, second.content_type, second.status) == (first.first, first.content_type, 200)
    assert (context.chosen, context.usage) == ("math", Usage(3, 2, 1))
    assert counter.upstream.asked == 1


async def test_usage_of_a_hit_is_its_own_copy() -> None:
    counter = Counter()
    await counter.open()
    _, _, context = await counter.open()
    context.usage.input_tokens = 99
    _, _, context = await counter.open()
    assert context.usage == Usage(3, 2, 1)


async def test_one_key_never_gets_anothers_answer() -> None:
    counter = Counter()
    await counter.open(key="a")
    _, use, _ = await counter.open(key="b")
    assert (use.outcome, counter.upstream.asked) == (Outcome.MISS, 2)


async def test_shared_scope_gives_answers_to_everybody() -> None:
    counter = Counter(settings=SETTINGS.model_copy(update={"scope": "shared"}))
    await counter.open(key="a")
    _, use, _ = await counter.open(key="b")
    assert use.outcome is Outcome.HIT


async def test_who_names_the_expert_does_not_get_the_answer_with_our_instructions() -> None:
    counter = Counter()
    await counter.open()
    _, use, _ = await counter.open(reason=Reason.PINNED)
    assert use.outcome is Outcome.MISS


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"temperature": 0.5}, Bypass.SAMPLED),
        ({"n": 2}, Bypass.SEVERAL_ANSWERS),
        ({"wish": Wish(look=False, keep=False)}, Bypass.NO_STORE),
        ({"messages": [{"role": "user", "content": "x" * 2**20}]}, Bypass.TOO_LONG),
    ],
)
async def test_bypass_asks_and_keeps_nothing(fields: dict[str, Any], why: Bypass) -> None:
    counter = Counter()
    for _ in range(2):
        _, use, _ = await counter.open(**fields)
        assert use == Use(Outcome.BYPASS, why=why)
    assert (counter.upstream.asked, len(counter.cache)) == (2, 0)


async def test_strategy_bypasses_both_ways() -> None:
    counter = Counter()
    await counter.open()
    counter.upstream.strategic = True
    _, use, _ = await counter.open()
    assert use == Use(Outcome.BYPASS, why=Bypass.STRATEGY)


async def test_no_cache_asks_anew_and_keeps_the_new_answer() -> None:
    counter = Counter()
    await counter.open()
    counter.upstream.body = PLAIN.replace(b"hi", b"new")
    _, use, _ = await counter.open(wish=Wish(look=False))
    assert use.outcome is Outcome.MISS
    opened, use, _ = await counter.open()
    assert (use.outcome, b"new" in opened.first) == (Outcome.HIT, True)


async def test_max_age_zero_seconds_may_still_be_fresh_but_unreadable_is_not() -> None:
    counter = Counter()
    await counter.open()
    _, use, _ = await counter.open(wish=Wish(max_age_s=-1))
    assert use.outcome is Outcome.MISS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [201, 204, 400, 429, 500, 503])
async def test_other_answers_than_200_are_not_kept(status: int, stream: bool) -> None:
    counter = Counter(Upstream(status=status))
    for _ in range(2):
        if stream:
            await counter.stream()
        else:
            await counter.open()
    assert (counter.upstream.asked, len(counter.cache)) == (2, 0)


async def test_answer_of_a_fallback_is_not_kept() -> None:
    counter = Counter(Upstream(by="coding"))
    await counter.open()
    await counter.stream()
    assert len(counter.cache) == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"h"},"finish_reason":"abort"}]}',
        b'{"choices":[{"message":{"content":"h"},"finish_reason" : "error"}]}',
        b'{"object":"error","message":"no"}',
        b'{"error":{"message":"no"}}',
    ],
)
async def test_engine_that_gave_up_with_status_200_is_not_kept(body: bytes) -> None:
    counter = Counter(Upstream(body=body))
    await counter.open()
    assert len(counter.cache) == 0


async def test_text_that_talks_of_errors_is_kept() -> None:
    text = 'The answer is {"error": 1}, "object": "error", "finish_reason":"abort".'
    counter = Counter(Upstream(body=orjson.dumps({"choices": [{"message": {"content": text}}]})))
    await counter.open()
    assert len(counter.cache) == 1


async def test_whole_stream_is_given_again_as_it_came() -> None:
    counter = Counter()
    first, use = await counter.stream()
    assert use.outcome is Outcome.MISS
    assert counter.upstream.lease.ends == [None]
    second, use = await counter.stream()
    assert (second, use.outcome) == (b"".join(EVENTS), Outcome.HIT)
    assert first == second
    assert counter.upstream.asked == 1


async def test_streams_and_plain_answers_are_kept_apart() -> None:
    counter = Counter()
    await counter.open()
    _, use = await counter.stream()
    assert use.outcome is Outcome.MISS


@pytest.mark.parametrize(
    "events",
    [
        EVENTS[:-1],
        [*EVENTS, EVENTS[0]],
        [EVENTS[0], b"data: {not json}\n\n", EVENTS[-1]],
        [EVENTS[0], b"data: []\n\n", EVENTS[-1]],
        [EVENTS[0], b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\n', EVENTS[-1]],
        [b'data: {"error":{"message":"no"}}\n\n', EVENTS[-1]],
        [b"data: [DONE]"[:-1]],
        [b"\x00\xff"],
    ],
)
async def test_stream_that_is_not_whole_is_not_kept_though_it_ended_well(events: list[bytes]) -> None:
    counter = Counter(Upstream(events=events))
    seen, _ = await counter.stream()
    assert seen == b"".join(events)
    assert (len(counter.cache), counter.cache.state().held_bytes) == (0, 0)


async def test_comments_between_events_do_no_harm() -> None:
    counter = Counter(Upstream(events=[b": keep-alive\n\n", *EVENTS]))
    await counter.stream()
    assert len(counter.cache) == 1


async def test_stream_that_broke_is_not_kept() -> None:
    counter = Counter()
    error = UpstreamReset("gone")
    await counter.stream(error=error)
    assert (len(counter.cache), counter.upstream.lease.ends) == (0, [error])
    assert counter.cache.state().held_bytes == 0


async def test_stream_whose_client_left_is_not_kept_and_its_memory_is_given_back() -> None:
    counter = Counter()
    opened, _, _ = await counter.open(stream=True)
    assert opened.stream is not None
    await opened.stream.read_chunk()
    assert counter.cache.state().held_bytes > 0
    opened.lease.close()
    assert (len(counter.cache), counter.cache.state().held_bytes) == (0, 0)
    assert counter.upstream.lease.closed == 1
    opened.lease.ended(None)
    assert len(counter.cache) == 0


async def test_too_long_a_stream_passes_and_is_not_kept() -> None:
    events = [b"data: " + b"x" * 5_000 + b"\n\n"] * 5
    counter = Counter(Upstream(events=events))
    seen, _ = await counter.stream()
    assert seen == b"".join(events)
    assert (len(counter.cache), counter.cache.state().held_bytes) == (0, 0)


async def test_many_streams_at_once_stay_within_the_memory_and_all_pass() -> None:
    event = b'data: {"x":"' + b"x" * 3_000 + b'"}\n\n'
    counter = Counter(Upstream(events=[event, event, event, b"data: [DONE]\n\n"]))
    opened = [(await counter.open(stream=True, seed=number))[0] for number in range(50)]
    for answer in opened:
        assert answer.stream is not None
        while await answer.stream.read_chunk():
            assert counter.cache.state().held_bytes <= SETTINGS.memory_bytes
    for answer in opened:
        answer.lease.ended(None)
    assert 1 <= len(counter.cache) <= 5
    assert counter.cache.state().held_bytes <= SETTINGS.memory_bytes


texts = st.lists(st.text(max_size=9_000), min_size=1, max_size=4)


@given(texts, st.integers(1, 20_000), st.sampled_from(["\n\n", "\r\n\r\n"]))
async def test_any_stream_comes_back_byte_for_byte_in_bounded_pieces(said: list[str], cut: int, end: str) -> None:
    written = [b"data: " + orjson.dumps({"choices": [{"text": text}]}) for text in said]
    body = end.encode().join([*written, b"data: [DONE]", b""])
    chunks = [body[at : at + cut] for at in range(0, len(body), cut)]
    counter = Counter(Upstream(events=chunks), CacheSettings(enabled=True))
    first, _ = await counter.stream()
    opened, use, _ = await counter.open(stream=True)
    assert use.outcome is Outcome.HIT
    assert opened.stream is not None
    pieces = [opened.first]
    while chunk := await opened.stream.read_chunk():
        pieces.append(chunk)
    assert b"".join(pieces) == first
    assert all(len(piece) <= BLOCK_BYTES for piece in pieces)


def test_headers_say_hit_and_age_and_nothing_without_a_cache() -> None:
    assert cache_headers(None, None) == []
    assert cache_headers("miss", None) == [(b"x-pointsman-cache", b"miss")]
    assert cache_headers(Outcome.HIT, 0) == [(b"x-pointsman-cache", b"hit"), (b"age", b"0")]
