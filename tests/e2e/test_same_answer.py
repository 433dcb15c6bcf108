"""Every sampled request gets the answer vLLM gives, byte for byte.

Two comparisons each. With a tap between gateway and vLLM: the client got exactly the bytes that vLLM sent for this
very request, and vLLM got exactly the fields that the client sent. With vLLM asked directly: the same content; ids
and timestamps aside, a plain answer is equal byte for byte, and a stream after joining what vLLM's own timing cut
differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .cases import Body, Case, accepted, refused
from .joined import joined
from .normalise import normalise
from .processes import VllmServer, gateway
from .tap import Overheard, Tap, tapped
from .wire import Reply, ask

pytestmark = pytest.mark.vllm

_FINGERPRINT = re.compile(rb'"system_fingerprint":"[^"]*"')


@pytest.fixture(scope="module")
def taps(vllm: dict[str, VllmServer]) -> Iterator[dict[str, Tap]]:
    """A tap in front of every vLLM server, by kind."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(tapped(server.url)) for kind, server in vllm.items()}


@pytest.fixture(scope="module")
def tapped_gateway(
    experts: dict[str, Any],
    vllm: dict[str, VllmServer],
    taps: dict[str, Tap],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A gateway whose upstreams are the taps."""
    config = json.dumps(experts)
    for kind, server in vllm.items():
        config = config.replace(server.url, taps[kind].url)
    with gateway(tmp_path_factory.mktemp("tapped-gateway"), json.loads(config)) as url:
        yield url


@pytest.mark.parametrize("case", list(accepted()), ids=lambda case: case.name)
def test_gateway_sampled_request_same_answer_as_vllm(
    case: Case, vllm: dict[str, VllmServer], taps: dict[str, Tap], tapped_gateway: str
) -> None:
    direct, through, heard = _exchange(case, vllm, taps, tapped_gateway)
    assert direct.status == 200, direct.body
    _assert_relayed(case, heard, through)
    _assert_same(case, direct, through)


@pytest.mark.parametrize("case", list(refused()), ids=lambda case: case.name)
def test_gateway_request_only_vllm_can_refuse_passes_status_and_body(
    case: Case, vllm: dict[str, VllmServer], taps: dict[str, Tap], tapped_gateway: str
) -> None:
    direct, through, heard = _exchange(case, vllm, taps, tapped_gateway)
    assert direct.status >= 400, direct.body
    assert (through.status, through.body) == (heard.status, heard.response_body)
    _assert_same(case, direct, through)


def _exchange(
    case: Case, vllm: dict[str, VllmServer], taps: dict[str, Tap], gateway_url: str
) -> tuple[Reply, Reply, Overheard]:
    """Send a request to vLLM, and through gateway and tap; once before, so that both find the same prefix cached."""
    ask(vllm[case.server].url, case.path, case.body)
    direct = ask(vllm[case.server].url, case.path, case.body)
    through = ask(gateway_url, case.path, case.body)
    exchanges = taps[case.server].exchanges
    assert through.headers["x-request-id"] in exchanges, through
    return direct, through, exchanges[through.headers["x-request-id"]]


def _assert_relayed(case: Case, heard: Overheard, through: Reply) -> None:
    asked: Body = json.loads(heard.request_body)
    sent_bytes = heard.response_body
    if case.hides_usage:
        assert asked.pop("stream_options")["include_usage"] is True
        asked |= {key: case.body[key] for key in ("stream_options",) if key in case.body}
        sent_bytes = _as_if_not_asked(sent_bytes)
    assert asked == case.body
    assert list(asked) == list(case.body)
    assert (through.status, through.content_type) == (heard.status, heard.content_type)
    assert through.body == sent_bytes


def _as_if_not_asked(stream: bytes) -> bytes:
    """Undo what asking for usage changes: an event more, to which the fingerprint moves from the one before."""
    events = stream.split(b"\n\n")
    (hidden,) = (event for event in events if b'"choices":[]' in event and b'"usage":{' in event)
    place = events.index(hidden) - 1
    fingerprint = _FINGERPRINT.search(hidden)
    assert fingerprint, hidden
    events[place] = events[place].removesuffix(b"}") + b"," + fingerprint.group() + b"}"
    return b"\n\n".join(event for event in events if event is not hidden)


def _assert_same(case: Case, direct: Reply, through: Reply) -> None:
    assert (through.status, through.content_type) == (direct.status, direct.content_type)
    if direct.content_type.startswith("text/event-stream"):
        assert joined(_comparable(case, through.body)) == joined(_comparable(case, direct.body))
    else:
        assert normalise(through.body) == normalise(direct.body)


def _comparable(case: Case, stream: bytes) -> bytes:
    """Set aside the fingerprints of several choices: one that ends early goes out before the usage chunk is there."""
    if not (case.hides_usage and stream.count(b'"finish_reason":"') > 1):
        return stream
    return re.sub(rb"," + _FINGERPRINT.pattern, b"", stream)
