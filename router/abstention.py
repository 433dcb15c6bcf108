"""When a prompt is left to the generalist: the only place where scores meet thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from router.scores import DomainScores

DEFAULT_CONFIDENCE: Final = 0.55


class Abstention(StrEnum):
    """Why no specialist should answer."""

    OUT_OF_DOMAIN = "out_of_domain"
    LOW_CONFIDENCE = "low_confidence"
    SMALL_MARGIN = "small_margin"
    DISAGREEMENT = "disagreement"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When to abstain; every limit is inclusive on the side that acts.

    Attributes:
        confidence: domain to the smallest top probability that is acted on.
        default_confidence: the same for domains that `confidence` does not name.
        margin: smallest lead of the best domain over the second.
        out_of_domain: largest out-of-domain score that is acted on; 1 turns the check off.
        disagreement: largest disagreement that is acted on; 1 turns the check off.
    """

    confidence: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    default_confidence: float = DEFAULT_CONFIDENCE
    margin: float = 0.0
    out_of_domain: float = 1.0
    disagreement: float = 1.0

    def of(self, domain: str) -> float:
        """Return the smallest probability at which `domain` is acted on."""
        return self.confidence.get(domain, self.default_confidence)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, as an artifact's card holds them."""
        return {
            "confidence": dict(self.confidence),
            "default_confidence": self.default_confidence,
            "margin": self.margin,
            "out_of_domain": self.out_of_domain,
            "disagreement": self.disagreement,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Thresholds:
        """Read what `as_dict` wrote; KeyError, TypeError or ValueError when it is something else."""
        limits = cls(
            confidence=MappingProxyType({str(name): float(value) for name, value in content["confidence"].items()}),
            default_confidence=float(content["default_confidence"]),
            margin=float(content["margin"]),
            out_of_domain=float(content["out_of_domain"]),
            disagreement=float(content["disagreement"]),
        )
        numbers = (*limits.confidence.values(), limits.default_confidence, limits.margin)
        if not all(0 <= number <= 1 for number in (*numbers, limits.out_of_domain, limits.disagreement)):
            raise ValueError("a threshold is outside 0..1")
        return limits


def abstain(scores: DomainScores, thresholds: Thresholds) -> Abstention | None:
    """Return why the prompt belongs to the generalist, None when its best domain may be acted on.

    Confidence comes first, because it is what people tune; what is confident may still be strange.
    """
    domain, confidence = scores.top()
    if confidence < thresholds.of(domain):
        return Abstention.LOW_CONFIDENCE
    if scores.margin() < thresholds.margin:
        return Abstention.SMALL_MARGIN
    if scores.out_of_domain > thresholds.out_of_domain:
        return Abstention.OUT_OF_DOMAIN
    if scores.disagreement > thresholds.disagreement:
        return Abstention.DISAGREEMENT
    return None
