"""Chat answers have vLLM's keys in vLLM's order and say that they are simulated."""

from __future__ import annotations

import importlib
import json

import pytest

from gateway.sim import SimExpert
from gateway.sim.tokens import tokenise
from tests.fixtures_sim import StartSim
from tests.sim.wire import CHAT, HELLO, chat, post

WHOLE_KEYS = (
    *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage"),
    *("prompt_logprobs", "prompt_token_ids", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"),
)
CHOICE_KEYS = ("index", "message", "logprobs", "finish_reason", "stop_reason", "token_ids", "routed_experts")
MESSAGE_KEYS = ("role", "content", "refusal", "annotations", "audio", "function_call", "reasoning")
USAGE_KEYS = (
    *("prompt_tokens", "total_tokens", "completion_tokens"),
    *("prompt_tokens_details", "completion_tokens_details"),
)


async def test_chat_whole_answer_has_vllms_keys_in_order(sim_server: StartSim) -> None:
    answer = await chat(await sim_server(), max_tokens=3)
    whole = answer.json
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"] == "uvicorn"
    assert tuple(whole) == WHOLE_KEYS
    assert tuple(whole["choices"][0]) == CHOICE_KEYS
    assert tuple(whole["choices"][0]["message"]) == MESSAGE_KEYS
    assert tuple(whole["usage"]) == USAGE_KEYS
    assert whole["object"] == "chat.completion"
    assert whole["id"].startswith("chatcmpl-")
    assert len(whole["id"]) == len("chatcmpl-") + 16
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 3
    assert whole["choices"][0]["finish_reason"] == "length"


async def test_chat_answer_names_expert_domain_and_prompt(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("Qwen/Math", "math"))
    text = (await chat(server)).json["choices"][0]["message"]["content"]
    assert text.startswith("[simulated answer] expert `Qwen/Math` (domain math) would answer:")
    assert '"Hello there"' in text
    assert "No model ran" in text


async def test_chat_same_request_gives_same_text(sim_server: StartSim) -> None:
    server = await sim_server()
    first, second = [(await chat(server, temperature=1)).json for _ in range(2)]
    assert first["choices"] == second["choices"]
    assert first["id"] != second["id"]


@pytest.mark.parametrize("name", ["m", "m-alias", "", None])
async def test_chat_alias_or_no_model_answers_as_base_model(sim_server: StartSim, name: str | None) -> None:
    server = await sim_server(SimExpert("m", aliases=("m-alias",)))
    assert (await chat(server, model=name)).json["model"] == "m"


async def test_chat_adapter_answers_under_its_own_name(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", adapters=("m-law",)))
    whole = (await chat(server, model="m-law")).json
    assert whole["model"] == "m-law"
    assert "expert `m-law`" in whole["choices"][0]["message"]["content"]


async def test_chat_several_experts_share_a_port_by_name(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("a", "math"), SimExpert("b", "law"))
    texts = [(await chat(server, model=name)).json["choices"][0]["message"]["content"] for name in ("a", "b")]
    assert "domain math" in texts[0]
    assert "domain law" in texts[1]


async def test_chat_body_id_follows_request_id_header_unescaped(sim_server: StartSim) -> None:
    answer = await post(await sim_server(), CHAT, {"messages": HELLO}, x_request_id='my id "1"')
    assert answer.json["id"] == 'chatcmpl-my id "1"'


async def test_chat_body_id_follows_request_id_field(sim_server: StartSim) -> None:
    assert (await chat(await sim_server(), request_id="abc")).json["id"] == "chatcmpl-abc"


async def test_chat_n_gives_different_choices_and_summed_usage(sim_server: StartSim) -> None:
    whole = (await chat(await sim_server(), n=3, max_tokens=20)).json
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in whole["choices"]}) == 3
    assert whole["usage"]["completion_tokens"] == 60


async def test_chat_numeric_string_limits_tokens(sim_server: StartSim) -> None:
    assert (await chat(await sim_server(), max_tokens="3")).json["usage"]["completion_tokens"] == 3


async def test_chat_limit_beyond_context_is_cut_silently(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", max_model_len=50))
    whole = (await chat(server, max_tokens=50, ignore_eos=True)).json
    assert whole["usage"]["total_tokens"] == 50
    assert whole["choices"][0]["finish_reason"] == "length"


async def test_chat_newer_limit_name_wins(sim_server: StartSim) -> None:
    whole = (await chat(await sim_server(), max_tokens=9, max_completion_tokens=4)).json
    assert whole["usage"]["completion_tokens"] == 4


async def test_chat_ignore_eos_fills_the_limit(sim_server: StartSim) -> None:
    whole = (await chat(await sim_server(), max_tokens=500, ignore_eos=True)).json
    assert whole["usage"]["completion_tokens"] == 500
    assert len(tokenise(whole["choices"][0]["message"]["content"])) == 500


async def test_chat_stop_string_ends_text_and_is_named(sim_server: StartSim) -> None:
    server = await sim_server()
    choice = (await chat(server, stop=["would", "expert"])).json["choices"][0]
    assert choice["message"]["content"] == "[simulated answer] "
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "expert")
    kept = (await chat(server, stop="expert", include_stop_str_in_output=True)).json["choices"][0]
    assert kept["message"]["content"] == "[simulated answer] expert"


async def test_chat_logprobs_carry_bytes_and_sorted_alternatives(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", logprob=-2.0))
    choice = (await chat(server, max_tokens=4, logprobs=True, top_logprobs=3)).json["choices"][0]
    entries = choice["logprobs"]["content"]
    assert len(entries) == 4
    assert tuple(entries[0]) == ("token", "logprob", "bytes", "top_logprobs")
    for entry in entries:
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["logprob"] == pytest.approx(-2.0, abs=0.051)
        values = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert values[0] == entry["logprob"]


async def test_chat_logprobs_without_top_have_empty_alternatives(sim_server: StartSim) -> None:
    choice = (await chat(await sim_server(), max_tokens=1, logprobs=True)).json["choices"][0]
    assert choice["logprobs"]["content"][0]["top_logprobs"] == []


async def test_chat_json_object_is_valid_json(sim_server: StartSim) -> None:
    whole = (await chat(await sim_server(), response_format={"type": "json_object"})).json
    assert json.loads(whole["choices"][0]["message"]["content"])["simulated"] is True


async def test_chat_json_schema_is_satisfied(sim_server: StartSim) -> None:
    jsonschema = importlib.import_module("jsonschema")
    schema = {
        "type": "object",
        "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number", "exclusiveMinimum": 3}}}},
        "properties": {
            "colour": {"enum": ["red", "green"]},
            "n": {"type": "integer", "minimum": 5, "maximum": 99, "multipleOf": 4},
            "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}, "minItems": 2},
            "note": {"type": "string", "minLength": 40},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["colour", "n", "points", "note", "maybe"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    whole = (await chat(await sim_server(), response_format=wanted)).json
    jsonschema.validate(json.loads(whole["choices"][0]["message"]["content"]), schema)


async def test_chat_structured_choice_answers_first_choice(sim_server: StartSim) -> None:
    whole = (await chat(await sim_server(), structured_outputs={"choice": ["yes", "no"]})).json
    assert whole["choices"][0]["message"]["content"] == "yes"


async def test_chat_enable_thinking_gives_reasoning_and_counts_it(sim_server: StartSim) -> None:
    whole = (await chat(await sim_server(), chat_template_kwargs={"enable_thinking": True})).json
    reasoning = whole["choices"][0]["message"]["reasoning"]
    assert "[simulated reasoning]" in reasoning
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": len(tokenise(reasoning))}


async def test_chat_content_parts_are_echoed(sim_server: StartSim) -> None:
    parts = [{"type": "text", "text": "first"}, {"type": "text", "text": "second"}]
    whole = (await chat(await sim_server(), messages=[{"role": "user", "content": parts}])).json
    assert '"first second"' in whole["choices"][0]["message"]["content"]


@pytest.mark.parametrize("text", ["", " a  b\n\tc", "x_y-z'1.5", "日本 語。", "a\u00e9\U0001f600b"])
def test_tokenise_pieces_join_to_the_text(text: str) -> None:
    assert "".join(tokenise(text)) == text
