"""What is known of an artifact's domains, and what adding one did; plain values, no work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from router.errors import RouterError
from router.explanation import Topic


class DomainError(RouterError):
    """A domain cannot be added or removed as asked; the message says why and what to do instead."""


class Kind(StrEnum):
    """What a domain was made from."""

    TRAINED = "trained"
    EXAMPLES = "examples"
    DESCRIPTION = "description"


_MADE_FROM: Final = {Kind.TRAINED: "training", Kind.EXAMPLES: "examples", Kind.DESCRIPTION: "sentences about it"}


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """One domain of an artifact.

    Attributes:
        name: the label.
        kind: what it was made from.
        examples: prompts (or sentences of a description) in its statistics; None when the artifact holds none.
        recall: estimated share of its prompts that reach the threshold, None where nothing is known.
        threshold: smallest probability that is acted on.
    """

    name: str
    kind: Kind
    examples: int | None
    recall: float | None
    threshold: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "kind": self.kind.value}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A base domain; `similarity` is the cosine, -1 to 1, of both means seen from the centre of the base."""

    domain: str
    similarity: float


@dataclass(frozen=True, slots=True)
class AddedDomain:
    """What `add_domain` did.

    Attributes:
        artifact: the folder that holds the domain now.
        version: version of its scorer.
        domain: the domain as it is now.
        used: examples or sentences of this call.
        neighbours: nearest base domains, best first.
        topics: nearest training topics, best first; empty without a table.
        warnings: sentences for people; none quotes an example.
        seconds: wall-clock time taken.
    """

    artifact: Path
    version: str
    domain: DomainInfo
    used: int
    neighbours: tuple[Neighbour, ...]
    topics: tuple[Topic, ...]
    warnings: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        content = {**asdict(self), "artifact": str(self.artifact), "domain": self.domain.as_dict()}
        return content | {name: list(content[name]) for name in ("neighbours", "topics", "warnings")}

    def as_text(self) -> str:
        """Return a few lines for a terminal, without the warnings."""
        domain = self.domain
        recall = "unknown" if domain.recall is None else f"about {domain.recall:.1%} (estimated)"
        near = ", ".join(f"{neighbour.domain} {neighbour.similarity:.2f}" for neighbour in self.neighbours)
        topics = ", ".join(f"{topic.name} ({topic.domain})" for topic in self.topics)
        lines = [
            f"{domain.name} is in {self.artifact} ({self.version})",
            f"  made from   {_MADE_FROM[domain.kind]}: {self.used} now, {domain.examples} in all",
            f"  recall      {recall} at threshold {domain.threshold:.2f}",
            f"  nearest     {near}",
            *([f"  topics      {topics}"] if topics else []),
            f"  took        {self.seconds:.1f} s",
        ]
        return "\n".join(lines)
