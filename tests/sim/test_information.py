"""Models, adapters, health, tokenize and metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.sim import SimExpert, SimServer
from tests.fixtures_sim import StartSim
from tests.sim.wire import chat, get, post

CARD_KEYS = (
    *("id", "object", "created", "owned_by", "root", "parent"),
    *("max_model_len", "permission"),
)


async def metrics(server: SimServer) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of labels other than engine, sorted by label name."""
    text = (await get(server, "/metrics")).body.decode()
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "engine")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_models_lists_names_then_adapters_with_parent(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", aliases=("m2",), adapters=("lora",), max_model_len=777))
    cards = (await get(server, "/v1/models")).json["data"]
    assert [(card["id"], card["parent"], card["max_model_len"]) for card in cards] == [
        ("m", None, 777),
        ("m2", None, 777),
        ("lora", "m", None),
    ]
    assert all(tuple(card) == CARD_KEYS for card in cards)


async def test_adapters_load_and_unload_change_what_answers(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m"))
    order = {"lora_name": "second", "lora_path": "/adapters/second"}
    assert (await chat(server, model="second")).status == 404
    loaded = await post(server, "/v1/load_lora_adapter", order)
    assert loaded.body == b"Success: LoRA adapter 'second' added successfully."
    assert (await chat(server, model="second")).json["model"] == "second"
    again = await post(server, "/v1/load_lora_adapter", order)
    assert again.json["error"]["type"] == "InvalidUserInput"
    assert (await post(server, "/v1/load_lora_adapter", order | {"load_inplace": True})).status == 200
    missing = await post(server, "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/adapters/missing"})
    assert missing.status == 404
    assert (await post(server, "/v1/unload_lora_adapter", {"lora_name": "second"})).status == 200
    assert (await post(server, "/v1/unload_lora_adapter", {"lora_name": "second"})).status == 404
    assert (await chat(server, model="second")).status == 404


async def test_health_ping_and_version_answer_like_vllm(sim_server: StartSim) -> None:
    server = await sim_server()
    for path, method in (("/health", "GET"), ("/ping", "GET"), ("/ping", "POST")):
        answer = await get(server, path, method)
        assert (answer.status, answer.body) == (200, b"")
    assert (await get(server, "/version")).json.keys() == {"version"}
    assert (await get(server, "/v1/models", "HEAD")).status == 405


async def test_tokenize_counts_what_usage_counts(sim_server: StartSim) -> None:
    server = await sim_server()
    messages = [{"role": "user", "content": "Hello there"}]
    counted = (await post(server, "/tokenize", {"messages": messages})).json["count"]
    assert counted == (await chat(server)).json["usage"]["prompt_tokens"]
    strings = (await post(server, "/tokenize", {"prompt": "a b", "return_token_strs": True})).json
    assert strings["token_strs"] == ["a", " b"]
    assert len(strings["tokens"]) == strings["count"] == 2
    assert (await post(server, "/tokenize", {"model": "nope", "prompt": "a"})).status == 404


async def test_metrics_count_finished_requests_under_vllms_names(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m"))
    cut = (await chat(server, max_tokens=5)).json["usage"]
    await chat(server, stream=True)
    found = await metrics(server)
    assert found["vllm:num_requests_running", "m"] == 0
    assert found["vllm:num_requests_waiting", "m"] == 0
    assert found["vllm:kv_cache_usage_perc", "m"] == 0
    assert found["vllm:prompt_tokens_total", "m"] == 2 * cut["prompt_tokens"]
    assert found["vllm:generation_tokens_total", "m"] > 5
    assert found["vllm:request_success_total", "length", "m"] == 1
    assert found["vllm:request_success_total", "stop", "m"] == 1
    assert found["vllm:request_success_total", "abort", "m"] == 0
    assert found["vllm:time_to_first_token_seconds_count", "m"] == 2
    assert found["vllm:e2e_request_latency_seconds_bucket", "+Inf", "m"] == 2
    assert found["vllm:engine_sleep_state", "m", "awake"] == 1


async def test_metrics_show_running_and_waiting_requests(sim_server: StartSim) -> None:
    import asyncio

    server = await sim_server(SimExpert("m", maximum_running=1))
    tasks = [asyncio.create_task(chat(server, sim_fault="hang")) for _ in range(2)]
    await server.until(lambda sim: sim.running == 1 and sim.waiting == 1)
    found = await metrics(server)
    assert found["vllm:num_requests_running", "m"] == 1
    assert found["vllm:num_requests_waiting", "m"] == 1
    assert found["vllm:num_requests_waiting_by_reason", "m", "capacity"] == 1
    assert 0 < found["vllm:kv_cache_usage_perc", "m"] < 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_metrics_content_type_is_prometheus(sim_server: StartSim) -> None:
    answer = await get(await sim_server(), "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
