"""What a simulated expert is: names, limits, timing and what it serves. It holds no state and opens nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Service = Literal["chat", "completions", "responses", "messages", "embeddings"]
TEXT_SERVICES: frozenset[Service] = frozenset({"chat", "completions", "responses", "messages"})
EMBEDDING_SERVICES: frozenset[Service] = frozenset({"embeddings"})


@dataclass(frozen=True, slots=True)
class SimExpert:
    """One simulated model of a simulated vLLM server.

    Args:
        model: The served model name.
        domain: Named in the visible answer.
        aliases: Further served names; answers carry `model`, as vLLM's do.
        adapters: LoRA names; listed with `parent`, answers carry the adapter's name.
        max_model_len: Context limit in tokens of the simulator's own tokeniser (words and punctuation).
        time_to_first_token_s: Wait before the first event or, without streaming, part of the whole wait. 0: none.
        tokens_per_second: Pace of the following tokens. 0: no pacing.
        serves: Endpoints; others answer 404 `{"detail":"Not Found"}`, as a vLLM server of another task does.
        api_key: Required as `Authorization: Bearer ...` on everything under `/v1`.
        maximum_running: Requests generated at once (`--max-num-seqs`); the rest waits. None: no limit.
        maximum_queued: Requests that may wait (`--max-num-queued-reqs`); more get 503. None: no limit.
        tools: False: tool requests get 400, as without `--enable-auto-tool-choice` and `--tool-call-parser`.
        runtime_adapters: False: adapters cannot be loaded, as without `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`.
        logprob: Log-probability of every generated token, give or take 0.05.
    """

    model: str
    domain: str = "general"
    aliases: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    max_model_len: int = 8192
    time_to_first_token_s: float = 0.08
    tokens_per_second: float = 120.0
    serves: frozenset[Service] = TEXT_SERVICES
    api_key: str | None = None
    maximum_running: int | None = None
    maximum_queued: int | None = None
    tools: bool = True
    runtime_adapters: bool = True
    logprob: float = -0.2


@dataclass(frozen=True, slots=True)
class Served:
    """An expert under the name it answers with (the adapter's, when the request named an adapter)."""

    expert: SimExpert
    name: str


class Roster:
    """The experts of one server and the adapters loaded at run time."""

    def __init__(self, experts: Iterable[SimExpert]) -> None:
        self.experts = tuple(experts)
        if not self.experts:
            raise ValueError("a simulated server needs at least one SimExpert")
        self.loaded: dict[str, SimExpert] = {adapter: expert for expert in self.experts for adapter in expert.adapters}
        self.adapter_paths = {adapter: f"/adapters/{adapter}" for adapter in self.loaded}
        names = [name for expert in self.experts for name in (expert.model, *expert.aliases)]
        if len({*names, *self.loaded}) != len(names) + len(self.loaded):
            raise ValueError(f"a served name is given twice among {[*names, *self.loaded]}")
        self.served_names = tuple(names)
        self._by_name = {
            name: Served(expert, expert.model) for expert in self.experts for name in (expert.model, *expert.aliases)
        }
        self.runtime_adapters = all(expert.runtime_adapters for expert in self.experts)
        self.services = frozenset(service for expert in self.experts for service in expert.serves)
        self.api_keys = frozenset(expert.api_key for expert in self.experts if expert.api_key is not None)

    def find(self, name: str | None, service: Service | None) -> Served | None:
        """The expert that answers to `name`; without a name the first one that serves `service`."""
        if not name:
            fitting = (expert for expert in self.experts if service is None or service in expert.serves)
            return next((Served(expert, expert.model) for expert in fitting), None)
        served = self._by_name.get(name)
        if served is None and name in self.loaded:
            served = Served(self.loaded[name], name)
        if served is None or (service is not None and service not in served.expert.serves):
            return None
        return served
