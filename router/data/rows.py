"""Read labelled rows and write prepared ones; what `router.prompts` reads for training, this keeps whole."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from router import prompts
from router.data.normalise import normalise
from router.errors import DataError
from router.features import extract, extract_text
from router.prompts import prompt_files

_KEY_CHARS: Final = 16
_WEIGHT_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled prompt before it is split and weighed.

    Attributes:
        text: the prompt, or the routing text of a conversation: what repeats are found by.
        messages: the conversation, None for a plain prompt.
        label: its domain.
        alternatives: other labels that count as right.
        language: language code, "" when unknown.
        source: where it comes from.
        style: how it is written, "" when the row does not say.
        kind: what it probes, "" when the row does not say.
        confidence: how sure the label is: "high", "medium" or "low".
        key: equal for prompts that must stay on one side of a split.
        own: whether it belongs to the project's corpus, which wins over every other source.
    """

    text: str
    messages: list[Any] | None
    label: str
    alternatives: tuple[str, ...]
    language: str
    source: str
    style: str
    kind: str
    confidence: str
    key: str
    own: bool

    def agrees_with(self, other: Row) -> bool:
        """Tell whether both labels can be right for one prompt."""
        return self.label == other.label or self.label in other.alternatives or other.label in self.alternatives


def read_rows(folder: Path, own_source: str | None = None) -> Iterator[Row]:
    """Yield the rows below `folder`, in the order of file names; rows without any text are passed over.

    Args:
        folder: a folder or file of JSONL, gzipped or not, or CSV.
        own_source: source name of the project's corpus, whose texts stay as they are; None normalises texts.

    Raises:
        DataError: there is no file, or a row is malformed (the message names file and line).
    """
    files = prompt_files(folder)
    if not files:
        raise DataError(f"{folder}: no .jsonl, .jsonl.gz or .csv file")
    for file in files:
        for number, fields in prompts.read_rows(file):
            try:
                row = _row(fields, file.name.split(".")[0], own_source)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(f"{file}:{number}: {type(error).__name__}: {error}") from error
            if row.text:
                yield row


def write_rows(output: Path, rows: Iterable[tuple[Row, float, str]]) -> None:
    """Write rows with weight and split as JSONL, gzipped when `output` ends in ".gz"; equal rows give equal bytes."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(output.name + ".part")
    lines = (json.dumps(_record(*row), ensure_ascii=False) + "\n" for row in rows)
    with unfinished.open("wb") as raw:
        if output.name.endswith(".gz"):
            # Neither time nor name goes into the file, or its bytes would tell when and where it was made.
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as stream:
                stream.writelines(line.encode("utf-8", "replace") for line in lines)
        else:
            raw.writelines(line.encode("utf-8", "replace") for line in lines)
    unfinished.replace(output)


def _row(fields: Mapping[str, Any], default_source: str, own_source: str | None) -> Row:
    messages = fields.get("messages")
    if messages is not None and not isinstance(messages, list):
        raise TypeError(f"expected a list of messages, got {type(messages).__name__}")
    routed = (extract(messages) if messages is not None else extract_text(_string(fields, "text"))).text
    text = routed if messages is not None else fields["text"] if own_source else normalise(fields["text"])
    return Row(
        text=text if routed else "",
        messages=messages,
        label=_string(fields, "label"),
        alternatives=tuple(str(other) for other in fields.get("alt") or ()),
        language=_string(fields, "lang", ""),
        source=own_source or _string(fields, "source", default_source),
        style=_string(fields, "style", ""),
        kind=_string(fields, "kind", ""),
        confidence=_string(fields, "confidence", "high"),
        key=_string(fields, "h", hashlib.sha256(routed.encode("utf-8", "ignore")).hexdigest()[:_KEY_CHARS]),
        own=own_source is not None,
    )


def _string(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = fields[name] if default is None else fields.get(name) or default
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a string, got {type(value).__name__}")
    return value


def _record(row: Row, weight: float, split: str) -> dict[str, Any]:
    content = {"text": row.text} if row.messages is None else {"messages": row.messages}
    return content | {
        "label": row.label,
        "alt": list(row.alternatives),
        "lang": row.language,
        "source": row.source,
        "style": row.style,
        "kind": row.kind,
        "weight": round(weight, _WEIGHT_DIGITS),
        "split": split,
        "h": row.key,
    }
