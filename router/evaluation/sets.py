"""Which prompts are measured together: everything, each source, each language, and what the rows say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from router.prompts import Prompt

Figures = TypeVar("Figures")
Rows = list[int]

UNKNOWN_LANGUAGE: Final = "unknown"
SMALLEST_STYLE: Final = 20
"""Styles are free text; rarer ones would fill a report with figures that are chance."""


@dataclass(frozen=True, slots=True)
class Grouped(Generic[Figures]):
    """One kind of figures for every group; groups without a prompt are left out.

    Attributes:
        overall: all prompts, pooled.
        sets: "english", "not_english" (rows without a language are in neither), "conversations", "single_prompts".
        sources: per source (the file's name unless the row names one).
        languages: per language code, "unknown" for rows without.
        kinds: per `kind`, of the rows that carry one.
        styles: per `style` that 20 or more rows carry.
    """

    overall: Figures
    sets: dict[str, Figures]
    sources: dict[str, Figures]
    languages: dict[str, Figures]
    kinds: dict[str, Figures]
    styles: dict[str, Figures]


def grouped(prompts: Sequence[Prompt], measure: Callable[[Rows], Figures]) -> Grouped[Figures]:
    """Call `measure` with the row numbers of each group."""

    def each(keys: Iterable[str], smallest: int = 1) -> dict[str, Figures]:
        return {key: measure(rows) for key, rows in rows_by(keys).items() if len(rows) >= smallest}

    return Grouped(
        overall=measure(list(range(len(prompts)))),
        sets={name: measure(rows) for name, rows in _sets(prompts).items() if rows},
        sources=each(prompt.source for prompt in prompts),
        languages=each(prompt.language or UNKNOWN_LANGUAGE for prompt in prompts),
        kinds=each(prompt.kind for prompt in prompts),
        styles=each((prompt.style for prompt in prompts), SMALLEST_STYLE),
    )


def rows_by(keys: Iterable[str]) -> dict[str, Rows]:
    """Return key to the positions it stands at, sorted by key; "" is no key."""
    groups: dict[str, Rows] = {}
    for row, key in enumerate(keys):
        if key:
            groups.setdefault(key, []).append(row)
    return dict(sorted(groups.items()))


def is_english(prompt: Prompt) -> bool:
    """Tell whether the row says English, of any region."""
    return prompt.language.split("-")[0] == "en"


def is_not_english(prompt: Prompt) -> bool:
    """Tell whether the row says another language; a row without a language does not."""
    return bool(prompt.language) and not is_english(prompt)


def _sets(prompts: Sequence[Prompt]) -> dict[str, Rows]:
    members: dict[str, Callable[[Prompt], bool]] = {
        "english": is_english,
        "not_english": is_not_english,
        "conversations": lambda prompt: prompt.conversation,
        "single_prompts": lambda prompt: not prompt.conversation,
    }
    return {name: [row for row, prompt in enumerate(prompts) if is_in(prompt)] for name, is_in in members.items()}
