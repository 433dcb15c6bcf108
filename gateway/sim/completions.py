"""`/v1/completions`: body to plan, plan to vLLM's JSON and event stream. It neither waits nor sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.sim.answers import Answer, Ask, generate
from gateway.sim.bodies import CompletionBody
from gateway.sim.chat import stop_strings
from gateway.sim.errors import SimError, bad_value
from gateway.sim.experts import Roster, Served
from gateway.sim.logprobs import completion_logprobs
from gateway.sim.plans import Draft, Plan, find_served, fingerprint, new_id, now_s, running_usage, usage
from gateway.sim.prompts import (
    check_response_format,
    check_sampling,
    check_stream_options,
    count_prompt,
    refuse_surrogates,
    token_limit,
    wanted_schema,
)
from gateway.sim.replies import DONE, EVENT_HEADERS, Event, Reply, data_event, interleaved, json_reply
from gateway.sim.tokens import VOCABULARY_SIZE


def draft_completion(body: CompletionBody, roster: Roster) -> Draft:
    """Draft the answer to a completion request; a list of prompts gives one choice (times `n`) per prompt.

    Raises:
        SimError: what vLLM refuses, worded as vLLM does.
    """
    check_stream_options(body.stream_options, stream=body.stream)
    check_response_format(body.response_format)
    if not body.prompt:
        raise bad_value("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    served = find_served(roster, body.model, "completions")
    if body.suffix:
        raise SimError(400, "suffix is only supported for models with FIM completion rendering", param="suffix")
    asks = [_ask(body, served, prompt) for prompt in _prompts(body.prompt)]
    check_sampling(body, body.n)
    echoes = [ask.last_text if body.echo else "" for ask in asks for _ in range(body.n)]
    answers = tuple(generate(ask, index) for ask in asks for index in range(body.n))
    prompt_tokens = sum(ask.prompt_tokens for ask in asks)

    def plan(request_id: str | None) -> Plan:
        made = new_id("cmpl-", request_id or body.request_id)
        shown = _Shown(body, served, prompt_tokens, answers, echoes, made, now_s())
        if body.stream:
            return Plan(served, prompt_tokens, answers, Reply(_events(shown), headers=EVENT_HEADERS))
        steps = max(answer.generated for answer in answers)
        return Plan(served, prompt_tokens, answers, json_reply(_whole(shown), steps=steps))

    return plan


def _prompts(prompt: str | list[int] | list[list[int]] | list[str]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    numbers = [item for item in prompt if isinstance(item, int)]
    if numbers:
        return [numbers]
    return [item for item in prompt if isinstance(item, str | list)]


def _ask(body: CompletionBody, served: Served, prompt: str | list[int]) -> Ask:
    if isinstance(prompt, list):
        for number in prompt:
            if not 0 <= number < VOCABULARY_SIZE:
                raise SimError(400, f"Token id {number} is out of vocabulary")
        # Each number becomes one word, so it counts as one token.
        text = " ".join(f"token{number}" for number in prompt)
    else:
        text = prompt
    refuse_surrogates([text])
    prompt_tokens = count_prompt([text], served.expert)
    return Ask(
        served=served,
        last_text=text,
        prompt_tokens=prompt_tokens,
        maximum_tokens=token_limit(body.max_tokens, prompt_tokens, served.expert),
        json_schema=wanted_schema(body.response_format, body.structured_outputs),
        stop=stop_strings(body.stop),
        keep_stop=body.include_stop_str_in_output,
        endless=body.ignore_eos,
        minimum_tokens=body.min_tokens,
    )


@dataclass(slots=True)
class _Shown:
    """All the two renderings need."""

    body: CompletionBody
    served: Served
    prompt_tokens: int
    answers: tuple[Answer, ...]
    echoes: list[str]
    id: str
    created: int

    def logprobs(self, tokens: tuple[str, ...], offset: int) -> dict[str, Any] | None:
        """The `logprobs` of some tokens, where asked for."""
        if self.body.logprobs is None:
            return None
        return completion_logprobs(tokens, self.served.expert.logprob, self.body.logprobs, offset)


def _head(shown: _Shown) -> dict[str, Any]:
    return {
        "id": shown.id,
        "object": "text_completion",
        "created": shown.created,
        "model": shown.served.name,
    }


def _whole(shown: _Shown) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "text": shown.echoes[index] + answer.text,
            "logprobs": shown.logprobs(answer.tokens, len(shown.echoes[index])),
            "finish_reason": answer.finish,
            "stop_reason": answer.stop_reason,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }
        for index, answer in enumerate(shown.answers)
    ]
    return {
        **_head(shown),
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": fingerprint(shown.served),
        "usage": usage(shown.prompt_tokens, shown.answers, created=None),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _events(shown: _Shown) -> Iterator[Event]:
    options = shown.body.stream_options
    with_usage = options is not None and bool(options.include_usage)
    running = with_usage and options is not None and bool(options.continuous_usage_stats)
    streams = [list(_choice_chunks(shown, index, running)) for index in range(len(shown.answers))]
    turns = interleaved(streams)
    if not with_usage:
        turns[-1][1]["system_fingerprint"] = fingerprint(shown.served)
    for step, chunk in turns:
        yield data_event(chunk, step)
    last_step = turns[-1][0] + 1
    if with_usage:
        final = usage(shown.prompt_tokens, shown.answers)
        final["prompt_tokens_details"] = {"cached_tokens": 0}
        del final["completion_tokens_details"]
        chunk = {**_head(shown), "choices": [], "usage": final}
        yield data_event({**chunk, "system_fingerprint": fingerprint(shown.served)}, last_step)
    yield Event(DONE, last_step)


def _choice_chunks(shown: _Shown, index: int, running: bool) -> Iterator[dict[str, Any]]:
    answer, offset = shown.answers[index], len(shown.echoes[index])
    pieces: list[tuple[str, tuple[str, ...]]] = [(token, (token,)) for token in answer.tokens]
    if answer.finish != "length" or not pieces:
        pieces.append(("", ()))
    pieces[0] = (shown.echoes[index] + pieces[0][0], pieces[0][1])
    for position, (text, tokens) in enumerate(pieces):
        final = position == len(pieces) - 1
        choice = {
            "index": index,
            "text": text,
            "logprobs": shown.logprobs(tokens, offset) if tokens else None,
            "finish_reason": answer.finish if final else None,
            "stop_reason": answer.stop_reason if final else None,
            "prompt_token_ids": None,
            "token_ids": None,
        }
        offset += sum(map(len, tokens))
        chunk = {**_head(shown), "choices": [choice]}
        if running:
            generated = answer.generated if final else position + 1
            chunk["usage"] = running_usage(shown.prompt_tokens, generated)
        yield chunk
