"""Why one prompt was scored as it was: the figures, the words that mattered, the training topics nearest to it.

Words are judged by occlusion: the prompt is scored again without them. That is exact for the model as it is, but
two words that say the same hide each other, and where words are tried in chunks a word outside the strongest chunks is
not looked at alone.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.abstention import Abstention, Thresholds, abstain
from router.features import extract_text
from router.scores import DomainScores, FloatArray, Scorer

MAX_UNITS: Final = 40
"""Groups of words tried in one round: two rounds reach the single words of any routing text."""

_PIECE_CHARS: Final = 3
_LONGEST_WORD_CHARS: Final = 32
_SMALLEST_PROBABILITY: Final = 1e-6
# Scripts without blanks between words; in Japanese a change of script is most often the edge of a word.
_UNSPACED: Final = (
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f",  # Han
    "\u3041-\u309f",  # hiragana
    "\u30a0-\u30ff\u31f0-\u31ff",  # katakana
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff",  # Thai, Lao, Myanmar, Khmer
)
_RUNS: Final = re.compile(
    f"(?P<unspaced>{'|'.join(f'[{script}]+' for script in _UNSPACED)})|[^\\s{''.join(_UNSPACED)}]+"
)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Influence:
    """What one word does.

    Attributes:
        word: as it stands in the routing text.
        spans: where it occurs there, (start, end) in characters; all of them were left out together.
        influence: how much the top domain's log-odds (natural) fall without it; negative when they rise.
    """

    word: str
    spans: tuple[Span, ...]
    influence: float


@dataclass(frozen=True, slots=True)
class Topic:
    """A training topic near the prompt; `similarity` is the cosine, -1 to 1."""

    name: str
    domain: str
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Topics:
    """Training topics: T names, the domain of each, and float32 (T, D) unit vectors."""

    names: tuple[str, ...]
    domains: tuple[str, ...]
    vectors: FloatArray

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not len(self.names) == len(self.domains) == len(self.vectors):
            raise ValueError("names, domains and vectors of the topics do not fit")

    def nearest(self, embedding: ArrayLike, count: int = 3) -> tuple[Topic, ...]:
        """Return up to `count` topics by cosine with the embedding (D,), best first; the earlier one wins a tie."""
        vector = np.asarray(embedding, dtype=np.float32)
        similarities = self.vectors @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        best = np.argsort(-similarities, kind="stable")[:count]
        return tuple(Topic(self.names[row], self.domains[row], float(similarities[row])) for row in best)

    def as_arrays(self, prefix: str = "") -> dict[str, NDArray[np.generic]]:
        """Return what `from_arrays` reads, for an npz."""
        names, domains = np.array(self.names, np.str_), np.array(self.domains, np.str_)
        return {prefix + "names": names, prefix + "domains": domains, prefix + "vectors": self.vectors}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str = "") -> Self:
        """Read what `as_arrays` wrote; KeyError when one is missing, ValueError when they do not fit."""
        names, domains = (tuple(map(str, arrays[prefix + part])) for part in ("names", "domains"))
        return cls(names, domains, np.asarray(arrays[prefix + "vectors"], dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What is known about one prompt's scores; it holds words of the prompt, so it is for the person who asks.

    Attributes:
        text: routing text that was scored; spans count in it.
        scores: the scorer's answer.
        abstention: why no specialist should answer, None when the best domain may be acted on.
        threshold: limit that stopped it, or the smallest probability of the best domain when nothing did.
        words: most influential first, by absolute influence.
        topics: nearest training topics, best first; empty without a table.
    """

    text: str
    scores: DomainScores
    abstention: Abstention | None
    threshold: float
    words: tuple[Influence, ...]
    topics: tuple[Topic, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        domain, probability = self.scores.top()
        return {
            "text": self.text,
            "domain": domain,
            "probability": probability,
            "probabilities": self.scores.as_dict(),
            "margin": self.scores.margin(),
            "out_of_domain": self.scores.out_of_domain,
            "disagreement": self.scores.disagreement,
            "tier": self.scores.tier,
            "abstention": None if self.abstention is None else self.abstention.value,
            "threshold": self.threshold,
            "words": [
                {"word": word.word, "influence": word.influence, "spans": [list(span) for span in word.spans]}
                for word in self.words
            ],
            "topics": [
                {"name": topic.name, "domain": topic.domain, "similarity": topic.similarity} for topic in self.topics
            ],
        }

    def as_text(self) -> str:
        """Return a few lines for a terminal."""
        domain, _ = self.scores.top()
        verdict = f"abstains: {self.abstention}" if self.abstention else f"acts on {domain}"
        ranked = sorted(self.scores.as_dict().items(), key=lambda pair: -pair[1])[:5]
        lines = [
            f"{verdict} (limit {self.threshold:.2f})",
            f"margin {self.scores.margin():.3f}  out of domain {self.scores.out_of_domain:.2f}"
            f"  disagreement {self.scores.disagreement:.2f}  tier {self.scores.tier or '-'}",
            *(f"  {probability:6.1%}  {label}" for label, probability in ranked),
        ]
        if self.words:
            lines += [f"words for (+) and against (-) {domain}, in log-odds"]
            lines += [f"  {word.influence:+6.2f}  {word.word}" for word in self.words]
        if self.topics:
            lines += ["nearest training topics"]
            lines += [f"  {topic.similarity:6.2f}  {topic.name} ({topic.domain})" for topic in self.topics]
        return "\n".join(lines)


def explain(
    scorer: Scorer,
    text: str,
    *,
    words: int = 12,
    max_units: int = MAX_UNITS,
    topics: Topics | None = None,
    embedding: ArrayLike | None = None,
) -> Explanation:
    """Explain the scores of one prompt.

    Args:
        scorer: scores one batch of up to `max_units` + 1 texts a round; the routing text is bounded, so a long prompt
            costs no more than two rounds (more with a small `max_units`).
        text: a prompt or its routing text; what is explained is the routing text.
        words: most words reported.
        max_units: groups of words tried in one round, 2 or more.
        topics: table of training topics, used when `embedding` (D,) of the prompt is given too.
        embedding: the prompt's, from the same encoder as the table.

    Raises:
        ScorerError: the model could not run.
        ValueError: `max_units` is below 2.
    """
    if max_units < 2:
        raise ValueError("max_units is below 2")
    routing_text = extract_text(text).text
    scores, influences = _occlude(scorer, routing_text, max_units)
    ranked = sorted(influences, key=lambda word: (-abs(word.influence), word.spans))
    abstention = abstain(scores, scorer.thresholds)
    return Explanation(
        text=routing_text,
        scores=scores,
        abstention=abstention,
        threshold=_limit(abstention, scores, scorer.thresholds),
        words=tuple(ranked[:words]),
        topics=() if topics is None or embedding is None else topics.nearest(embedding),
    )


def _occlude(scorer: Scorer, text: str, max_units: int) -> tuple[DomainScores, list[Influence]]:
    """Score the text without each group of words; the groups that matter most are cut finer until they are words."""
    spans = list(_units(text))
    places: dict[str, list[Span]] = {}
    for start, end in spans:
        places.setdefault(text[start:end].casefold(), []).append((start, end))
    groups = [found[:1] for found in places.values()] if len(places) <= max_units else _split(spans, max_units)
    words: dict[str, Influence] = {}
    while True:
        # A word alone goes from everywhere it stands: left in once, it would hide what it does.
        occluded = [places[_word(text, group)] if len(group) == 1 else group for group in groups]
        scores, drops = _drops(scorer, text, occluded)
        measured = list(zip(drops, groups, occluded, strict=True))
        for drop, group, left_out in measured:
            if len(group) == 1:
                words[_word(text, group)] = Influence(text[slice(*left_out[0])], tuple(left_out), drop)
        groups = _finer([(drop, group) for drop, group, _ in measured if len(group) > 1], max_units)
        if not groups:
            return scores, list(words.values())


def _drops(scorer: Scorer, text: str, groups: Sequence[Sequence[Span]]) -> tuple[DomainScores, list[float]]:
    """Return the scores of the text, and by how much its best domain's log-odds fall without each group."""
    batch = scorer.score([text, *(_without(text, group) for group in groups)])
    best = int(np.argmax(batch.probabilities[0]))
    whole, *odds = (_log_odds(float(probability)) for probability in batch.probabilities[:, best])
    return batch[0], [whole - without for without in odds]


def _finer(chunks: Sequence[tuple[float, Sequence[Span]]], max_units: int) -> list[list[Span]]:
    """Cut the strongest chunks into words, as many as fit a round; one that does not fit alone into smaller chunks."""
    finer: list[list[Span]] = []
    for _, chunk in sorted(chunks, key=lambda pair: -abs(pair[0])):
        room = max_units - len(finer)
        if finer and len(chunk) > room:
            break
        finer.extend(_split(chunk, room))
    return finer


def _units(text: str) -> Iterator[Span]:
    """Yield words without the punctuation around them; runs of up to 4 characters where no blanks part words."""
    for run in _RUNS.finditer(text):
        start, end = run.span()
        if run["unspaced"]:
            yield from _pieces(start, end, _PIECE_CHARS)
            continue
        while start < end and not _is_letter(text[start]):
            start += 1
        while end > start and not _is_letter(text[end - 1]):
            end -= 1
        if start < end:
            yield from _pieces(start, end, _LONGEST_WORD_CHARS)


def _pieces(start: int, end: int, size: int) -> Iterator[Span]:
    """Cut into pieces of about `size` characters, one more at most; what is shorter stays whole."""
    count = max(1, round((end - start) / size))
    cuts = [start + (end - start) * part // count for part in range(count + 1)]
    yield from zip(cuts, cuts[1:], strict=False)


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _split(spans: Sequence[Span], count: int) -> list[list[Span]]:
    """Cut a sequence into at most `count` contiguous groups of about the same size."""
    count = min(count, len(spans))
    cuts = [len(spans) * part // count for part in range(count + 1)]
    return [list(spans[start:end]) for start, end in zip(cuts, cuts[1:], strict=False)]


def _word(text: str, group: Sequence[Span]) -> str:
    return text[slice(*group[0])].casefold()


def _without(text: str, spans: Sequence[Span]) -> str:
    kept, position = [], 0
    for start, end in spans:
        kept.append(text[position:start])
        position = end
    return "".join([*kept, text[position:]])


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _SMALLEST_PROBABILITY), 1 - _SMALLEST_PROBABILITY)
    return math.log(bounded / (1 - bounded))


def _limit(abstention: Abstention | None, scores: DomainScores, thresholds: Thresholds) -> float:
    limits = {
        Abstention.SMALL_MARGIN: thresholds.margin,
        Abstention.OUT_OF_DOMAIN: thresholds.out_of_domain,
        Abstention.DISAGREEMENT: thresholds.disagreement,
    }
    confidence = thresholds.of(scores.top()[0])
    return confidence if abstention is None else limits.get(abstention, confidence)
