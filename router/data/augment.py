"""Change how a training prompt is written, never what it asks; all chance comes from the caller's dice."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from router.data.noise import Part, joined, surround
from router.data.phrases import PHRASES
from router.features import CONTEXT_LABEL, REPLY_LABEL

_INVISIBLE: Final = ("\u200b", "\u200d", "\u2060", "\ufeff")
_SPACES: Final = ("  ", "   ", "\t", "\u00a0", "\n", " \n")
_TYPO_RATE: Final = 0.03
_RESTYLED_SHARE: Final = 0.65
_SURROUNDED_SHARE: Final = 0.5
_ONE_HAND_SHARE: Final = 0.1
"""Share typed by one hand throughout: what is around the ask has its case and typos too."""
_CONTEXT_START: Final = re.compile(rf"\n(?:{re.escape(CONTEXT_LABEL)}|{re.escape(REPLY_LABEL)})")
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_TERSE_WORDS: Final = range(6, 40)
_MAX_OPTIONS: Final = 10
_OPTION_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a change may look at besides the text."""

    label: str
    dice: random.Random
    others: Mapping[str, Sequence[str]]

    def other_label(self) -> str | None:
        labels = [label for label in sorted(self.others) if label != self.label and self.others[label]]
        return self.dice.choice(labels) if labels else None


_Change = Callable[[str, _Setting], str]


def augment(text: str, label: str, dice: random.Random, *, others: Mapping[str, Sequence[str]]) -> str:
    """Return `text` as somebody else might have typed it; about one prompt in four comes back unchanged.

    Args:
        text: a prompt or routing text. Context lines of a conversation ("[earlier] ...") stay as they are.
        label: its domain; nothing of it shows in the result.
        dice: equal states give equal results.
        others: label to some prompts of it, for words that mislead; those of `label` itself are not used. May be empty.

    Returns:
        A raw user text, never blank unless `text` is. Pass it through `extract_text` as at serving time: that
        bounds its length and takes out what serving takes out.
    """
    return joined(augmented_parts(text, label, dice, others=others))


def augmented_parts(text: str, label: str, dice: random.Random, *, others: Mapping[str, Sequence[str]]) -> list[Part]:
    """Return what `augment` returns in parts, which tell what was asked from what was put around it."""
    cut = _CONTEXT_START.search(text)
    ask, context = (text[: cut.start()], text[cut.start() :]) if cut else (text, "")
    if dice.random() < _RESTYLED_SHARE:
        ask = _restyled(ask, _Setting(label, dice, others))
    parts = [Part(ask, asked=True)]
    if ask.strip() and dice.random() < _SURROUNDED_SHARE:
        parts = surround(ask, label, dice, others=others)
    if dice.random() < _ONE_HAND_SHARE:
        change = dice.choice((str.lower, str.lower, str.upper, lambda part: with_typos(part, dice)))
        parts = [Part(change(part.text), part.asked) for part in parts]
    return [*parts, Part(context, asked=True)] if context else parts


def _restyled(ask: str, setting: _Setting) -> str:
    for probability, change in _CHANGES:
        if setting.dice.random() < probability:
            changed = change(ask, setting)
            ask = changed if changed.strip() else ask
    return ask


def with_typos(text: str, dice: random.Random, rate: float = _TYPO_RATE) -> str:
    """Return `text` with some letters dropped, doubled, swapped or replaced by a key next to them."""
    letters: list[str] = []
    for letter in text:
        near = PHRASES.neighbours.get(letter.lower())
        if near is None or dice.random() >= rate:
            letters.append(letter)
        elif letters and letters[-1][-1:].isalpha() and dice.random() < 0.25:
            letters.insert(-1, letter)
        else:
            letters.append(dice.choice(["", letter * 2, dice.choice(near)]))
    return "".join(letters)


def _terse(text: str, setting: _Setting) -> str:
    """Drop function words as in a search box."""
    words = text.split()
    if len(words) not in _TERSE_WORDS or "\n" in text:
        return text
    kept = [word for word in words if word.strip(".,?!¿¡").lower() not in PHRASES.function_words]
    return " ".join(kept).rstrip("?.! ").lower() if len(kept) >= 2 else text


def _typos(text: str, setting: _Setting) -> str:
    return with_typos(text, setting.dice, setting.dice.choice((0.02, _TYPO_RATE, 0.06)))


def _doubled_letters(text: str, setting: _Setting) -> str:
    """Stretch one word: "sooo"."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    end = setting.dice.choice(words).end()
    return text[:end] + text[end - 1] * setting.dice.randint(1, 4) + text[end:]


def _lettered(text: str, setting: _Setting) -> str:
    """Letter the last lines as options of an exam item; `normalise` took such letters off."""
    lines = text.split("\n")
    count = len(lines) - 1 if len(lines) <= _MAX_OPTIONS + 1 else 0
    if count < 2 or any(len(line) > _OPTION_CHARS or not line[:1].isalnum() for line in lines):
        return text
    mark = setting.dice.choice(("{}. ", "{}) ", "({}) ", "{}: ", "({})"))
    first = setting.dice.choice("AAAa1")
    options = [mark.format(chr(ord(first) + number)) + line for number, line in enumerate(lines[1:])]
    heading = setting.dice.choice(("", "", "Options:\n", "Choices:\n"))
    return f"{lines[0]}\n{heading}" + setting.dice.choice(("\n", "\n", " ", "\n\n")).join(options)


def _case(text: str, setting: _Setting) -> str:
    return text.upper() if setting.dice.random() < 0.2 else text.lower()


def _bare_end(text: str, setting: _Setting) -> str:
    return text.rstrip(" .?!。？！")


def _pasted(text: str, setting: _Setting) -> str:
    """Make the prompt the pasted material of a short instruction that says nothing about it."""
    instruction = setting.dice.choice(PHRASES.instructions)
    quoted = setting.dice.choice(("{}", '"{}"', '"""\n{}\n"""', "<<<\n{}\n>>>", "---\n{}\n---")).replace("{}", text)
    return setting.dice.choice(
        (f"{instruction}:\n\n{quoted}", f"{quoted}\n\n{instruction}", f"{instruction}\n{quoted}")
    )


def _wrapped(text: str, setting: _Setting) -> str:
    """Wrap in Markdown, quotes, a code fence or JSON."""
    kind = setting.dice.randrange(7)
    lines = text.split("\n")
    return (
        f"```\n{text}\n```",
        f'"{text}"',
        "\n".join(f"> {line}" for line in lines),
        f"**{lines[0]}**" + "".join(f"\n{line}" for line in lines[1:]),
        f"# {text}",
        json.dumps({"role": "user", "content": text}, ensure_ascii=False),
        "\n".join(f"- {line}" for line in lines),
    )[kind]


def _spacing(text: str, setting: _Setting) -> str:
    """Widen or break some blanks and sprinkle invisible characters."""
    dice = setting.dice
    pieces = [
        dice.choice(_SPACES) if letter == " " and dice.random() < 0.15
        else letter + dice.choice(_INVISIBLE) if dice.random() < 0.02
        else letter
        for letter in text
    ]  # fmt: skip
    return "\n" * dice.randrange(3) + "".join(pieces) + " " * dice.randrange(3)


def _emoji(text: str, setting: _Setting) -> str:
    marks = "".join(setting.dice.choices(PHRASES.emoji, k=setting.dice.randint(1, 3)))
    return f"{text} {marks}" if setting.dice.random() < 0.7 else f"{marks} {text}"


# In the order somebody would do them: first the words, then how they are sent.
_CHANGES: Final[tuple[tuple[float, _Change], ...]] = (
    (0.40, _lettered),
    (0.08, _terse),
    (0.14, _typos),
    (0.03, _doubled_letters),
    (0.18, _case),
    (0.12, _bare_end),
    (0.04, _wrapped),
    (0.04, _pasted),
    (0.04, _spacing),
    (0.03, _emoji),
)
