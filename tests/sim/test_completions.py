"""Completions: keys, lists of prompts, echo, token numbers, log-probabilities."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.sim import SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import RawAnswer, post


async def complete(start: StartSim, **fields: Any) -> RawAnswer:
    return await post(await start(SimExpert("m", max_model_len=100)), "/v1/completions", fields)


async def test_completion_has_vllms_keys_and_16_tokens_by_default(sim_server: StartSim) -> None:
    whole = (await complete(sim_server, prompt="Once upon")).json
    assert tuple(whole) == (
        *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage"),
        *("kv_transfer_params", "ec_transfer_params", "metrics"),
    )
    assert tuple(whole["choices"][0]) == (
        *("index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids"),
        *("prompt_logprobs", "prompt_token_ids", "routed_experts"),
    )
    assert whole["object"] == "text_completion"
    assert whole["id"].startswith("cmpl-")
    assert whole["usage"]["completion_tokens"] == 16
    assert whole["usage"]["prompt_tokens"] == 2
    assert whole["choices"][0]["text"].startswith("[simulated answer]")


async def test_completion_list_of_prompts_gives_a_choice_each(sim_server: StartSim) -> None:
    whole = (await complete(sim_server, prompt=["a b", "c d e"], max_tokens=2, n=2)).json
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert whole["usage"]["prompt_tokens"] == 5
    assert whole["usage"]["completion_tokens"] == 8


async def test_completion_token_numbers_count_one_each(sim_server: StartSim) -> None:
    assert (await complete(sim_server, prompt=[5, 6, 7])).json["usage"]["prompt_tokens"] == 3


async def test_completion_echo_repeats_the_prompt(sim_server: StartSim) -> None:
    whole = (await complete(sim_server, prompt="a b", echo=True, max_tokens=2)).json
    assert whole["choices"][0]["text"] == "a b[simulated"


async def test_completion_logprobs_have_offsets_into_the_text(sim_server: StartSim) -> None:
    choice = (await complete(sim_server, prompt="a", max_tokens=3, logprobs=2)).json["choices"][0]
    logprobs = choice["logprobs"]
    assert tuple(logprobs) == ("text_offset", "token_logprobs", "tokens", "top_logprobs")
    for offset, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
        assert choice["text"][offset : offset + len(token)] == token
    assert all(len(others) == 2 for others in logprobs["top_logprobs"])


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({}, "prompt", "Either prompt or prompt_embeds must be provided and non-empty."),
        ({"prompt": ""}, "prompt", "Either prompt or prompt_embeds must be provided and non-empty."),
        ({"prompt": "a", "suffix": "z"}, "suffix", "suffix is only supported for models with FIM"),
        ({"prompt": [10**9]}, None, "Token id 1000000000 is out of vocabulary"),
        ({"prompt": "x " * 200}, "input_tokens", "at least 101 input tokens"),
        ({"prompt": "a", "stream_options": {}}, "stream_options", "`stream=True`"),
    ],
)
async def test_completion_bad_field_is_refused_as_by_vllm(
    sim_server: StartSim, fields: dict[str, Any], param: str | None, message: str
) -> None:
    answer = await complete(sim_server, **fields)
    assert answer.status == 400
    assert answer.json["error"]["param"] == param
    assert message in answer.json["error"]["message"]
