"""The plan of a generation, shared by all endpoints: who answers, what it costs, what is sent. It sends nothing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from gateway.sim.answers import Answer
from gateway.sim.errors import unknown_model
from gateway.sim.experts import Roster, Served, Service
from gateway.sim.replies import Reply

VLLM_VERSION = "0.32.0"


@dataclass(slots=True)
class Plan:
    """One generation before it is sent.

    Args:
        served: Who answers, under which name.
        prompt_tokens: Size of the prompt.
        answers: The choices.
        reply: What is sent.
    """

    served: Served
    prompt_tokens: int
    answers: tuple[Answer, ...]
    reply: Reply

    @property
    def generated_tokens(self) -> int:
        """Tokens of all choices."""
        return sum(answer.generated for answer in self.answers)


Draft = Callable[[str | None], Plan]
"""All of a plan that the same request always has; called with the request's id it becomes a plan with fresh ids."""


def find_served(roster: Roster, name: str | None, service: Service | None) -> Served:
    """Look up the expert a request names.

    Raises:
        SimError: nobody serves that name.
    """
    served = roster.find(name, service)
    if served is None:
        raise unknown_model(name or "", roster.served_names)
    return served


def new_id(prefix: str, wanted: str | None = None) -> str:
    """A body id, made of the request's own id where it has one."""
    return prefix + (wanted or secrets.token_hex(8))


def now_s() -> int:
    """Wall-clock time for `created`, in seconds."""
    return time.time_ns() // 1_000_000_000


def fingerprint(served: Served) -> str:
    """`system_fingerprint`: vLLM's form, constant per model."""
    return f"vllm-{VLLM_VERSION}-{crc32(served.expert.model.encode()):08x}"


def usage(prompt_tokens: int, answers: tuple[Answer, ...], *, created: int | None = 0) -> dict[str, Any]:
    """The `usage` object of a whole chat answer or, with `created=None`, of a completion."""
    generated = sum(answer.generated for answer in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "created_cache_tokens": created,
            "multimodal_tokens": None,
        },
        "completion_tokens_details": reasoning_details(answers),
    }


def reasoning_details(answers: tuple[Answer, ...]) -> dict[str, int] | None:
    """`completion_tokens_details`: only with reasoning, as a server with a reasoning parser gives it."""
    reasoning = sum(len(answer.reasoning) for answer in answers)
    return {"reasoning_tokens": reasoning} if reasoning else None


def running_usage(prompt_tokens: int, generated: int, reasoning: int = 0) -> dict[str, Any]:
    """`usage` on every chunk, with `continuous_usage_stats`."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + generated,
        "completion_tokens": generated,
        "completion_tokens_details": {"reasoning_tokens": reasoning} if reasoning else None,
    }
