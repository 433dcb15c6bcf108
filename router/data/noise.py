"""Put around a training prompt what does not matter to its task, and tell which part was asked; no model here.

What is put there must not be what `router.evaluation` measures robustness with.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from router.data.phrases import PHRASES

GENERAL: Final = "general"
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_STATEMENT: Final = re.compile(r"(?<![^\s.!?])[A-Z][^.!?\n]{15,110}\.(?=\s|$)")
_SALAD_WORDS: Final = (3, 12)
_PASTED_CHARS: Final = 240
_SECOND_SHARE: Final = 0.25
"""Share of the prompts that get something on both sides."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt and whether it belongs to what is asked; pieces are joined as they are."""

    text: str
    asked: bool


def surround(text: str, label: str, dice: random.Random, *, others: Mapping[str, Sequence[str]]) -> list[Part]:
    """Return `text` with an opening, a closing, small talk, stray words or a false label around it.

    Args:
        text: what is asked; it stays as it is.
        label: its domain.
        dice: equal states give equal results.
        others: label to some prompts of it, for words and sentences that mislead; may be empty.
    """
    before: list[str] = []
    after: list[str] = []
    for _ in range(2 if dice.random() < _SECOND_SHARE else 1):
        kind = dice.choices(_KINDS, cum_weights=_CUMULATIVE)[0]
        (before if dice.random() < _BEFORE[kind] else after).append(kind(label, dice, others))
    parts = [*(Part(noise + dice.choice((" ", " ", "\n", "\n\n")), asked=False) for noise in before)]
    parts.append(Part(text, asked=True))
    parts += [Part(dice.choice((" ", " ", "\n", "\n\n")) + noise, asked=False) for noise in after]
    return parts


def joined(parts: Sequence[Part]) -> str:
    """Return the prompt the parts make."""
    return "".join(part.text for part in parts)


def _opening(label: str, dice: random.Random, others: Mapping[str, Sequence[str]]) -> str:
    """Greet, be polite or instruct, in up to four sentences."""
    if dice.random() < 0.2:
        return dice.choice(PHRASES.prefixes).strip()
    instructing = (PHRASES.roles, PHRASES.orders)
    banks = instructing if dice.random() < 0.5 else (PHRASES.greetings, PHRASES.niceties, PHRASES.requests)
    chosen = [dice.choice(bank) for bank in banks if dice.random() < 0.65]
    if dice.random() < 0.25:
        chosen.insert(0, dice.choice(PHRASES.personas))
    return " ".join(chosen) or dice.choice(PHRASES.requests)


def _closing(label: str, dice: random.Random, others: Mapping[str, Sequence[str]]) -> str:
    if dice.random() < 0.5:
        return dice.choice(PHRASES.suffixes).strip()
    return " ".join(dice.sample(PHRASES.closings, dice.randint(1, 2)))


def _small_talk(label: str, dice: random.Random, others: Mapping[str, Sequence[str]]) -> str:
    """Say something of everyday life: from the bank, put together, or as another prompt for the generalist says it."""
    if label != GENERAL and dice.random() < 0.4:
        statements = _STATEMENT.findall(dice.choice(others.get(GENERAL) or ("",)))
        if statements:
            return str(dice.choice(statements))
    if dice.random() < 0.4:
        return dice.choice(PHRASES.irrelevant)
    words = [dice.choice(bank) for bank in (PHRASES.subjects, PHRASES.events, PHRASES.times)]
    sentence = " ".join(word for word in words if word)
    lead = dice.choice(PHRASES.leads) if dice.random() < 0.3 else ""
    return (lead or sentence[:1].upper()) + sentence[0 if lead else 1 :] + dice.choice((".", ".", "!", " :)", "..."))


def _salad(label: str, dice: random.Random, others: Mapping[str, Sequence[str]]) -> str:
    """Throw in words of one other domain or of several."""
    pools = [name for name in sorted(others) if others[name] and name != label]
    pools = pools if dice.random() < 0.6 else pools and [dice.choice(pools)]
    words: list[str] = []
    count = dice.randint(*_SALAD_WORDS)
    for _ in range(count if pools else 0):
        found = _content_words(dice.choice(others[dice.choice(pools)]))
        words += [dice.choice(found)] if found else []
    words = words or dice.choices(PHRASES.tokens, k=count)
    return dice.choice((" ", " ", " ", ", ", "; ", " / ")).join(words) + dice.choice(("", "", "", ".", ":", " -"))


def _content_words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if word.lower() not in PHRASES.function_words]


def _false_label(label: str, dice: random.Random, others: Mapping[str, Sequence[str]]) -> str:
    wrong = [name for name in sorted(others) if name != label]
    return dice.choice(PHRASES.tags).replace("{label}", dice.choice(wrong) if wrong else "other")


def _pasted(label: str, dice: random.Random, others: Mapping[str, Sequence[str]]) -> str:
    """Paste a prompt of another domain and take it back."""
    wrong = [name for name in sorted(others) if name != label and others[name]]
    pasted = dice.choice(others[dice.choice(wrong)])[:_PASTED_CHARS] if wrong else "..."
    return f"{pasted}\n\n{dice.choice(PHRASES.unrelated).strip()}"


_Kind = Callable[[str, random.Random, Mapping[str, Sequence[str]]], str]
_BEFORE: Final[Mapping[_Kind, float]] = MappingProxyType(
    {_opening: 1.0, _closing: 0.0, _small_talk: 0.45, _salad: 0.85, _false_label: 0.85, _pasted: 1.0}
)
"""How often each kind stands before what is asked instead of behind it."""
_KINDS: Final[Sequence[_Kind]] = tuple(_BEFORE)
_CUMULATIVE: Final = (0.27, 0.37, 0.62, 0.88, 0.94, 1.0)
