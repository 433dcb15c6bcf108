"""The banks of phrases that augmentation puts around prompts; nothing is decided here.

They are in `phrases.json`. None is used by `router.evaluation`, so that measuring robustness is not measuring memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Phrases:
    """What may stand around a prompt, and what typing fingers do.

    Attributes:
        prefixes, suffixes: frames of data sets and front ends.
        personas, roles, orders, greetings, niceties, requests: parts of an opening.
        closings: sentences at the end.
        irrelevant: whole sentences of everyday life; leads, subjects, events, times: parts of such sentences.
        instructions, tags, unrelated, tokens, emoji: short instructions for pasted text, routing tags with
            "{label}", words that take back what was said, meaningless tokens, emoji.
        function_words: words that terse people leave out.
        neighbours: letter to the keys next to it.
    """

    prefixes: Sequence[str]
    suffixes: Sequence[str]
    personas: Sequence[str]
    irrelevant: Sequence[str]
    roles: Sequence[str]
    orders: Sequence[str]
    greetings: Sequence[str]
    niceties: Sequence[str]
    requests: Sequence[str]
    closings: Sequence[str]
    leads: Sequence[str]
    subjects: Sequence[str]
    events: Sequence[str]
    times: Sequence[str]
    instructions: Sequence[str]
    tags: Sequence[str]
    unrelated: Sequence[str]
    tokens: Sequence[str]
    emoji: Sequence[str]
    function_words: frozenset[str]
    neighbours: Mapping[str, str]


def read_phrases() -> Phrases:
    """Read the banks that come with the package."""
    banks = json.loads(Path(__file__).with_name("phrases.json").read_text(encoding="utf-8"))
    return Phrases(**{**banks, "function_words": frozenset(banks["function_words"])})


PHRASES: Final = read_phrases()
