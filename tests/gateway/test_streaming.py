import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.context import Usage
from gateway.errors import UpstreamBadResponse, UpstreamReset
from gateway.streaming import StreamRelay, error_event, note_usage
from gateway.types import Endpoint

TOKEN = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"say \\"usage\\": {} or \\n\\ndata: [DONE]"}}]}\n\n'
FINISH = b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"a","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2},"system_fingerprint":"v"}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = TOKEN + TOKEN + FINISH + USAGE + DONE
VISIBLE = TOKEN + TOKEN + FINISH.replace(b"}]}", b'}],"system_fingerprint":"v"}') + DONE


def relay_for(endpoint: Endpoint = Endpoint.CHAT, *, hide_usage: bool = True, limit: int = 1 << 20) -> StreamRelay:
    return StreamRelay(endpoint, hide_usage=hide_usage, event_limit_bytes=limit)


def is_finished(relay: StreamRelay) -> bool:
    """Ask anew: mypy takes an attribute once asserted for settled."""
    return relay.finished


def fed(relay: StreamRelay, chunks: list[bytes]) -> bytes:
    return b"".join(relay.feed(chunk) for chunk in chunks) + relay.held()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
@pytest.mark.row("A11")
def test_feed_stream_cut_anywhere_gives_the_same(cuts: list[int], hide: bool, newline: bytes) -> None:
    stream, visible = (text.replace(b"\n", newline) for text in (STREAM, VISIBLE))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    relay = relay_for(hide_usage=hide)
    out = fed(relay, [stream[a:b] for a, b in zip(places, places[1:], strict=False)])
    assert out == (visible if hide else stream)
    assert relay.finished
    assert relay.usage == Usage(7, 2)


@pytest.mark.parametrize("hide", [True, False])
def test_feed_half_event_waits_for_its_end(hide: bool) -> None:
    relay = relay_for(hide_usage=hide)
    assert relay.feed(TOKEN + TOKEN[:20]) == TOKEN
    assert relay.feed(TOKEN[20:]) == TOKEN


def test_feed_finish_without_usage_chunk_is_not_lost() -> None:
    relay = relay_for()
    assert relay.feed(TOKEN + FINISH) == TOKEN
    assert relay.feed(DONE) == FINISH + DONE


def test_held_stream_cut_after_finish_gives_the_finish() -> None:
    relay = relay_for()
    relay.feed(FINISH)
    assert relay.held() == FINISH
    assert not relay.finished


def test_feed_usage_beside_choices_is_shown() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    relay = relay_for()
    assert relay.feed(event) == event
    assert relay.usage.input_tokens == 1


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("split", [1, 5, 1000])
def test_feed_error_event_ends_the_stream_there(hide: bool, split: int) -> None:
    error = b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}\n\n'
    stream = TOKEN + error + DONE
    relay = relay_for(hide_usage=hide)
    out = b""
    for start in range(0, len(stream), split):
        out += relay.feed(stream[start : start + split])
        if relay.failure is not None:
            break
    assert relay.failure is not None
    assert relay.failure.code == "upstream_broke"
    assert not relay.finished
    assert (out, relay.held()) == (TOKEN, error)


def test_feed_stream_without_done_is_unfinished() -> None:
    relay = relay_for()
    fed(relay, [TOKEN, FINISH])
    assert not relay.finished


@pytest.mark.row("A13")
def test_feed_endless_line_is_refused() -> None:
    relay = relay_for(limit=1000)
    with pytest.raises(UpstreamBadResponse):
        relay.feed(b"data: " + b"x" * 2000)


@pytest.mark.parametrize(
    "event", [b"data:{bad\n\n", b"no colon\n\n", b": comment\n\n", b"\n\n", b"data: 5\n\n", b'data: {"usage":5}\n\n']
)
@pytest.mark.row("A10")
def test_feed_malformed_event_is_relayed_as_it_is(event: bytes) -> None:
    relay = relay_for()
    assert relay.feed(event) == event
    assert relay.failure is None


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_feed_responses_stream_ends_by_its_last_event(kind: str) -> None:
    relay = relay_for(Endpoint.RESPONSES, hide_usage=False)
    relay.feed(b'event: response.created\ndata: {"response":{"usage":null}}\n\n')
    assert not is_finished(relay)
    relay.feed(
        f"event: response.{kind}\n".encode() + b'data: {"response":{"usage":{"input_tokens":3,"output_tokens":4}}}\n\n'
    )
    assert is_finished(relay)
    assert relay.usage == Usage(3, 4)


def test_feed_messages_stream_collects_usage_from_both_ends() -> None:
    relay = relay_for(Endpoint.MESSAGES, hide_usage=False)
    relay.feed(b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n')
    relay.feed(b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n')
    assert not is_finished(relay)
    relay.feed(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert is_finished(relay)
    assert (relay.usage.input_tokens, relay.usage.output_tokens) == (9, 5)


def test_note_usage_cached_tokens_are_read_where_given() -> None:
    usage = Usage()
    note_usage(usage, {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}})
    note_usage(usage, {"prompt_tokens_details": None, "prompt_tokens": "many"})
    assert usage == Usage(5, 1, 4)


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_error_event_carries_the_openai_error(endpoint: Endpoint) -> None:
    event = error_event(UpstreamReset("gone"), endpoint)
    assert event.endswith(b"\n\n")
    data = next(line for line in event.splitlines() if line.startswith(b"data: "))
    payload = orjson.loads(data[6:])
    assert payload["error"] == {"message": "gone", "type": "server_error", "param": None, "code": "upstream_reset"}
    assert payload.get("type") == ("error" if endpoint in (Endpoint.MESSAGES, Endpoint.RESPONSES) else None)
