"""An artifact that cannot be used is refused with the folder and the reason, before any prompt is scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import router
from router import ArtifactError, load_scorer
from router.artifact import read_card, sha256_of

DEFAULT = Path(router.__file__).parent / "artifacts" / "default"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a private copy of the default artifact."""
    return Path(shutil.copytree(DEFAULT, tmp_path / "artifact"))


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file and its new hash, as somebody who made a broken artifact would."""
    (folder / name).write_bytes(content)
    change_card(folder, lambda card: card["files"].update({name: sha256_of(folder / name)}))


def assert_refused(folder: Path, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        load_scorer(folder)
    assert str(folder) in str(caught.value)


def test_load_scorer_unchanged_copy_has_the_same_version(folder: Path) -> None:
    assert load_scorer(folder).version == load_scorer().version


def test_load_scorer_missing_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", r"no card\.json")


@pytest.mark.parametrize("name", ["model.int8.onnx", "tokenizer.json", "head.npz"])
def test_load_scorer_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, f"missing file {name}")


@pytest.mark.parametrize("name", ["model.int8.onnx", "tokenizer.json", "head.npz"])
def test_load_scorer_changed_file_is_refused(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(b"\0")
    assert_refused(folder, f"hash mismatch of {name}")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1', "\udcff"])
def test_load_scorer_card_that_is_no_json_object_is_refused(folder: Path, content: str) -> None:
    (folder / "card.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert_refused(folder, "JSON")


def test_load_scorer_card_that_is_a_folder_is_refused(folder: Path) -> None:
    (folder / "card.json").unlink()
    (folder / "card.json").mkdir()
    assert_refused(folder, r"cannot read card\.json")


@pytest.mark.parametrize("backend", ["unknown", "Onnx", "../onnx", "onnx.evil", "__init__", "", "os", "ön"])
def test_load_scorer_unknown_backend_is_refused(folder: Path, backend: str) -> None:
    change_card(folder, lambda card: card.update(backend=backend))
    assert_refused(folder, "unknown backend")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_load_scorer_unknown_format_is_refused(folder: Path, version: object) -> None:
    change_card(folder, lambda card: card.update(format=version))
    assert_refused(folder, "unknown format")


@pytest.mark.parametrize("key", ["name", "backend", "labels", "calibration", "max_tokens", "files"])
def test_load_scorer_card_without_a_key_is_refused(folder: Path, key: str) -> None:
    change_card(folder, lambda card: card.pop(key))
    assert_refused(folder, f"lacks '{key}'")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": ["math"]}, "two or more distinct labels"),
        ({"labels": ["math", "math"]}, "two or more distinct labels"),
        ({"labels": ["math", "law"]}, "does not fit 2 labels"),
        ({"labels": 3}, "wrong kind"),
        ({"calibration": {"temperature": 0}}, "temperature"),
        ({"calibration": {"temperature": float("nan")}}, "temperature"),
        ({"calibration": None}, "wrong kind"),
        ({"max_tokens": 2}, "max_tokens"),
        ({"max_tokens": "many"}, "wrong kind"),
        ({"files": []}, "wrong kind"),
        ({"files": {}}, "lists no files"),
        ({"files": {"../../secret": "0"}}, "not a plain name"),
    ],
)
def test_load_scorer_card_with_a_bad_value_is_refused(folder: Path, change: dict[str, object], reason: str) -> None:
    change_card(folder, lambda card: card.update(change))
    assert_refused(folder, reason)


def test_load_scorer_card_that_lists_no_head_is_refused(folder: Path) -> None:
    change_card(folder, lambda card: card["files"].pop("head.npz"))
    assert_refused(folder, r"lists no head\.npz")


@pytest.mark.parametrize("name", ["model.int8.onnx", "tokenizer.json", "head.npz"])
def test_load_scorer_file_of_garbage_with_a_right_hash_is_refused(folder: Path, name: str) -> None:
    replace_file(folder, name, b"not a model")
    assert_refused(folder, f"{name} cannot be")


def test_load_scorer_head_that_is_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    replace_file(folder, "head.npz", (tmp_path / "evil.npy").read_bytes())
    assert_refused(folder, r"head\.npz cannot be read")


def test_load_scorer_head_of_numbers_that_are_not_finite_is_refused(folder: Path, tmp_path: Path) -> None:
    labels = len(read_card(folder).labels)
    broken = {"weights": np.full((384, labels), np.nan, np.float32), "bias": np.zeros(labels, np.float32)}
    np.savez(tmp_path / "head.npz", **broken)  # type: ignore[arg-type]  # names are the caller's
    replace_file(folder, "head.npz", (tmp_path / "head.npz").read_bytes())
    assert_refused(folder, "not finite")


def test_default_artifact_card_is_complete_and_small() -> None:
    card = json.loads((DEFAULT / "card.json").read_text())
    assert card["training"]["sources"]
    assert all(source["licence"] != "not stated" for source in card["training"]["sources"])
    assert {"held-out hand-written", "validation"} <= set(card["metrics"]["sets"])
    assert card["base"]["sha256"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert card["command"]
    listed = {*card["files"], "card.json"}
    assert {path.name for path in DEFAULT.iterdir()} == listed
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) < 30e6
