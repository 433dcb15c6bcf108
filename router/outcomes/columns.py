"""What the columns of an outcome file mean, by their names and first values. It reads no file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from router.outcomes.lines import Cell

TEXT: Final = ("prompt", "question", "text")
DOMAIN: Final = ("domain", "label")
GROUP: Final = ("task", "subject", "category")
KEY: Final = ("global_index", "id")
EXPERT: Final = ("model", "expert")
SCORE: Final = "score"
COST: Final = ("inference_cost_usd", "cost_usd", "cost")
INPUT_TOKENS: Final = ("input_tokens", "prompt_tokens")
OUTPUT_TOKENS: Final = ("output_tokens", "completion_tokens")

_OTHER: Final = ("split", "index", "metric", "source", "lang", "h", "")
_KNOWN: Final = frozenset({*TEXT, *DOMAIN, *GROUP, *KEY, *_OTHER, *COST, *INPUT_TOKENS, *OUTPUT_TOKENS})
_RESERVED: Final = _KNOWN | {*EXPERT, SCORE}
_SUFFIXES: Final[Mapping[str, str]] = {
    "_response_chars": "chars",
    **{f"_{name}": "output" for name in OUTPUT_TOKENS},
    **{f"_{name}": "input" for name in INPUT_TOKENS},
    **{f"_{name}": "cost" for name in COST},
}


@dataclass(slots=True)
class Wide:
    """Columns of a file with one row a prompt; column names throughout.

    Attributes:
        experts: columns of scores.
        measures: per kind ("chars", "output", "input", "cost"), the column that belongs to an expert.
        ignored: columns of text that mean nothing here.
    """

    experts: list[str] = field(default_factory=list)
    measures: dict[str, dict[str, str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def name_of(column: str) -> str:
    """Return a column's name without blanks around it, in lower case when it means something here."""
    bare = column.strip()
    return bare.lower() if bare.lower() in _RESERVED else bare


def first_of(names: Sequence[str], columns: Iterable[str]) -> str | None:
    """Return the first of `names` that is a column, None when there is none."""
    return next((name for name in names if name in columns), None)


def is_long(columns: Iterable[str]) -> bool:
    """Tell whether a file has one row for each pair of prompt and expert."""
    return first_of(EXPERT, columns) is not None and SCORE in columns


def wide_columns(first_values: Mapping[str, Cell]) -> Wide:
    """Sort the columns of a wide file.

    Args:
        first_values: column to its first value that is not empty; None where there is none.

    Raises:
        ValueError: a column of lengths or costs belongs to no expert, or to several.
    """
    wide, measured = Wide(), list[tuple[str, str, str]]()
    for column, value in first_values.items():
        suffix = next((suffix for suffix in _SUFFIXES if column.lower().endswith(suffix)), None)
        if column in _RESERVED:
            continue
        if suffix is not None:
            measured.append((column, column[: -len(suffix)], _SUFFIXES[suffix]))
        elif is_number(value):
            wide.experts.append(column)
        else:
            wide.ignored.append(column)
    for column, prefix, kind in measured:
        wide.measures.setdefault(kind, {})[_expert_of(prefix, wide.experts)] = column
    return wide


def is_number(value: Cell) -> bool:
    """Tell whether a cell is meant as a number, in range or not."""
    try:
        return isinstance(float(value), float) if value is not None else False
    except ValueError:
        return False
    except OverflowError:
        return True


def _expert_of(prefix: str, experts: Sequence[str]) -> str:
    if prefix in experts:
        return prefix
    matches = [expert for expert in experts if _bare(expert).startswith(_bare(prefix)) and _bare(prefix)]
    if len(matches) != 1:
        raise ValueError(f"column {prefix[:60]!r}...: belongs to {len(matches) or 'none'} of the experts")
    return matches[0]


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
