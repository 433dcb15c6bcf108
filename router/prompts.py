"""Read labelled prompts from folders of JSONL and split them; it must not know a model.

A row needs `label` and either `text` or `messages`. Optional: `alt` (other fair labels), `stem` (an exam question
without its options), `confidence` ("high", "medium", "low"), `source`, `lang`, `h` (equal for equal questions).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from router.artifact import sha256_of
from router.errors import DataError
from router.features import extract, extract_text

_SUFFIXES: Final = (".jsonl", ".jsonl.gz")
_SHARES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """One labelled prompt, as the classifier will see it.

    Attributes:
        text: routing text, after `extract`.
        label: its domain.
        alternatives: other labels that count as right.
        source: where it comes from; splits keep or hold out whole sources.
        language: language code, "" when unknown.
        confidence: how sure the label is.
        stem: the question alone, "" when the row has none.
        key: equal for prompts that must stay on one side of a split.
        conversation: whether it came from a chat of several messages.
    """

    text: str
    label: str
    alternatives: tuple[str, ...] = ()
    source: str = ""
    language: str = ""
    confidence: str = "high"
    stem: str = ""
    key: str = ""
    conversation: bool = False


def read_prompts(folders: Sequence[Path]) -> list[Prompt]:
    """Read every `*.jsonl` and `*.jsonl.gz` below the folders, in name order, without repeats of one question.

    Raises:
        DataError: a folder holds no prompt, or a row is malformed (the message names file and line).
    """
    prompts: dict[str, Prompt] = {}
    for folder in folders:
        files = prompt_files(folder)
        if not files:
            raise DataError(f"{folder}: no .jsonl or .jsonl.gz file")
        for file in files:
            for prompt in _read_file(file):
                prompts.setdefault(prompt.key, prompt)
    if not prompts:
        raise DataError(f"no prompts in {', '.join(map(str, folders))}")
    return list(prompts.values())


def prompt_files(folder: Path) -> list[Path]:
    """Return the data files below `folder` (or the file itself), sorted."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES))


def data_hash(folders: Sequence[Path]) -> str:
    """Return one sha256 over the names and contents of all data files, to tell two training sets apart."""
    digest = hashlib.sha256()
    for file in (file for folder in folders for file in prompt_files(folder)):
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def share_of(key: str, seed: int) -> float:
    """Return a stable pseudo-random number in [0, 1) for `key`: splits do not move when rows are added."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _SHARES / _SHARES


def split(prompts: Sequence[Prompt], keep: Callable[[Prompt], bool]) -> tuple[list[Prompt], list[Prompt]]:
    """Return the prompts `keep` is true for, and the others."""
    kept: list[Prompt] = []
    others: list[Prompt] = []
    for prompt in prompts:
        (kept if keep(prompt) else others).append(prompt)
    return kept, others


def _read_file(file: Path) -> Iterator[Prompt]:
    opener = gzip.open if file.name.endswith(".gz") else open
    default_source = file.name.split(".")[0]
    with opener(file, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield _prompt(json.loads(line), default_source)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(f"{file}:{number}: {type(error).__name__}: {error}") from error


def _prompt(row: Mapping[str, Any], default_source: str) -> Prompt:
    messages = row.get("messages")
    features = extract(messages) if messages is not None else extract_text(_text(row["text"]))
    stem = row.get("stem")
    return Prompt(
        text=features.text,
        label=_text(row["label"]),
        alternatives=tuple(_text(other) for other in row.get("alt") or ()),
        source=_text(row.get("source") or default_source),
        language=_text(row.get("lang") or ""),
        confidence=_text(row.get("confidence") or "high"),
        stem=extract_text(_text(stem)).text if stem else "",
        key=_text(row.get("h") or hashlib.sha256(features.text.encode("utf-8", "ignore")).hexdigest()[:16]),
        conversation=messages is not None,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value
