"""Everything one evaluation found out; README.md beside this file describes each field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from router.evaluation.baselines import Contender
from router.evaluation.consistency import Consistency
from router.evaluation.decisions import Decisions
from router.evaluation.metrics import Quality, SourceMean
from router.evaluation.report import render_markdown, write_report
from router.evaluation.separation import OutOfDomain
from router.evaluation.sets import Grouped
from router.evaluation.speed import Memory, Speed

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `pointsman evaluate` prints and writes.

    Attributes:
        artifact: version of the scorer that was measured.
        labels: its domains.
        data_sha256: hash of the data files, "" when the prompts did not come from files.
        seed: seeds the perturbations and the random baseline.
        skipped: prompts left out because the scorer does not know their label.
        thresholds: the scorer's own, as the card holds them.
        majority_accuracy: accuracy of always answering the commonest label: the floor.
        quality: figures per group, every domain.
        five: figures per group, collapsed to math, coding, health, science and other.
        source_mean: mean over sources, every domain.
        source_mean_five: mean over sources, five domains.
        decisions: what the thresholds make of the scores, per group.
        out_of_domain: whether the scores tell prompts for the generalist from others.
        consistency: whether harmless changes move a prompt; None when it was not measured.
        speed: CPU time.
        memory: memory of the measuring process.
        baselines: name to figures on the same prompts.
    """

    artifact: str
    labels: tuple[str, ...]
    data_sha256: str
    seed: int
    skipped: int
    thresholds: dict[str, Any]
    majority_accuracy: float
    quality: Grouped[Quality]
    five: Grouped[Quality]
    source_mean: SourceMean
    source_mean_five: SourceMean
    decisions: Grouped[Decisions]
    out_of_domain: OutOfDomain
    consistency: Consistency | None
    speed: Speed
    memory: Memory
    baselines: dict[str, Contender]

    @property
    def overall(self) -> Quality:
        """Figures over all prompts."""
        return self.quality.overall

    @property
    def sources(self) -> dict[str, Quality]:
        """Figures per source."""
        return self.quality.sources

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types: the content of evaluation.json."""
        return {"schema": SCHEMA, **_plain(dataclasses.asdict(self))}

    def markdown(self) -> str:
        """Return the readable report, report.md."""
        return render_markdown(self.as_dict())

    def write(self, folder: Path) -> list[Path]:
        """Write evaluation.json, report.md and report.html into `folder`, which is made when missing.

        Raises:
            MissingExtraError: matplotlib is not installed; the first two files are there all the same.
        """
        return write_report(self.as_dict(), folder)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
