"""Read labelled prompts from folders of JSONL and CSV and split them; it must not know a model.

A row needs `label` and either `text` or `messages`. Optional: `alt` (other fair labels), `stem` (an exam question
without its options), `confidence` ("high", "medium", "low"), `source`, `lang`, `h` (equal for equal questions),
`style` and `kind` (how and for what purpose it was written: measured apart, never given to a model), `topic`.
A CSV file has these names in its first line, `text` among them, and parts other fair labels with `|`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from router.artifact import sha256_of
from router.errors import DataError
from router.features import Features, extract, extract_text
from router.messages import read_message

_SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".csv")
_CSV_SUFFIX: Final = ".csv"
_CSV_FIELDS: Final = ("text", "label", "alt", "lang", "source", "style", "kind", "topic", "confidence", "stem", "h")
_SHARES: Final = 10_000

Read = TypeVar("Read")


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
        style: how it is written ("terse", "odd"), "" when the row does not say.
        kind: what the row probes ("context", "steering"), "" when the row does not say.
        topic: what it is about, in the words of whoever labelled it, "" when the row does not say.
        words: words of everything in the row before `extract` bounded it, split at blanks.
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
    style: str = ""
    kind: str = ""
    topic: str = ""
    words: int = 0


def read_prompts(folders: Sequence[Path]) -> list[Prompt]:
    """Read every `*.jsonl`, `*.jsonl.gz` and `*.csv` below the folders, in name order, each question once.

    Raises:
        DataError: a folder holds no prompt, or a row is malformed (the message names file and line).
    """
    prompts: dict[str, Prompt] = {}
    for folder in folders:
        files = prompt_files(folder)
        if not files:
            raise DataError(f"{folder}: no .jsonl, .jsonl.gz or .csv file")
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


def read_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the line number and the fields of each row of a CSV (by its suffix) or JSONL file; blank lines are none.

    Raises:
        DataError: the file or a row cannot be read; the message names file and line.
    """
    rows = _csv_rows(file) if file.name.lower().endswith(_CSV_SUFFIX) else _json_rows(file)
    try:
        yield from rows
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{file}: damaged gzip file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text") from error


def read_examples(file: Path, label: str) -> list[str]:
    """Return the routing texts of a file's rows that are labelled `label` or not labelled at all.

    Raises:
        DataError: the file or a row cannot be read; the message names file and line.
    """
    rows = ((number, row) for number, row in read_rows(file) if row.get("label", label) == label)
    return [_checked(file, number, row, lambda row: _features(row).text) for number, row in rows]


def _read_file(file: Path) -> Iterator[Prompt]:
    default_source = file.name.split(".")[0]
    for number, row in read_rows(file):
        yield _checked(file, number, row, lambda row: _prompt(row, default_source))


def _checked(file: Path, number: int, row: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Read]) -> Read:
    try:
        return read(row)
    except KeyError as error:
        raise DataError(f"{file}:{number}: lacks {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{file}:{number}: {type(error).__name__}: {error}") from error


def _features(row: Mapping[str, Any]) -> Features:
    messages = row.get("messages")
    return extract(messages) if messages is not None else extract_text(_text(row["text"]))


def _prompt(row: Mapping[str, Any], default_source: str) -> Prompt:
    features = _features(row)
    stem = row.get("stem")
    return Prompt(
        text=features.text,
        label=_label(row["label"]),
        alternatives=tuple(_text(other) for other in row.get("alt") or ()),
        source=_text(row.get("source") or default_source),
        language=_text(row.get("lang") or ""),
        confidence=_text(row.get("confidence") or "high"),
        stem=extract_text(_text(stem)).text if stem else "",
        key=_text(row.get("h") or hashlib.sha256(features.text.encode("utf-8", "ignore")).hexdigest()[:16]),
        conversation=row.get("messages") is not None,
        style=_text(row.get("style") or ""),
        kind=_text(row.get("kind") or ""),
        topic=_text(row.get("topic") or ""),
        words=sum(len(text.split()) for text in _everything(row)),
    )


def _json_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    opener = gzip.open if file.name.endswith(".gz") else open
    with opener(file, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}:{number}: {type(error).__name__}: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{file}:{number}: expected an object, got {type(row).__name__}")
            yield number, row


def _csv_rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Spreadsheets begin UTF-8 with a byte order mark, and a field may hold line ends that are not to be translated.
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            columns = [name.strip().lower() for name in next(reader, [])]
            if "text" not in columns or len(set(columns)) != len(columns):
                raise DataError(f"{file}:1: the first line must name the columns, `text` among them, each once")
            end = reader.line_num
            for cells in reader:
                number, end = end + 1, reader.line_num
                if cells:
                    yield number, _csv_row(columns, cells, f"{file}:{number}")
        except csv.Error as error:
            raise DataError(f"{file}:{reader.line_num}: {error}") from error


def _csv_row(columns: Sequence[str], cells: Sequence[str], place: str) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise DataError(f"{place}: {len(cells)} cells, but {len(columns)} columns (a comma in a text needs quotes)")
    known = ((name, cell) for name, cell in zip(columns, cells, strict=True) if name in _CSV_FIELDS)
    row: dict[str, Any] = {name: cell if name == "text" else cell.strip() for name, cell in known}
    if "alt" in row:
        row["alt"] = [label.strip() for label in row["alt"].split("|") if label.strip()]
    return row


def _everything(row: Mapping[str, Any]) -> list[str]:
    messages = row.get("messages")
    if messages is None:
        return [row["text"]]
    return [text for message in messages for text in read_message(message).counted]


def _label(value: object) -> str:
    if not _text(value).strip():
        raise ValueError("the label is empty")
    return _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value
