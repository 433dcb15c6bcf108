"""Embeddings: vectors, encodings, refusals."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from gateway.sim import EMBEDDING_SERVICES, SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import RawAnswer, post


async def embed(start: StartSim, **fields: Any) -> RawAnswer:
    server = await start(SimExpert("e", serves=EMBEDDING_SERVICES, max_model_len=100))
    return await post(server, "/v1/embeddings", fields)


async def test_embeddings_has_vllms_keys_and_unit_vectors(sim_server: StartSim) -> None:
    whole = (await embed(sim_server, input=["hello", "good bye", "hello"])).json
    assert tuple(whole) == ("id", "object", "created", "model", "data", "usage")
    assert [entry["index"] for entry in whole["data"]] == [0, 1, 2]
    vectors = [entry["embedding"] for entry in whole["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.hypot(*vectors[0]) == pytest.approx(1.0)
    assert whole["usage"]["prompt_tokens"] == 4


async def test_embeddings_base64_holds_the_same_floats(sim_server: StartSim) -> None:
    plain = (await embed(sim_server, input="hello")).json["data"][0]["embedding"]
    packed = (await embed(sim_server, input="hello", encoding_format="base64")).json["data"][0]["embedding"]
    raw = base64.b64decode(packed)
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(plain)


@pytest.mark.parametrize(("wanted", "count"), [([5, 6, 7], 1), ([[5, 6], [7]], 2), ("", 1)])
async def test_embeddings_token_numbers_and_empty_text_pass(sim_server: StartSim, wanted: Any, count: int) -> None:
    assert len((await embed(sim_server, input=wanted)).json["data"]) == count


@pytest.mark.parametrize(
    ("fields", "status", "param", "message"),
    [
        ({"input": []}, 400, None, "You must pass at least one prompt"),
        ({"input": 5}, 400, "body.input", "valid list"),
        ({"input": "x", "encoding_format": "hex"}, 400, "body.encoding_format", "'base64'"),
        ({"input": "x", "dimensions": 8}, 400, None, "does not support Matryoshka"),
        ({"input": "x", "model": "nope"}, 404, None, "The model `nope` does not exist."),
        ({"input": "x" * 7000}, 400, "input_text", "7000 characters"),
    ],
)
async def test_embeddings_refusals_are_vllms(
    sim_server: StartSim, fields: dict[str, Any], status: int, param: str | None, message: str
) -> None:
    answer = await embed(sim_server, **fields)
    assert answer.status == status
    assert answer.json["error"]["param"] == param
    assert message in answer.json["error"]["message"]
