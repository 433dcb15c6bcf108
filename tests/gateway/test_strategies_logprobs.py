"""Log-probabilities that nobody but us asked for: counted, and gone without a trace, wherever a stream is cut."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import Opened
from gateway.errors import PointsmanError, UpstreamBadResponse
from gateway.strategies._logprobs import Confidence, Unasked, without_logprobs


def chunk(text: str, logprob: float | None, *, spare: str = "") -> bytes:
    given = "null"
    if logprob is not None:
        given = f'{{"content":[{{"token":"x","logprob":{logprob},"bytes":[120],"top_logprobs":[]}}]}}'
    delta = orjson.dumps({"content": text}).decode()
    return f'data: {{"id":"a","choices":[{{"index":0,"delta":{delta},"logprobs":{given}}}]{spare}}}\n\n'.encode()


class Chunks:
    """A stream of given chunks."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def read_chunk(self) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    def close(self) -> None:
        return None

    def ended(self, error: PointsmanError | None) -> None:
        return None


def unasked(chunks: list[bytes], *, logprobs: bool = False, usage: bool = False, limit: int = 1 << 20) -> Unasked:
    stream = Chunks(chunks)
    opened = Opened(200, "text/event-stream", b"", stream, stream)
    return Unasked(opened, limit, logprobs=logprobs, running_usage=usage)


async def drained(stream: Unasked) -> bytes:
    out = b""
    while piece := await stream.read_chunk():
        out += piece
    return out


USAGE = ',"usage":{"prompt_tokens":3,"completion_tokens":2}'
TRAPS = ['say "logprobs":{"content":[]} and "usage":{}', "\\", "\n\ndata: [DONE]\n\n", "é🎉", '{"error":1}']
SENT = b"".join(
    [chunk("", None), *(chunk(text, -1.0 - i, spare=USAGE) for i, text in enumerate(TRAPS)), b": keep-alive\n\n"]
    + [b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n', b"data: [DONE]\n\n"]
)
SHOWN = b"".join(
    [chunk("", None), *(chunk(text, None) for text in TRAPS), b": keep-alive\n\n"]
    + [b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n', b"data: [DONE]\n\n"]
)


@given(st.lists(st.integers(0, len(SENT)), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
async def test_stream_cut_anywhere_looks_as_if_nobody_had_asked(cuts: list[int], newline: bytes) -> None:
    sent, shown = SENT.replace(b"\n\n", newline * 2), SHOWN.replace(b"\n\n", newline * 2)
    places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    stream = unasked([sent[a:b] for a, b in zip(places, places[1:], strict=False) if a < b])
    assert await drained(stream) == shown
    assert (stream.confidence.tokens, stream.confidence.mean) == (5, -3.0)
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (3, 5)
    assert not stream.failed


async def test_stream_what_was_asked_for_stays() -> None:
    assert await drained(unasked([SENT], logprobs=True, usage=True)) == SENT
    assert b'"usage":{"prompt_tokens":3,"completion_tokens":2}' not in await drained(unasked([SENT], logprobs=True))


async def test_stream_unfinished_event_comes_at_the_end_as_it_is() -> None:
    assert await drained(unasked([chunk("a", -1.0), b'data: {"cho'])) == chunk("a", None) + b'data: {"cho'


async def test_stream_endless_event_is_refused() -> None:
    with pytest.raises(UpstreamBadResponse):
        await drained(unasked([b"data: " + b"x" * 2000], limit=1000))


async def test_stream_error_event_is_noticed() -> None:
    stream = unasked([b'data: {"error":{"message":"EngineCore died"}}\n\n'])
    assert b"EngineCore" in await drained(stream)
    assert stream.failed


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        [],
        {"content": None},
        {"content": 5},
        {"content": [None, 5, {}, {"logprob": None}, {"logprob": "x"}, {"logprob": True}]},
    ],
)
def test_confidence_malformed_entries_count_as_nothing(given: Any) -> None:
    confidence = Confidence()
    confidence.add({"choices": [{"logprobs": given}, 5]})
    confidence.add({"choices": given})
    assert (confidence.tokens, confidence.mean) == (0, 0.0)


def test_confidence_one_impossible_token_does_not_outweigh_the_rest() -> None:
    confidence = Confidence()
    entries = [{"logprob": -9999.0}, *({"logprob": -0.1} for _ in range(99))]
    confidence.add({"choices": [{"logprobs": {"content": entries}}]})
    assert confidence.mean == pytest.approx(-(20 + 9.9) / 100)


def test_plain_answer_loses_its_logprobs_and_nothing_else() -> None:
    body = {"id": "ä", "choices": [{"index": 0, "logprobs": {"content": []}, "stop_reason": None}], "usage": {"a": 1}}
    assert without_logprobs(body) == (
        '{"id":"ä","choices":[{"index":0,"logprobs":null,"stop_reason":null}],"usage":{"a":1}}'.encode()
    )
