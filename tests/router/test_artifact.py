"""An artifact that cannot be used is refused with the folder and the reason, before any prompt is scored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import router
from router import ArtifactError, load_scorer
from router.artifact import sha256_of

DEFAULT = Path(router.__file__).parent / "artifacts" / "default"
FILES = ("pieces.model", "scales.npz", "fast.int8.onnx", "transformer.int8.onnx", "tokenizer.json",
         "transformer.npz", "distances.npz")  # fmt: skip

CALIBRATION = {"first": 1, "pair": [1, 1], "hand_over": 1, "least_readable": 1, "first_shift": [], "pair_shift": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a private copy of the default artifact; the large table, which no test here changes, is linked."""

    def copy(source: str, target: str) -> None:
        os.link(source, target) if source.endswith("table.npy") else shutil.copy2(source, target)

    try:
        return Path(shutil.copytree(DEFAULT, tmp_path / "artifact", copy_function=copy))
    except shutil.Error:  # another file system
        return Path(shutil.copytree(DEFAULT, tmp_path / "artifact", dirs_exist_ok=True))


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


@pytest.mark.parametrize("name", FILES)
@pytest.mark.row("F4")
def test_load_scorer_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, f"missing file {name}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.row("F4")
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


@pytest.mark.parametrize("backend", ["unknown", "Tiered", "../tiered", "tiered.evil", "__init__", "", "os", "ön"])
def test_load_scorer_unknown_backend_is_refused(folder: Path, backend: str) -> None:
    change_card(folder, lambda card: card.update(backend=backend))
    assert_refused(folder, "unknown backend")


@pytest.mark.parametrize("version", [0, 1, "2", None])
def test_load_scorer_unknown_format_is_refused(folder: Path, version: object) -> None:
    change_card(folder, lambda card: card.update(format=version))
    assert_refused(folder, "unknown format")


@pytest.mark.parametrize(
    "key", ["name", "backend", "labels", "tiers", "calibration", "thresholds", "max_tokens", "files"]
)
def test_load_scorer_card_without_a_key_is_refused(folder: Path, key: str) -> None:
    change_card(folder, lambda card: card.pop(key))
    assert_refused(folder, f"lacks '{key}'")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": ["math"]}, "two or more distinct labels"),
        ({"labels": ["math", "math"]}, "two or more distinct labels"),
        ({"labels": ["math", "law"]}, "shifts for 9 labels, not 2"),
        ({"labels": ["math", "law"], "calibration": CALIBRATION}, "does not answer for 2 labels"),
        ({"tiers": []}, "one or more distinct tiers"),
        ({"tiers": ["fast", "fast"]}, "one or more distinct tiers"),
        ({"tiers": ["fast", "slow"]}, "cannot run the tiers"),
        ({"tiers": "fast"}, "cannot run the tiers"),
        ({"added": ["gardening"]}, r"lists no domain\.gardening\.npz"),
        ({"thresholds": {}}, "lacks"),
        ({"thresholds": None}, "wrong kind"),
        ({"labels": 3}, "wrong kind"),
        ({"calibration": {}}, "lacks"),
        (
            {
                "calibration": {
                    "first": 0,
                    "pair": [1, 1],
                    "hand_over": 1,
                    "least_readable": 1,
                    "first_shift": [],
                    "pair_shift": [],
                }
            },
            "wrong kind",
        ),
        (
            {
                "calibration": {
                    "first": float("nan"),
                    "pair": [1, 1],
                    "hand_over": 1,
                    "least_readable": 1,
                    "first_shift": [],
                    "pair_shift": [],
                }
            },
            "wrong kind",
        ),
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


@pytest.mark.parametrize("name", FILES)
def test_load_scorer_card_that_does_not_list_a_file_is_refused(folder: Path, name: str) -> None:
    change_card(folder, lambda card: card["files"].pop(name))
    assert_refused(folder, f"lists no {name}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.row("F4")
def test_load_scorer_file_of_garbage_with_a_right_hash_is_refused(folder: Path, name: str) -> None:
    replace_file(folder, name, b"not a model")
    assert_refused(folder, f"{name} (cannot be|does not fit)")


def test_load_scorer_head_that_is_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    replace_file(folder, "transformer.npz", (tmp_path / "evil.npy").read_bytes())
    assert_refused(folder, r"transformer\.npz cannot be read")


def test_load_scorer_scales_that_are_not_finite_are_refused(folder: Path) -> None:
    with np.load(DEFAULT / "scales.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["scale"] = np.full_like(arrays["scale"], np.nan)
    np.savez(folder / "scales.npz", **arrays)
    change_card(folder, lambda card: card["files"].update({"scales.npz": sha256_of(folder / "scales.npz")}))
    assert_refused(folder, "not finite")


def test_load_scorer_table_of_another_length_is_refused(folder: Path) -> None:
    (folder / "table.npy").unlink()
    np.save(folder / "table.npy", np.zeros((10, 512), dtype=np.uint8))
    change_card(folder, lambda card: card["files"].update({"table.npy": sha256_of(folder / "table.npy")}))
    assert_refused(folder, "do not fit one another")


def test_default_artifact_card_is_complete_and_small() -> None:
    card = json.loads((DEFAULT / "card.json").read_text())
    assert card["training"]["sources"]
    assert all(source["licence"] != "not stated" for source in card["training"]["sources"])
    assert {base["licence"] for base in card["bases"]} == {"Apache-2.0"}
    assert {base["sha256"][:8] for base in card["bases"]} == {"0db566fd", "53aa5117"}
    assert card["command"].startswith("pointsman train ")
    assert {"unseen", "validation"} == set(json.loads((DEFAULT / "evaluation.json").read_text()))
    listed = {*card["files"], "card.json", "evaluation.json", "README.md"}
    assert {path.name for path in DEFAULT.iterdir()} == listed
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) < 115e6
