"""Splits and batches: nothing measured is trained on, every label is drawn, and a seed fixes everything."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router import DataError, Recipe
from router.data.augment import with_typos
from router.data.sources import describe_sources, read_licences
from router.features import CONTEXT_LABEL
from router.prompts import Prompt
from router.training.run import PROMPTS_PER_SOURCE, held_out_sample
from router.training.sampling import Sampler
from router.training.splits import make_splits

RECIPE = Recipe(batch=400, test_share=0.2, calibration_share=0.1, held_out_sources=0.3)


def prompts(source: str, label: str, count: int, **fields: object) -> list[Prompt]:
    made = [
        Prompt(f"{source} {label} question number {n}", label, source=source, key=f"{source}{n}") for n in range(count)
    ]
    return [replace(prompt, **fields) for prompt in made]  # type: ignore[arg-type]  # test shorthand


FOCUS = prompts("own-math", "math", 200) + prompts("own-law", "law", 200)
OTHERS = [
    prompt
    for number in range(6)
    for prompt in prompts(f"set{number}", "math" if number % 2 else "law", 30 * (number + 1))
]


def test_splits_are_disjoint_and_complete() -> None:
    splits = make_splits(FOCUS, OTHERS, RECIPE)
    parts = (splits.focus, splits.others, splits.test, splits.calibration, splits.held_out)
    keys = [prompt.key for part in parts for prompt in part]
    assert sorted(keys) == sorted(prompt.key for prompt in (*FOCUS, *OTHERS))
    assert len(set(keys)) == len(keys)
    assert 40 <= len(splits.test) <= 120
    assert splits.labels == ("law", "math")


def test_splits_hold_out_whole_sources_and_keep_every_label() -> None:
    splits = make_splits([], OTHERS, RECIPE)
    trained, held_out = {p.source for p in splits.others}, {p.source for p in splits.held_out}
    assert held_out
    assert not trained & held_out
    assert {p.label for p in splits.others} == {"law", "math"}


def test_splits_only_source_of_a_label_is_never_held_out() -> None:
    others = prompts("a", "math", 5) + prompts("b", "math", 5) + prompts("c", "law", 5)
    splits = make_splits([], others, replace(RECIPE, held_out_sources=1.0))
    assert {p.label for p in splits.others} == {"law", "math"}


def test_splits_question_in_both_kinds_stays_with_the_focus() -> None:
    splits = make_splits(FOCUS, [*OTHERS, replace(FOCUS[0], source="leak")], RECIPE)
    assert "leak" not in {p.source for p in (*splits.others, *splits.held_out)}


def test_splits_one_label_is_refused() -> None:
    with pytest.raises(DataError, match="two or more labels"):
        make_splits([], prompts("a", "math", 9), RECIPE)


def test_sampler_batches_are_repeatable_and_balanced() -> None:
    splits = make_splits(FOCUS, OTHERS, RECIPE)
    (first,), (second,) = Sampler(splits, RECIPE).batches(1), Sampler(splits, RECIPE).batches(1)
    assert first.texts == second.texts
    np.testing.assert_allclose(first.targets.sum(axis=1), 1, atol=1e-6)
    assert 0.4 < first.targets[:, 0].mean() < 0.6


def test_sampler_focus_share_is_kept() -> None:
    (batch,) = Sampler(make_splits(FOCUS, OTHERS, RECIPE), RECIPE).batches(1, altered=False)
    share = sum(text.startswith("own-") for text in batch.texts) / len(batch.texts)
    assert 0.5 < share < 0.7


def test_sampler_large_source_does_not_drown_a_small_one() -> None:
    others = prompts("big", "math", 3000) + prompts("small", "math", 30) + prompts("x", "law", 30)
    splits = make_splits([], others, replace(RECIPE, held_out_sources=0.0))
    (batch,) = Sampler(splits, RECIPE).batches(1, altered=False)
    counts = Counter(text.split()[0] for text in batch.texts)
    assert 4 < counts["big"] / counts["small"] < 25


def test_sampler_alternative_labels_share_the_target() -> None:
    focus = [*prompts("a", "math", 60, alternatives=("law",)), *prompts("b", "law", 60)]
    recipe = replace(RECIPE, alternative_share=0.4)
    (batch,) = Sampler(make_splits(focus, [], recipe), recipe).batches(1, altered=False)
    shared = [row for text, row in zip(batch.texts, batch.targets, strict=True) if text.startswith("a ")]
    np.testing.assert_allclose(shared[0], [0.4, 0.6], atol=1e-6)


def test_sampler_alterations_change_some_texts_and_add_context() -> None:
    splits = make_splits(
        prompts("a", "math", 60, text="A question that is long enough to carry context?") + FOCUS, [], RECIPE
    )
    (batch,) = Sampler(splits, RECIPE).batches(1)
    assert any(CONTEXT_LABEL in text for text in batch.texts)
    assert any(text.islower() for text in batch.texts)


def test_with_typos_changes_little() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 20
    changed = with_typos(text, random.Random(1))
    assert changed != text
    assert abs(len(changed) - len(text)) < 30
    assert with_typos("数学 12+3", random.Random(1), rate=1.0) == "数学 12+3"


def test_read_licences_finds_the_table_above_the_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "# x\n| set | source | licence |\n|---|---|---|\n| t | faq | MIT |\n\n| a | b |\n"
    )
    (tmp_path / "train").mkdir()
    assert read_licences([tmp_path / "train"])["faq"] == "MIT"
    described = describe_sources([*prompts("faq", "law", 2), *prompts("odd", "law", 1)], [tmp_path / "train"], {})
    assert described == [
        {"source": "faq", "rows": 2, "licence": "MIT"},
        {"source": "odd", "rows": 1, "licence": "not stated"},
    ]


def test_held_out_sample_parts_share_nothing_and_cover_small_sources() -> None:
    splits = replace(
        make_splits(FOCUS, OTHERS, RECIPE), held_out=prompts("small", "law", 7) + prompts("big", "law", 900)
    )
    calibrated, measured = held_out_sample(splits, 7), held_out_sample(splits, 7, part=1)
    assert not {prompt.key for prompt in calibrated} & {prompt.key for prompt in measured}
    assert Counter(prompt.source for prompt in calibrated) == {"small": 3, "big": PROMPTS_PER_SOURCE}
    assert Counter(prompt.source for prompt in measured) == {"small": 4, "big": PROMPTS_PER_SOURCE}
