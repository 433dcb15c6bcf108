"""Every sampled request gets the same answer through the gateway as from vLLM itself, byte for byte."""

from __future__ import annotations

import pytest

from .cases import Case, accepted, refused
from .normalise import normalise
from .processes import VllmServer
from .wire import Reply, ask

pytestmark = pytest.mark.vllm

# vLLM joins tokens into one chunk when its event loop is late, so two direct runs of one stream may differ, too.
ATTEMPTS = 4


def _comparable(reply: Reply) -> tuple[int, str, bytes]:
    return reply.status, reply.content_type, normalise(reply.body)


def _assert_same(case: Case, direct_url: str, gateway_url: str) -> Reply:
    """Send the request to both until they agree, a few times at most; return vLLM's answer."""
    ask(direct_url, case.path, case.body)  # so that both find the same prefixes cached
    for _ in range(ATTEMPTS):
        direct = ask(direct_url, case.path, case.body)
        through = ask(gateway_url, case.path, case.body)
        if _comparable(direct) == _comparable(through):
            return direct
    assert _comparable(through) == _comparable(direct)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("case", accepted(), ids=lambda case: case.name)
def test_gateway_sampled_request_same_bytes_as_vllm(
    case: Case, vllm: dict[str, VllmServer], gateway_url: str
) -> None:
    direct = _assert_same(case, vllm[case.server].url, gateway_url)
    assert direct.status == 200 or "refused" in case.name, direct.body


@pytest.mark.parametrize("case", refused(), ids=lambda case: case.name)
def test_gateway_request_only_vllm_can_refuse_passes_status_and_body(
    case: Case, vllm: dict[str, VllmServer], gateway_url: str
) -> None:
    direct = _assert_same(case, vllm[case.server].url, gateway_url)
    assert direct.status >= 400, direct.body
