"""Build one training set from any folders of labelled prompts and the project's own corpus; same input, same bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from router.data.balance import CONFIDENCE, weights
from router.data.duplicates import DuplicateIndex
from router.data.normalise import normalise
from router.data.rows import Row, read_rows, write_rows
from router.data.sources import UNKNOWN, read_licences
from router.errors import DataError
from router.prompts import share_of

CORPUS: Final = Path(__file__).with_name("corpus")
CORPUS_SOURCE: Final = "pointsman-corpus"
"""`source` of the corpus' rows in a built set."""

TRAIN: Final = "train"
HELD_OUT: Final = "held-out"
_CORPUS_LICENCE: Final = "Apache-2.0"
_LISTED_CONFLICTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Building:
    """What was built.

    Attributes:
        output: the file of rows.
        report_path: the report beside it.
        report: its content; names sources and keys of rows, never their text.
    """

    output: Path
    report_path: Path
    report: dict[str, Any]


@dataclass(slots=True)
class _Sifted:
    kept: list[Row] = field(default_factory=list)
    exact: Counter[str] = field(default_factory=Counter)
    near: Counter[str] = field(default_factory=Counter)
    conflicts: list[tuple[Row, Row]] = field(default_factory=list)


def build_data(
    folders: Sequence[Path],
    output: Path,
    *,
    corpus: Path | None = CORPUS,
    held_out_share: float = 0.15,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Building:
    """Read, normalise, sift, weigh and split labelled prompts; write them and a report.

    Rows have `text` or `messages`, `label`, `alt`, `lang`, `source`, `style`, `kind`, `weight`, `split` ("train" or
    "held-out") and `h`. Whole sources are held out, rows of the corpus by a stable hash of their key.

    Args:
        folders: folders or files of labelled prompts, as `router.prompts` describes them.
        output: file to write, `.jsonl` or `.jsonl.gz`; `NAME.report.json` is written beside it.
        corpus: folder of hand-written prompts that win over all others; None leaves it out.
        held_out_share: share of the sources, and of the corpus' rows, that is held out.
        seed: another seed holds out other sources and rows.
        progress: is told in one line what was done.

    Raises:
        DataError: a folder holds no prompt, a row is malformed, or `output` has another ending.
    """
    report_path = _report_path(output)
    rows = [row for folder in folders for row in read_rows(folder)]
    rows += read_rows(corpus, CORPUS_SOURCE) if corpus else ()
    if not rows:
        raise DataError("no labelled prompt: give a folder, or leave the corpus in")
    progress(f"{len(rows)} rows read")
    sifted = _sift(rows)
    progress(f"{len(sifted.kept)} rows left without repeats and conflicts")
    kept = sorted(sifted.kept, key=_order)
    out = _held_out_sources(kept, held_out_share, seed)
    splits = [_split(row, out, held_out_share, seed) for row in kept]
    write_rows(output, zip(kept, _weights(kept, splits), splits, strict=True))
    report = _report(len(rows), sifted, kept, splits, _licences(folders))
    report_path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return Building(output, report_path, report)


def _report_path(output: Path) -> Path:
    for ending in (".jsonl.gz", ".jsonl"):
        if output.name.endswith(ending):
            return output.with_name(output.name.removesuffix(ending) + ".report.json")
    raise DataError(f"{output}: the name must end in .jsonl or .jsonl.gz")


def _order(row: Row) -> tuple[Hashable, ...]:
    """Sort the rows that win over repeats first: the corpus, then surer labels; independent of the folders' order."""
    return (not row.own, -CONFIDENCE.get(row.confidence, 1.0), row.source, row.key, row.label, row.text)


def _sift(rows: Iterable[Row]) -> _Sifted:
    """Drop repeats; of two that disagree on the label drop both, unless one is the corpus'."""
    sifted = _Sifted()
    index = DuplicateIndex()
    indexed: list[Row] = []
    disputed: set[int] = set()
    for row in sorted(rows, key=_order):
        match = index.find_or_add(normalise(row.text) if row.own else row.text)
        if match is None:
            indexed.append(row)
            continue
        first = indexed[match.position]
        if first.agrees_with(row):
            (sifted.exact if match.exact else sifted.near)[row.source] += 1
        else:
            sifted.conflicts.append((first, row))
            if not first.own:
                disputed.add(match.position)
    sifted.kept = [row for position, row in enumerate(indexed) if position not in disputed]
    return sifted


def _held_out_sources(rows: Iterable[Row], share: float, seed: int) -> frozenset[str]:
    """Choose whole sources in an order that no new row changes; every label keeps a source to train on."""
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        labels_of.setdefault(row.source, set()).add(row.label)
    candidates = sorted(set(labels_of) - {CORPUS_SOURCE}, key=lambda source: (share_of(source, seed), source))
    wanted = round(share * len(candidates))
    kept = set(labels_of)
    for source in candidates:
        if len(labels_of) - len(kept) == wanted:
            break
        if labels_of[source] <= {label for other in kept - {source} for label in labels_of[other]}:
            kept.remove(source)
    return frozenset(labels_of) - kept


def _split(row: Row, out: frozenset[str], share: float, seed: int) -> str:
    held_out = share_of(row.key, seed) < share if row.own else row.source in out
    return HELD_OUT if held_out else TRAIN


def _weights(rows: Sequence[Row], splits: Sequence[str]) -> list[float]:
    """Weigh each split on its own, so that either is balanced."""
    found = [0.0] * len(rows)
    for split in (TRAIN, HELD_OUT):
        places = [place for place, name in enumerate(splits) if name == split]
        of_split = [rows[place] for place in places]
        weighed = weights(
            [row.label for row in of_split], [row.source for row in of_split], [row.confidence for row in of_split]
        )
        for place, weight in zip(places, weighed, strict=True):
            found[place] = weight
    return found


def _licences(folders: Sequence[Path]) -> Mapping[str, str]:
    return {**read_licences(folders), CORPUS_SOURCE: _CORPUS_LICENCE}


def _report(
    read: int, sifted: _Sifted, rows: Sequence[Row], splits: Sequence[str], licences: Mapping[str, str]
) -> dict[str, Any]:
    def counted(value: Callable[[Row], str]) -> dict[str, dict[str, int]]:
        counts = Counter((value(row) or "unknown", split) for row, split in zip(rows, splits, strict=True))
        names = sorted({name for name, _ in counts})
        return {name: {split: counts[name, split] for split in (TRAIN, HELD_OUT)} for name in names}

    sources = counted(lambda row: row.source)
    return {
        "rows_read": read,
        "rows": {split: splits.count(split) for split in (TRAIN, HELD_OUT)},
        "labels": counted(lambda row: row.label),
        "languages": counted(lambda row: row.language),
        "styles": counted(lambda row: row.style),
        "kinds": counted(lambda row: row.kind),
        "sources": [
            {"source": name, **counts, "licence": licences.get(name, UNKNOWN)} for name, counts in sources.items()
        ],
        "duplicates_removed": {
            "exact": dict(sorted(sifted.exact.items())),
            "near": dict(sorted(sifted.near.items())),
        },
        "conflicts": {
            "count": len(sifted.conflicts),
            "by_labels": _conflicting_labels(sifted.conflicts),
            "rows": [[_named(first), _named(row)] for first, row in sifted.conflicts[:_LISTED_CONFLICTS]],
        },
    }


def _conflicting_labels(conflicts: Iterable[tuple[Row, Row]]) -> dict[str, int]:
    counts = Counter(f"{first.source}/{first.label} {row.source}/{row.label}" for first, row in conflicts)
    return dict(sorted(counts.items()))


def _named(row: Row) -> dict[str, str]:
    return {"source": row.source, "label": row.label, "h": row.key}
