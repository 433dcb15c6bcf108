"""Find prompts that repeat one another, exactly or nearly; it compares characters and knows no labels.

Five-character shingles instead of words, so that languages without blanks work too. MinHash with banding proposes
pairs; the exact Jaccard similarity of the shingle sets decides, so a chance collision never removes a prompt.

Source: Broder, "On the resemblance and containment of documents" (1997); Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from router.text import head_and_tail

THRESHOLD: Final = 0.8
"""Jaccard similarity from which two prompts count as one."""

_SHINGLE: Final = 5
_BANDS: Final = 14
_ROWS: Final = 5  # a pair at the threshold meets in some band with 99.6 %, a pair at 0.5 with 36 %
_HASHES: Final = _BANDS * _ROWS
_HEAD_CHARS: Final = 1_500
_TAIL_CHARS: Final = 500
_ESTIMATE_SLACK: Final = 0.15  # 2.5 standard deviations of an estimate from 70 hashes
# Numbers keep their points; sentence marks go, mathematical and programming symbols stay.
_TOKEN: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]+|[^\w\s.,!?;:'\"…«»“”‘’。，！？；：、¿¡]")

_U64 = npt.NDArray[np.uint64]
_U32 = npt.NDArray[np.uint32]
_WORD: Final = 2**64


def canonical(text: str) -> str:
    """Return what two spellings of one prompt share: no case, no sentence marks, single blanks.

    A text of sentence marks only is returned as it is, so that "..." and "???" stay two prompts.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_TOKEN.findall(folded)) or folded.strip()


@dataclass(frozen=True, slots=True)
class Match:
    """An earlier text that a text repeats.

    Attributes:
        position: which one, in the order they were added.
        similarity: Jaccard similarity of the shingle sets; 1.0 also for equal canonical forms.
        exact: whether the canonical forms are equal.
    """

    position: int
    similarity: float
    exact: bool


class DuplicateIndex:
    """Texts no two of which repeat one another; a text is compared with all of them in well under a millisecond."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._forms: list[str] = []
        self._positions: dict[str, int] = {}
        self._buckets: dict[tuple[int, bytes], list[int]] = {}
        self._signatures: _U32 = np.empty((1024, _HASHES), dtype=np.uint32)

    def __len__(self) -> int:
        return len(self._forms)

    def find(self, text: str) -> Match | None:
        """Return the added text that `text` repeats, or None; of equally similar ones the first."""
        form = _bounded(text)
        return self._equal(form) or self._nearest(form, _signature(form))

    def find_or_add(self, text: str) -> Match | None:
        """Return the added text that `text` repeats; when there is none, add `text` and return None."""
        form = _bounded(text)
        equal = self._equal(form)
        if equal:
            return equal
        signature = _signature(form)
        match = self._nearest(form, signature)
        if match is None:
            self._add(form, signature)
        return match

    def _equal(self, form: str) -> Match | None:
        position = self._positions.get(form)
        return None if position is None else Match(position, 1.0, exact=True)

    def _add(self, form: str, signature: _U32) -> None:
        position = len(self._forms)
        if position == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[position] = signature
        self._forms.append(form)
        self._positions[form] = position
        for bucket in _buckets(signature):
            self._buckets.setdefault(bucket, []).append(position)

    def _nearest(self, form: str, signature: _U32) -> Match | None:
        met = sorted({other for bucket in _buckets(signature) for other in self._buckets.get(bucket, ())})
        if not met:
            return None
        estimates = (self._signatures[met] == signature).mean(axis=1)
        likely = [other for other, estimate in zip(met, estimates, strict=True) if self._may_match(float(estimate))]
        shingles = _shingles(form)
        best: Match | None = None
        for other in likely:
            similarity = _jaccard(shingles, _shingles(self._forms[other]))
            if similarity >= self._threshold and (best is None or similarity > best.similarity):
                best = Match(other, similarity, exact=False)
        return best

    def _may_match(self, estimate: float) -> bool:
        return estimate >= self._threshold - _ESTIMATE_SLACK


def find_repeats(texts: Sequence[str], threshold: float = THRESHOLD) -> list[Match | None]:
    """Return for each text the earlier text it repeats; a repeat never stands for later ones.

    Returns:
        One entry a text; `position` is an index into `texts`.
    """
    index = DuplicateIndex(threshold)
    kept: list[int] = []
    matches: list[Match | None] = []
    for number, text in enumerate(texts):
        match = index.find_or_add(text)
        if match is None:
            kept.append(number)
            matches.append(None)
        else:
            matches.append(Match(kept[match.position], match.similarity, match.exact))
    return matches


def _bounded(text: str) -> str:
    return head_and_tail(canonical(text), _HEAD_CHARS, _TAIL_CHARS)


def _shingles(form: str) -> _U64:
    """Return the sorted distinct hashes of all runs of five characters (of the whole text when shorter)."""
    codes = np.frombuffer(form.encode("utf-32-le", "ignore"), dtype="<u4").astype(np.uint64)
    width = max(1, min(_SHINGLE, len(codes)))
    hashes = np.full(max(1, len(codes) - width + 1), width, dtype=np.uint64)
    for offset in range(width if len(codes) else 0):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + len(hashes)]
    hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes * np.uint64(0xBF58476D1CE4E5B9))


def _jaccard(left: _U64, right: _U64) -> float:
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def _constants(start: int, count: int) -> Iterator[int]:
    """Yield odd 64-bit numbers of the SplitMix64 sequence: the same on every machine and numpy version."""
    state = start
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % _WORD
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % _WORD
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % _WORD
        yield (mixed ^ (mixed >> 31)) | 1


_MASKS: Final = np.fromiter(_constants(1, _HASHES), dtype=np.uint64)[:, None]
_FACTORS: Final = np.fromiter(_constants(2, _HASHES), dtype=np.uint64)[:, None]


def _signature(form: str) -> _U32:
    hashed = (_shingles(form)[None, :] ^ _MASKS) * _FACTORS
    smallest: _U32 = (hashed.min(axis=1) >> np.uint64(32)).astype(np.uint32)
    return smallest


def _buckets(signature: _U32) -> Iterator[tuple[int, bytes]]:
    for band in range(_BANDS):
        yield band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()
