r"""The answer inside an answer: the number, option letter, boxed value or JSON that samples are compared by. Pure.

Two samples agree when what is read from them is the same text: `number:4` from "the answer is 4.00", from
`\boxed{4}` and from "= 4". Nothing readable is None, never a guess at prose.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import orjson

Extract = Literal["auto", "number", "choice", "boxed", "json", "text"]

# An answer stands at the end of its derivation. JSON and plain text are compared whole, up to a length.
TAIL_CHARACTERS = 4_096
WHOLE_CHARACTERS = 65_536
MAXIMUM_POWER = 60
# All repetitions are bounded: samples are whatever a model writes, and a run of spaces must not cost seconds.
_NUMBER = re.compile(
    r"(?<![\w.^/])(?<!\^\{)(?=[-+$€£¥.\s]{0,4}[\d\\])"
    r"(?P<sign>[-+]\s?)?[$€£¥]?\s?"
    r"(?:\\[dt]?frac\{(?P<over>\d{1,60})\}\{(?P<under>\d{1,60})\}"
    r"|(?P<whole>\d{1,3}(?:(?:,|\{,\}|')\d{3}){1,20}(?!\d)|\d{1,60}(?!\d))?(?P<part>\.\d{1,60}(?!\d))?"
    r"(?P<power>[eE][-+]?\d{1,5})?"
    r"(?:\s?/\s?(?P<divisor>\d{1,60})(?![\d/]))?)"
    r"(?P<percent>\s?\\?%)?"
)
_MARK = re.compile(
    r"(?:\banswer\b|\bantwort\b|\brésultat\b|\bréponse\b|\brespuesta\b|\brisposta\b|\bresposta\b|ответ|答案|答え)"
    r"[^\S\n]{0,4}(?:\b(?:is|ist|est|es|è|é)\b|[:：=]|是|为|は)?[^\S\n]{0,4}[:：=]?(?P<rest>[^\n]+)",
    re.IGNORECASE,
)
_OPENING = r"[\s*_(\[{$\"'`]{0,8}"
_CLOSING = r"[\s*_)\]}$\"'`.:,]{0,8}"
# "A" and "I" are words too: they are options only where nothing or a reason follows.
_LETTER = (
    rf"{_OPENING}(?:(?:option|choice)\b)?{_OPENING}(?:\\text\{{[\s(]{{0,2}})?"
    r"(?P<letter>[B-HJ](?![\w'’-])|[AI](?=[*_\s]{0,4}(?:$|[)\]}$\"'`.:,\n]|because\b|since\b)))"
)
_LEADING_LETTER = re.compile(_LETTER)
_ONLY_LETTER = re.compile(rf"{_LETTER}(?:{_CLOSING}|[)\].:,*]{{1,4}}\s.*)", re.DOTALL)
_NAMED_LETTER = re.compile(r"\b(?:option|choice)\s{0,4}[*_(\[]{0,4}(?P<letter>[A-J])\b", re.IGNORECASE)
_SPACED_THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_FENCE = re.compile(r"```[\w-]*[^\S\n]*\n(?P<inside>.*?)```", re.DOTALL)
_DRESS = re.compile(r"\\(?:left|right|displaystyle|[,;:! ])|\$|\\\(|\\\)")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")


def extract(text: str, kind: Extract) -> str | None:
    """Read what samples are compared by.

    Args:
        text: a whole answer.
        kind: what to look for; `auto` looks for the others in turn and ends with the text itself.

    Returns:
        The value in one form for all ways of writing it, behind its kind; None when there is none.
    """
    # Compatibility forms (full-width digits, ligatures) and the typographic minus are the same answer.
    whole = unicodedata.normalize("NFKC", _SPACED_THOUSANDS.sub(",", text[-WHOLE_CHARACTERS:])).replace("\u2212", "-")
    return _READERS[kind](whole)


def _auto(text: str) -> str | None:
    tail = text[-TAIL_CHARACTERS:]
    last = _last_line(tail)
    tries: tuple[Callable[[], str | None], ...] = (
        lambda: _boxed(tail),
        lambda: _json(text),
        lambda: _marked(tail),
        lambda: _letter_alone(last),
        lambda: _last_number(last),
        lambda: _plain(text),
    )
    return next((found for attempt in tries if (found := attempt()) is not None), None)


def _number(text: str) -> str | None:
    text = text[-TAIL_CHARACTERS:]
    box, mark = _last_box(text), _last_mark(text)
    in_box = _last_number(box) if box is not None else None
    marked = _first_number(mark) if mark is not None else None
    return in_box or marked or _last_number(text)


def _choice(text: str) -> str | None:
    text = text[-TAIL_CHARACTERS:]
    for part in (_last_box(text), _last_mark(text)):
        if part is not None and (found := _LEADING_LETTER.match(part)):
            return f"choice:{found['letter']}"
    named = list(_NAMED_LETTER.finditer(text))
    if named:
        return f"choice:{named[-1]['letter'].upper()}"
    return _letter_alone(_last_line(text)) or _letter_alone(text.strip())


def _boxed(text: str) -> str | None:
    inside = _last_box(text[-TAIL_CHARACTERS:])
    if inside is None:
        return None
    shown = " ".join(_TEXT.sub(r"\1", _DRESS.sub("", inside)).replace("dfrac", "frac").replace("tfrac", "frac").split())
    return _whole_number(shown) or _letter_alone(shown) or (f"boxed:{shown.replace(' ', '')}" if shown else None)


def _json(text: str) -> str | None:
    fenced = [match["inside"] for match in _FENCE.finditer(text)]
    for part in (text, *reversed(fenced)):
        stripped = part.strip()
        if not stripped.startswith(("{", "[")):
            continue
        try:
            value = orjson.loads(stripped)
            return f"json:{orjson.dumps(_settled(value), option=orjson.OPT_SORT_KEYS).decode()}"
        except (orjson.JSONDecodeError, TypeError, RecursionError):
            continue
    return None


def _plain(text: str) -> str | None:
    squeezed = " ".join(text.casefold().split()).strip(" .,:;!?\"'`*_")
    return f"text:{squeezed}" if squeezed else None


def _marked(text: str) -> str | None:
    """Read what stands behind "the answer is", the last time it is said."""
    rest = _last_mark(text)
    if rest is None:
        return None
    letter = _LEADING_LETTER.match(rest)
    if letter:
        return f"choice:{letter['letter']}"
    return _first_number(rest) or _plain(rest)


def _last_mark(text: str) -> str | None:
    marks = list(_MARK.finditer(text))
    return marks[-1]["rest"].strip() if marks else None


def _last_box(text: str) -> str | None:
    r"""Return what is in the last `\boxed{...}`, braces inside it balanced."""
    at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if at < 0:
        return None
    start = text.index("{", at) + 1
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


def _letter_alone(line: str) -> str | None:
    """Read a line that is an option: `B`, `(B)`, `**B.** because`; a sentence that begins with "A" is none."""
    found = _ONLY_LETTER.fullmatch(line.strip())
    return f"choice:{found['letter']}" if found else None


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


def _numbers(text: str) -> list[str]:
    found = (_value(match) for match in _NUMBER.finditer(text))
    return [value for value in found if value is not None]


def _first_number(text: str) -> str | None:
    # "5 + 7 = 12" is 12, "12 (5 + 7)" too: what follows an equals sign wins, else the first.
    numbers = _numbers(text.rpartition("=")[2]) or _numbers(text)
    return numbers[0] if numbers else None


def _last_number(text: str) -> str | None:
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _whole_number(text: str) -> str | None:
    match = _NUMBER.fullmatch(text)
    return _value(match) if match else None


def _value(match: re.Match[str]) -> str | None:
    """Return a number in lowest terms: `number:1/2` for 0.5, 50 % and 1/2."""
    try:
        if match["over"]:
            value = Fraction(int(match["over"]), int(match["under"]))
        else:
            whole = re.sub(r"\D", "", match["whole"] or "")
            power = match["power"] or ""
            if abs(int(power[1:] or 0)) > MAXIMUM_POWER:
                return None
            value = Fraction(Decimal(whole + (match["part"] or "") + power)) / int(match["divisor"] or 1)
    except (InvalidOperation, ZeroDivisionError, ValueError, OverflowError):
        return None
    if match["percent"]:
        value /= 100
    if (match["sign"] or "").startswith("-"):
        value = -value
    return f"number:{value}"


def _settled(value: Any) -> Any:
    """Return a JSON value in which 4.0 is 4, so that it is written the same way."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _settled(inner) for key, inner in value.items()}
    return [_settled(inner) for inner in value] if isinstance(value, list) else value


_READERS: MappingProxyType[str, Callable[[str], str | None]] = MappingProxyType(
    {"auto": _auto, "number": _number, "choice": _choice, "boxed": _boxed, "json": _json, "text": _plain}
)
