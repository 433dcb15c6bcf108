"""Fixtures: three real vLLM servers and a gateway in front of them, once per session.

They cost 3 GiB and, the first time, an installation; so these tests run only when `POINTSMAN_TEST_VLLM=1` asks for
them (`make test-vllm`), and then a server that cannot be had is a failure, not a skip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from .processes import VllmServer, gateway, vllm_servers

SWITCH = "POINTSMAN_TEST_VLLM"
TEST_TIMEOUT_S = 60
PRICE = {"input": 0.2, "output": 0.2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with a reason unless asked for; let the time limit count tests, not the start of the servers."""
    for item in items:
        if item.get_closest_marker("vllm") is None:
            continue
        item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))
        if not os.environ.get(SWITCH):
            item.add_marker(pytest.mark.skip(reason=f"real vLLM servers: set {SWITCH}=1 or run `make test-vllm`"))


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, VllmServer]]:
    """The servers by kind: `lora`, `reasoner`, `embed`."""
    with vllm_servers(tmp_path_factory.mktemp("vllm"), "lora", "reasoner", "embed") as servers:
        yield servers


@pytest.fixture(scope="session")
def experts(vllm: dict[str, VllmServer]) -> dict[str, Any]:
    """The configuration: a generalist and three experts on three servers."""
    lora, reasoner, embed = (vllm[kind].url for kind in ("lora", "reasoner", "embed"))
    return {
        "generalist": {"model": "tiny", "upstreams": [lora], "price": PRICE},
        "experts": {
            "math": {"model": "tiny-lora", "domains": ["math"], "upstreams": [lora], "price": PRICE},
            "law": {"model": "tiny-lora2", "domains": ["law"], "upstreams": [lora]},
            "coding": {"model": "tiny-reasoner", "domains": ["coding"], "upstreams": [reasoner]},
            "nickname": {"model": "tiny-alias", "upstreams": [lora]},
            "embed": {"model": "tiny-bert", "upstreams": [embed], "serves": ["embeddings"]},
        },
        "router": {"artifact": "default", "minimum_confidence": 0.55},
        "policy": {"name": "modem"},
    }


@pytest.fixture(scope="session")
def gateway_url(experts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway's address."""
    with gateway(tmp_path_factory.mktemp("gateway"), experts) as url:
        yield url
