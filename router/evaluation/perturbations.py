"""Six changes to a prompt that leave its task as it was; a route should not move with them. No model here."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from router.features import CONTEXT_LABEL, REPLY_LABEL, extract_text

Perturbation = Callable[[str, random.Random], str]

_LETTERS_PER_TYPO: Final = 20
_CHARACTERS_PER_ODD_BLANK: Final = 12
_CONFOUNDER_WORDS: Final = 6
_INVISIBLE: Final = ("\u200b", "\u2060", "\u00ad", "\ufeff")
_BLANKS: Final = ("  ", "\u00a0", "\u2003", " \t")
_BOILERPLATE: Final = (
    "Hi there! I hope you are having a good day. Could you please help me with the following? ",
    "You are a helpful assistant. Read the request below carefully and answer it as well as you can.\n\n",
    "Hello, this is my first time using this. Here is what I would like to ask: ",
    "Please take a deep breath and think step by step before you answer. ",
)
_IRRELEVANT: Final = (
    "By the way, my neighbour has just bought a red bicycle.",
    "It has been raining here since this morning.",
    "Sorry for the short message, I am writing this on the bus.",
    "My cat is asleep on the keyboard again.",
)
_SPECIALIST_WORDS: Final = (
    *("integral", "theorem", "eigenvalue", "polynomial", "probability"),
    *("python", "compiler", "SQL", "segfault", "regex"),
    *("diagnosis", "antibiotic", "symptom", "insulin", "biopsy"),
    *("photosynthesis", "quantum", "enzyme", "isotope", "tectonic"),
    *("plaintiff", "statute", "custody", "subpoena", "tort"),
    *("dividend", "mortgage", "ledger", "hedge", "amortisation"),
    *("sonnet", "renaissance", "epistemology", "screenplay", "etymology"),
)


def typos(text: str, dice: random.Random) -> str:
    """Swap, drop or double one letter in twenty, at least one."""
    letters = [index for index, character in enumerate(text) if character.isalpha()]
    characters = list(text)
    for index in dice.sample(letters, -(-len(letters) // _LETTERS_PER_TYPO)):
        kind = dice.choice(("swap", "drop", "double"))
        if kind == "swap" and index + 1 < len(characters):
            characters[index], characters[index + 1] = characters[index + 1], characters[index]
        else:
            characters[index] *= 0 if kind == "drop" else 2
    return "".join(characters)


def letter_case(text: str, dice: random.Random) -> str:
    """Write everything in capitals, in small letters or with capital first letters; scripts without case stay."""
    changed = [version for version in (text.upper(), text.lower(), text.title()) if version != text]
    return dice.choice(changed) if changed else text


def boilerplate_prefix(text: str, dice: random.Random) -> str:
    """Put a polite or instructing opening in front, as people paste it before any request."""
    return dice.choice(_BOILERPLATE) + text


def irrelevant_sentence(text: str, dice: random.Random) -> str:
    """Add a sentence about nothing at the end."""
    return f"{text} {dice.choice(_IRRELEVANT)}"


def odd_spacing(text: str, dice: random.Random) -> str:
    """Sprinkle invisible characters, and make some blanks wide or double."""
    characters = list(text)
    for index in dice.sample(range(len(text)), -(-len(text) // _CHARACTERS_PER_ODD_BLANK)):
        characters[index] = dice.choice(_BLANKS) if text[index] == " " else text[index] + dice.choice(_INVISIBLE)
    return "".join(characters)


def confounder_prefix(text: str, dice: random.Random) -> str:
    """Put random words of all specialist domains in front."""
    return f"{' '.join(dice.sample(_SPECIALIST_WORDS, _CONFOUNDER_WORDS))} {text}"


PERTURBATIONS: Final[Mapping[str, Perturbation]] = MappingProxyType(
    {
        "typos": typos,
        "letter_case": letter_case,
        "boilerplate_prefix": boilerplate_prefix,
        "irrelevant_sentence": irrelevant_sentence,
        "odd_spacing": odd_spacing,
        "confounder_prefix": confounder_prefix,
    }
)


def perturbed(text: str, name: str, seed: str) -> str:
    """Return a routing text as it would read had the human written the perturbed prompt.

    Args:
        text: routing text, after `extract`; only the last human turn is changed, the context behind it stays.
        name: one of `PERTURBATIONS`.
        seed: equal seeds give equal texts.
    """
    ask, context = _ask_and_context(text)
    return extract_text(PERTURBATIONS[name](ask, random.Random(f"{seed}:{name}"))).text + context


def _ask_and_context(text: str) -> tuple[str, str]:
    starts = [text.find(f"\n{label}") for label in (CONTEXT_LABEL, REPLY_LABEL)]
    cut = min((start for start in starts if start >= 0), default=len(text))
    return text[:cut], text[cut:]
