"""The requests that all arms get: bodies for mixed prompts, prompts of a given length, and streams. Sends nothing."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

PROMPTS = Path(__file__).resolve().with_name("prompts.jsonl")
MARK = "00000000"
"""Stands in every body once; senders put a running number there, so that no cache of an arm knows the prompt."""
CHARACTERS_PER_TOKEN = 4
SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000}
VARIANTS = 8
"""Different prompts of each size."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A stream's shape: content chunks and the milliseconds between two of them, 0 for all at once."""

    chunks: int
    gap_ms: int


def read_prompts(path: Path = PROMPTS) -> list[tuple[str, str]]:
    """Return (ISO 639-1 code, prompt) of every line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["language"], row["prompt"]) for row in rows]


def mixed() -> list[str]:
    """Return the mixed prompts, in an order that does not sort languages or lengths together."""
    prompts = [prompt for _, prompt in read_prompts()]
    random.Random(1).shuffle(prompts)
    return prompts


def sized(tokens: int) -> list[str]:
    """Return prompts of about `tokens` tokens, at four characters of English each."""
    english = [prompt for language, prompt in read_prompts() if language == "en"]
    return [_filled(english, tokens * CHARACTERS_PER_TOKEN, random.Random(seed)) for seed in range(VARIANTS)]


def _filled(texts: list[str], characters: int, order: random.Random) -> str:
    text = ""
    while len(text) < characters:
        text += f"{order.choice(texts)} "
    return text[:characters]


def write(path: Path, model: str, prompts: list[str], pace: Pace | None = None) -> Path:
    """Write one request body a line, plain or, with a pace, a stream's."""
    path.write_text("".join(_body(model, prompt, pace) + "\n" for prompt in prompts))
    return path


def _body(model: str, prompt: str, pace: Pace | None) -> str:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": f"{prompt} [{MARK}]"}]}
    if pace is None:
        return json.dumps({**body, "max_tokens": 64})
    return json.dumps({**body, "max_tokens": pace.chunks, "seed": pace.gap_ms, "stream": True})
