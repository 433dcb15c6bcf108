"""Where a classifier is weakest, read from the parsed content of evaluation.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from router.evaluation.tables import percent

Json = Mapping[str, Any]

_SMALLEST: Final = 20
"""Groups with fewer prompts say more about chance than about the classifier."""
_PER_KIND: Final = 3
_KINDS: Final = MappingProxyType({"sources": "source", "languages": "language", "kinds": "kind", "styles": "style"})


def weak_spots(evaluation: Json) -> list[str]:
    """Return one line per weak spot: groups below the average, worst domains, commonest confusions, worst change."""
    return [
        *(line for kind, word in _KINDS.items() for line in _groups(evaluation, kind, word)),
        *_domains(evaluation),
        *_confusions(evaluation),
        *_perturbation(evaluation),
    ]


def _groups(evaluation: Json, kind: str, word: str) -> Iterator[str]:
    overall = evaluation["quality"]["overall"]["accuracy"]
    large = {name: part for name, part in evaluation["quality"][kind].items() if part["count"] >= _SMALLEST}
    worst = sorted(large, key=lambda name: float(large[name]["accuracy"]))[:_PER_KIND]
    for name in worst:
        if large[name]["accuracy"] < overall:
            yield f"{word} {name}: accuracy {percent(large[name]['accuracy'])} of {large[name]['count']} prompts"


def _domains(evaluation: Json) -> Iterator[str]:
    domains = evaluation["quality"]["overall"]["domains"]
    large = {name: part for name, part in domains.items() if part["count"] >= _SMALLEST}
    for name in sorted(large, key=lambda name: float(large[name]["f1"]))[:_PER_KIND]:
        part = large[name]
        yield f"domain {name}: precision {percent(part['precision'])}, recall {percent(part['recall'])}"


def _confusions(evaluation: Json) -> Iterator[str]:
    confusion = evaluation["quality"]["overall"]["confusion"]
    labels, rows = confusion["labels"], confusion["rows"]
    pairs = [
        (count, labels[row], labels[column])
        for row, counts in enumerate(rows)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    for count, label, guess in sorted(pairs, key=lambda pair: -pair[0])[:_PER_KIND]:
        yield f"{label} taken for {guess}: {count} prompts"


def _perturbation(evaluation: Json) -> Iterator[str]:
    figures = evaluation["consistency"]
    if figures is None:
        return
    name = min(figures["perturbations"], key=lambda name: float(figures["perturbations"][name]))
    share = figures["perturbations"][name]
    if share < 1:
        yield f"least stable under {name.replace('_', ' ')}: {percent(share)} of prompts keep their route"
