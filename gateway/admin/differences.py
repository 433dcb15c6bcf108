"""What is different between two texts, line by line, as pages show it. Reads no file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

CONTEXT = 3
MOST_LINES = 4_000
"""Longer texts are not compared: difflib's time can grow with the square of their length."""

Kind = Literal["same", "added", "removed", "gap"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a comparison.

    Attributes:
        kind: `gap` stands for equal lines that are left out.
        old, new: its number in either text, from 1; None where it is not in it.
        text: without its end.
    """

    kind: Kind
    old: int | None
    new: int | None
    text: str


def differences(old: str, new: str) -> tuple[Line, ...] | None:
    """Return changed lines with `CONTEXT` equal ones around; nothing when the texts are equal, None when too long."""
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > MOST_LINES:
        return () if before == after else None
    found: list[Line] = []
    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(CONTEXT):
        if group[0][1] or group[0][3]:
            found.append(Line("gap", None, None, ""))
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                pairs = zip(range(old_from, old_to), range(new_from, new_to), strict=True)
                found += [Line("same", i + 1, j + 1, before[i]) for i, j in pairs]
                continue
            found += [Line("removed", i + 1, None, before[i]) for i in range(old_from, old_to)]
            found += [Line("added", None, j + 1, after[j]) for j in range(new_from, new_to)]
    return tuple(found)
