"""Add domains to a trained artifact, list and remove them; nothing is trained, and the base model's files never change.

A domain is one file with a gate (`router.gates`) and its entries in the card: `added`, a threshold, the file's hash.
Removing it restores the bytes of a card that `pointsman train` wrote.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from router.artifact import Card, artifact_folder, read_card
from router.artifact_files import new_copy, remove_gate, write_gate
from router.backends.tiered import STATISTICS, gate_file
from router.data import find_repeats
from router.domain_info import AddedDomain, DomainError, DomainInfo, Kind, Neighbour
from router.embedding import EmbeddingScorer, is_shipped, load_embedding_scorer
from router.errors import ArtifactError, DataError
from router.explanation import Topic
from router.features import extract_text
from router.gates import (
    FROM_DESCRIPTIONS,
    MAX_DESCRIPTIONS,
    Gate,
    fit_gate,
    fit_gate_from_description,
    load_gate,
    update_gate,
)
from router.prompts import read_examples
from router.scores import FloatArray
from router.statistics import Statistics
from router.tiers.arrays import load_npz

CONFIDENCE: Final = 0.5
"""Threshold of an added domain: likelier than the whole base together, which is where its recall is estimated."""

FEW_EXAMPLES: Final = 5
CLAIMED_SHARE: Final = 0.2
_LOW_RECALL: Final = 0.5
_NEIGHBOURS: Final = 3
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def add_domain(
    artifact: str | Path,
    name: str,
    *,
    examples: Sequence[Path] = (),
    texts: Sequence[str] = (),
    description: str | Sequence[str] = (),
    output: Path | None = None,
) -> AddedDomain:
    """Add a domain, or more examples to one that was added before; the result equals adding all at once.

    Args:
        artifact: an artifact folder, or "default" for the shipped one, which needs `output`.
        name: matches [a-z][a-z0-9_-]{0,31}; no domain of the base.
        examples: CSV or JSONL files; of rows with a label those of `name` count, rows without one all.
        texts: examples as they are, in addition.
        description: 1 to 20 sentences about the domain (a string is cut into them). Without examples the domain is
            made from them alone; with examples they are kept for people.
        output: a new folder for the artifact with the domain; the given one then stays as it is.

    Raises:
        DomainError: the name, the description or the folder cannot be taken.
        DataError: an examples file cannot be read or holds no example.
        ArtifactError: the artifact cannot be used or written.
        ScorerError: the model could not run.
    """
    start = time.perf_counter()
    folder = artifact_folder(artifact)
    if output is None:
        _check_own(folder)
    card = read_card(folder)
    _check_name(name, card)
    rows = _examples(name, examples, texts)
    used = [row for row in rows if row]
    sentences = _sentences(description)
    if not used and (examples or texts or not sentences):
        raise DataError(f"no examples of {name!r}: give prompts (labelled {name!r} or not at all) or a description")
    scorer = load_embedding_scorer(folder)
    base = _Base(folder, _statistics(folder, card), _gates(folder, card))
    embeddings = scorer.embed(used or sentences)
    gate = _fitted(base, name, embeddings, sentences, described=not used)
    warnings = [*_doubts(gate, used, len(rows) - len(used)), *_claims(base.gates, name, embeddings)]
    if output is None:
        write_gate(folder, gate, confidence=CONFIDENCE, version=card.version)
    else:
        with new_copy(folder, output) as copy:
            write_gate(copy, gate, confidence=CONFIDENCE, version=card.version)
    written = read_card(output or folder)
    return AddedDomain(
        artifact=output or folder,
        version=written.version,
        domain=_info(gate, written),
        used=len(embeddings),
        neighbours=_neighbours(gate, base.statistics),
        topics=_topics(gate, scorer),
        warnings=tuple(warnings),
        seconds=time.perf_counter() - start,
    )


def remove_domain(artifact: str | Path, name: str) -> str:
    """Remove an added domain and return the version of what is left: all its scores are as if it had never been there.

    Raises:
        DomainError: it is no added domain, or the artifact is the shipped one.
        ArtifactError: the artifact cannot be read or written.
    """
    folder = artifact_folder(artifact)
    card = read_card(folder)
    if name in card.base_labels:
        raise DomainError(f"{name!r} was trained, not added; only training again takes it out")
    if name not in card.added:
        raise DomainError(f"{folder} has no added domain {name!r}; it has {', '.join(card.added) or 'none'}")
    _check_own(folder)
    remove_gate(folder, name, version=card.version)
    return read_card(folder).version


def list_domains(artifact: str | Path) -> list[DomainInfo]:
    """Return base domains, then added ones, in column order; `ArtifactError` when the artifact cannot be read."""
    folder = artifact_folder(artifact)
    card = read_card(folder)
    counts: dict[str, int] = {}
    if STATISTICS in card.files:
        statistics = _statistics(folder, card)
        counts = {label: round(float(n)) for label, n in zip(statistics.labels, statistics.counts, strict=True)}
    trained = [
        DomainInfo(label, Kind.TRAINED, counts.get(label), None, card.thresholds.of(label))
        for label in card.base_labels
    ]
    return trained + [_info(gate, card) for gate in _gates(folder, card).values()]


@dataclass(frozen=True, slots=True)
class _Base:
    """What a gate is fitted against, and the gates that are there already."""

    folder: Path
    statistics: Statistics
    gates: dict[str, Gate]

    def fit(self, name: str, embeddings: FloatArray, sentences: Sequence[str]) -> Gate:
        """Fit a new gate to examples, or add them to the one that is there."""
        description, known = " ".join(sentences), self.gates.get(name)
        if known is None:
            return fit_gate(name, embeddings, self.statistics, description=description)
        if known.background != self.statistics.fingerprint():
            raise ArtifactError(
                self.folder, f"{gate_file(name)} was fitted to other embeddings; remove it, add it again"
            )
        return replace(update_gate(known, embeddings, self.statistics), description=description or known.description)

    def fit_description(self, name: str, embeddings: FloatArray, sentences: Sequence[str]) -> Gate:
        """Fit a new gate to sentences alone."""
        if name in self.gates:
            raise DomainError(f"{name!r} is there already; give examples to add to it, or remove it first")
        return replace(fit_gate_from_description(name, embeddings, self.statistics), description=" ".join(sentences))


def _fitted(base: _Base, name: str, embeddings: FloatArray, sentences: Sequence[str], *, described: bool) -> Gate:
    fit = base.fit_description if described else base.fit
    try:
        return fit(name, embeddings, sentences)
    except ValueError as error:
        raise ArtifactError(base.folder, f"{STATISTICS} does not fit the model: {error}") from error


def _check_name(name: str, card: Card) -> None:
    if not _NAME.fullmatch(name):
        raise DomainError(
            f"{name!r} is no name for a domain: lower-case letters, digits, - and _, up to 32, letter first"
        )
    if name in card.base_labels:
        raise DomainError(f"{name!r} is a domain the model was trained on; more prompts of it need training again")


def _check_own(folder: Path) -> None:
    if is_shipped(folder):
        raise DomainError("the shipped artifact is never changed: give a folder for a copy of it with --output")


def _examples(name: str, files: Sequence[Path], texts: Sequence[str]) -> list[str]:
    """Return routing texts; empty ones stay in, to be counted."""
    read = [text for file in files for text in read_examples(file, name)]
    return read + [extract_text(text).text for text in texts]


def _sentences(description: str | Sequence[str]) -> list[str]:
    parts = _SENTENCE_END.split(description) if isinstance(description, str) else description
    sentences = [sentence for part in parts if (sentence := extract_text(part).text)]
    if len(sentences) > MAX_DESCRIPTIONS:
        raise DomainError(f"a description has up to {MAX_DESCRIPTIONS} sentences, not {len(sentences)}")
    return sentences


def _statistics(folder: Path, card: Card) -> Statistics:
    if STATISTICS not in card.files:
        raise ArtifactError(folder, f"has no {STATISTICS}, which added domains are fitted against; train it again")
    try:
        return Statistics.from_arrays(load_npz(folder, STATISTICS))
    except (KeyError, ValueError) as error:
        raise ArtifactError(folder, f"{STATISTICS} does not fit: {error}") from error


def _gates(folder: Path, card: Card) -> dict[str, Gate]:
    return {name: load_gate(folder / gate_file(name)) for name in card.added}


def _doubts(gate: Gate, texts: Sequence[str], empty: int) -> list[str]:
    doubts = []
    if empty:
        doubts.append(f"{empty} examples hold no text and were left out")
    repeats = sum(match is not None for match in find_repeats(texts))
    if repeats:
        doubts.append(f"{repeats} of {len(texts)} examples nearly repeat others and teach nothing new")
    if texts and gate.examples < FEW_EXAMPLES:
        doubts.append(f"only {gate.examples} examples: 20 or more make the gate and its estimate reliable")
    if gate.recall is not None and gate.recall < _LOW_RECALL:
        doubts.append(f"about {gate.recall:.0%} of its prompts are expected to reach it; more examples may help")
    return doubts


def _claims(gates: dict[str, Gate], name: str, embeddings: FloatArray) -> list[str]:
    others = [(other, float((gate.logits(embeddings) > 0).mean())) for other, gate in gates.items() if other != name]
    return [
        f"{share:.0%} of the examples are claimed by the added domain {other!r} already"
        for other, share in others
        if share > CLAIMED_SHARE
    ]


def _info(gate: Gate, card: Card) -> DomainInfo:
    kind = Kind.DESCRIPTION if gate.options == FROM_DESCRIPTIONS else Kind.EXAMPLES
    return DomainInfo(gate.name, kind, gate.examples, gate.recall, card.thresholds.of(gate.name))


def _neighbours(gate: Gate, statistics: Statistics) -> tuple[Neighbour, ...]:
    centre = statistics.means().mean(axis=0)
    means, own = statistics.means() - centre, gate.statistics.means()[0] - centre
    lengths = np.linalg.norm(means, axis=1) * np.linalg.norm(own)
    similarities = means @ own / np.maximum(lengths, 1e-12)
    best = np.argsort(-similarities, kind="stable")[:_NEIGHBOURS]
    return tuple(Neighbour(statistics.labels[row], float(similarities[row])) for row in best)


def _topics(gate: Gate, scorer: EmbeddingScorer) -> tuple[Topic, ...]:
    return scorer.topics.nearest(gate.statistics.means()[0], _NEIGHBOURS) if scorer.topics else ()
