"""Adds the metrics of several processes up, as plain values that can be written to a file. Counts nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

# Everything a process has so many of; of other gauges (up or down, times, thresholds) the largest value is shown.
SUMMED = frozenset(
    f"pointsman_{name}"
    for name in (
        "upstream_inflight",
        "upstream_waiting",
        "connections",
        "cache_entries",
        "cache_bytes",
        "log_queue_rows",
        "retries_running",
        "requests_running",
        "admission_limit",
    )
)
_COUNTED = ("counter", "histogram")


class Snapshot(dict[str, Any]):
    """Families by name: `[type, help, [[sample name, [[label, value], ...], number], ...]]`."""


def snapshot(registry: CollectorRegistry) -> Snapshot:
    """Read all metrics of a process."""
    return Snapshot(
        {
            family.name: [
                family.type,
                family.documentation,
                [[sample.name, sorted(sample.labels.items()), sample.value] for sample in family.samples],
            ]
            for family in registry.collect()
        }
    )


def counted(found: Snapshot) -> Snapshot:
    """Return what goes on counting for ever, which gauges do not."""
    return Snapshot({name: family for name, family in found.items() if family[0] in _COUNTED})


def add(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Add several processes' metrics up."""
    total = Snapshot()
    for name in dict.fromkeys(name for found in snapshots for name in found):
        families = [found[name] for found in snapshots if name in found]
        kind, description, _ = families[0]
        values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for sample, labels, number in _samples(families):
            key = (sample, labels)
            values[key] = _together(kind, name, sample, values[key], number) if key in values else number
        total[name] = [kind, description, [[sample, labels, number] for (sample, labels), number in values.items()]]
    return total


def render(found: Snapshot) -> tuple[bytes, str]:
    """Return the text for a scraper and its content type."""
    registry = CollectorRegistry()
    registry.register(_Ready(found))
    return prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST


class _Ready:
    def __init__(self, found: Snapshot) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        for name, (kind, description, samples) in self._found.items():
            metric = Metric(name, description, kind)
            for sample, labels, number in samples:
                metric.add_sample(sample, dict(labels), number)
            yield metric


def _samples(families: Iterable[Any]) -> Iterator[tuple[str, tuple[tuple[str, str], ...], float]]:
    for _, _, samples in families:
        for sample, labels, number in samples:
            yield sample, tuple((label, value) for label, value in labels), number


def _together(kind: str, name: str, sample: str, one: float, other: float) -> float:
    if sample.endswith("_created"):
        return min(one, other)
    return one + other if kind in _COUNTED or name in SUMMED else max(one, other)
