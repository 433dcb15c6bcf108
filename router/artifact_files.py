"""Change an artifact folder so that nobody meets it half changed; why it changes is not known here.

New files are written beside the old ones and moved over them, so files that another folder shares by a hard link keep
their content.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from router.artifact import CARD, read_card, read_card_json, sha256_of
from router.backends.tiered import gate_file
from router.errors import ArtifactError
from router.gates import Gate, save_gate


def write_gate(folder: Path, gate: Gate, *, confidence: float, version: str) -> None:
    """Write an added domain's file and its entries in the card.

    Args:
        folder: the artifact.
        gate: a new domain, or one of the card's with more examples.
        confidence: its threshold, unless the card has one already.
        version: version of the artifact the gate was fitted to.

    Raises:
        ArtifactError: the folder cannot be written, or is of another version by now; then nothing has changed.
    """
    name = gate_file(gate.name)
    unfinished = folder / f".{name}.{os.getpid()}.new"
    with _writing(folder):
        try:
            with _changed_card(folder, version) as card:
                save_gate(gate, unfinished)
                card["added"] = list(dict.fromkeys([*card.get("added", ()), gate.name]))
                card["thresholds"]["confidence"].setdefault(gate.name, confidence)
                card["files"][name] = sha256_of(unfinished)
            # A reader between the two moves meets a hash that does not fit, and may try again.
            unfinished.replace(folder / name)
            _unfinished_card(folder).replace(folder / CARD)
        finally:
            unfinished.unlink(missing_ok=True)
            _unfinished_card(folder).unlink(missing_ok=True)


def remove_gate(folder: Path, domain: str, *, version: str) -> None:
    """Undo `write_gate` for a domain that is in the card; `ArtifactError` as there."""
    name = gate_file(domain)
    with _writing(folder):
        try:
            with _changed_card(folder, version) as card:
                card["added"].remove(domain)
                card["thresholds"]["confidence"].pop(domain, None)
                card["files"].pop(name, None)
            _unfinished_card(folder).replace(folder / CARD)
            (folder / name).unlink(missing_ok=True)
        finally:
            _unfinished_card(folder).unlink(missing_ok=True)


@contextmanager
def new_copy(folder: Path, target: Path) -> Iterator[Path]:
    """Copy an artifact; on leaving without an error the copy is moved to `target`, else it is gone.

    Files whose hash is in the card are hard links where the file system can, for they only ever get replaced; the
    others are copies, because people edit them.

    Args:
        folder: the artifact.
        target: a folder that does not exist yet, or is empty.

    Yields:
        A folder beside `target` with the copy, to be changed.

    Raises:
        ArtifactError: there is something at `target`, or it cannot be written.
    """
    _check_target(folder, target)
    hashed = read_card(folder).files
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            shutil.copytree(folder, unfinished, copy_function=_linked_if(hashed), dirs_exist_ok=True)
            yield unfinished
            unfinished.replace(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _check_target(folder: Path, target: Path) -> None:
    if folder.resolve() in (target.resolve(), *target.resolve().parents):
        raise ArtifactError(target, f"lies in {folder}, which it is to be a copy of")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ArtifactError(target, "is there already; to change it, name it as the artifact")


def _linked_if(hashed: Mapping[str, str]) -> Callable[[str, str], object]:
    def copy(source: str, target: str) -> None:
        if Path(source).name in hashed:
            try:
                os.link(os.path.realpath(source), target)
            except OSError:  # another file system, or one that knows no links
                pass
            else:
                return
        shutil.copy2(source, target)

    return copy


@contextmanager
def _changed_card(folder: Path, version: str) -> Iterator[dict[str, Any]]:
    """Let the card be changed and write it as `_unfinished_card`, in the format `pointsman train` writes."""
    card = read_card_json(folder)
    yield card
    content = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    _unfinished_card(folder).write_text(content, encoding="utf-8", newline="\n")
    # What was fitted to another version would undo what somebody else has added since.
    if read_card(folder).version != version:
        raise ArtifactError(folder, "was changed meanwhile; try again")


def _unfinished_card(folder: Path) -> Path:
    return folder / f".{CARD}.{os.getpid()}.new"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(folder, f"cannot be written: {error.strerror or error}") from error
