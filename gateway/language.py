"""Tells the language a text is written in, or that it is not sure. Knows nothing of experts, and never raises.

The script decides where only one language of weight uses it; between languages of one script py3langid decides, a
naive Bayes classifier over byte n-grams that comes with its model (BSD licence, no download). It was taken for its
probabilities: at the same rate of wrong answers (0.4 % of this project's prompts in Latin script) fastText's lid.176
has to stay unsure a third more often. A wrong language sends a prompt away from an expert that could
answer it; not being sure costs nothing, because an unknown language excludes nobody.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


LANGUAGES = _codes(
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv "
    "ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne "
    "ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st "
    "su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
"""All ISO 639-1 codes."""

READ_CHARACTERS = 600
SCRIPT_CHARACTERS = 300
PROSE_BYTES = 160  # more hardly change the answer, and each costs 0.2 us
LEAST_LETTERS = 5
LEAST_SHARE = 0.7  # of the letters, for a script to be the text's
LEAST_PROSE = 0.5  # of the characters, in plain words; less is code, a formula or a table
LEAST_KANA = 0.1  # of Han and kana characters; Chinese has none
LEAST_HAN = 20  # without a kana; shorter ones may be Japanese, too, if no character speaks against it
LEAST_PROBABILITY = 0.7

# One letter is a variable; Han and kana need no company.
_SCRIPTS = re.compile(
    "(?P<Latin>[A-Za-z\u00c0-\u024f\u1e00-\u1eff]{2,})|(?P<Kana>[\u3041-\u30ff]+)|(?P<Han>[\u3400-\u9fff]+)"
    "|(?P<ko>[\u1100-\u11ff\uac00-\ud7af]+)|(?P<Cyrillic>[\u0400-\u052f]{2,})|(?P<Arabic>[\u0620-\u06ff]{2,})"
    "|(?P<Devanagari>[\u0900-\u097f]{2,})|(?P<el>[\u0370-\u03ff\u1f00-\u1fff]{2,})|(?P<he>[\u0590-\u05ff]{2,})"
    "|(?P<th>[\u0e00-\u0e7f]{2,})|(?P<Bengali>[\u0980-\u09ff]{2,})|(?P<pa>[\u0a00-\u0a7f]{2,})"
    "|(?P<gu>[\u0a80-\u0aff]{2,})|(?P<ta>[\u0b80-\u0bff]{2,})|(?P<te>[\u0c00-\u0c7f]{2,})"
    "|(?P<kn>[\u0c80-\u0cff]{2,})|(?P<ml>[\u0d00-\u0d7f]{2,})|(?P<si>[\u0d80-\u0dff]{2,})"
    "|(?P<lo>[\u0e80-\u0eff]{2,})|(?P<my>[\u1000-\u109f]{2,})|(?P<ka>[\u10a0-\u10ff]{2,})"
    "|(?P<km>[\u1780-\u17ff]{2,})|(?P<hy>[\u0530-\u058f]{2,})"
)
_OTHER_THINGS = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|[A-Za-z]{2,8}://\S*", re.DOTALL)
_HAN = re.compile("[\u3400-\u9fff]+")
# A character of these says as much as so many letters.
_WEIGHTS = MappingProxyType({"Han": 3, "Kana": 2, "ko": 2})
# Much likelier than the others of their script before a word is read.
_LEAST_BY_CODE = MappingProxyType({"hi": 0.5, "ru": 0.5})
# Written forms of one language, and languages that read each other's: a prompt does not tell them apart.
_CANONICAL = MappingProxyType({"nb": "no", "nn": "no", "ms": "id", "bs": "hr", "sr": "hr"})
_SHARED = frozenset(_CANONICAL.values())

# Competing in the classifier: languages with many speakers or close to one that has.
_CANDIDATES = _codes(
    "af am ar as az be bg bn bs ca cs da de en es et eu fa fi fr hi hr hu id is it ja ka kk ko ku ky lt lv mk mn mr ms "
    "ne nl no pl ps pt ro ru sk sl sq sr sv sw tg tk tl tr tt ug uk ur uz vi zh"
)
# Too close to another one to be told from it in a prompt, or where odd words end up.
_CONFUSABLE = _codes("af as ku ps tg tk tt ug uz")
_PUNCTUATION = ".,;:!?()[]\"'«»„“”‘’…¿¡*-–—"


def detect(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language, None when there is none or it is not sure.

    Code, formulas, addresses and single words have none; of several languages the prevailing one counts. 500
    characters take 0.06 to 0.1 ms once `prepare` has run.

    Args:
        text: a prompt; what is beyond `READ_CHARACTERS` is not read.
    """
    text = _OTHER_THINGS.sub(" ", text[:READ_CHARACTERS])
    if text.isascii():
        return _of_words(text)
    text = unicodedata.normalize("NFC", text)
    script = _script(text)
    if script == "Latin":
        return _of_words(text)
    if script is None or len(script) == 2:
        return script
    # Latin letters inside are names and terms.
    return _classify(" ".join(word for word in text.split() if not word.isascii()))


def canonical(code: str) -> str:
    """Return the code that `detect` uses: `no` for `nb` and `nn`, `id` for `ms`, `hr` for `bs` and `sr`."""
    return _CANONICAL.get(code, code)


def prepare() -> None:
    """Load the classifier: half a second and 75 MB that a request should not wait for."""
    _identifier()


def _script(text: str) -> str | None:
    """Return the prevailing script: its language's code where it has only one, else its name."""
    letters: dict[str, int] = {}
    for found in _SCRIPTS.finditer(text[:SCRIPT_CHARACTERS]):
        name = found.lastgroup or ""
        letters[name] = letters.get(name, 0) + (found.end() - found.start()) * _WEIGHTS.get(name, 1)
    total, kana = sum(letters.values()), letters.get("Kana", 0)
    if kana:
        letters["Kana"] = kana + letters.pop("Han", 0)
    best = max(letters, key=letters.__getitem__, default="")
    if total < LEAST_LETTERS or letters[best] < LEAST_SHARE * total:
        return None
    if best == "Kana":
        return "ja" if kana >= LEAST_KANA * letters["Kana"] else None
    return _of_han(text) if best == "Han" else best


def _of_han(text: str) -> str | None:
    """Tell Chinese from Japanese without kana by a character that Japanese does not have, or by the length."""
    han = "".join(_HAN.findall(text))
    try:
        han.encode("shift_jis")
    except UnicodeEncodeError:
        return "zh"
    return "zh" if len(han) >= LEAST_HAN else None


def _of_words(text: str) -> str | None:
    """Classify text in Latin script by its plain words, if it has enough of them."""
    words, letters, seen = [], 0, 0
    for token in text.split():
        seen += len(token)
        word = token.strip(_PUNCTUATION)
        if word.isalpha() or word.replace("'", "").replace("’", "").replace("-", "").isalpha():
            words.append(word)
            letters += len(word)
            if letters >= PROSE_BYTES:
                break
    if letters < LEAST_LETTERS or letters < LEAST_PROSE * seen:
        return None
    return _classify(" ".join(words))


def _classify(prose: str) -> str | None:
    identifier = _identifier()
    if identifier is None or not prose:
        return None
    sample = prose[:PROSE_BYTES].encode(errors="replace")[: 2 * PROSE_BYTES]
    found, probability = identifier.classify(sample)
    code = canonical(found)
    if code in _SHARED:
        probability = sum(share for other, share in identifier.rank(sample)[:4] if canonical(other) == code)
    least = _LEAST_BY_CODE.get(code, LEAST_PROBABILITY)
    return code if probability >= least and code not in _CONFUSABLE else None


@cache
def _identifier() -> LanguageIdentifier | None:
    """Load the classifier once; None where its model cannot be unpacked (it goes through a temporary file)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    except OSError:
        return None
    identifier.set_languages(_CANDIDATES)
    return identifier
