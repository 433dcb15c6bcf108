"""Perturbed prompts: what each change does to a text, and how a route that moves is counted."""

from __future__ import annotations

import random
import unicodedata

import pytest

from router.evaluation.consistency import consistency
from router.evaluation.perturbations import PERTURBATIONS, letter_case, odd_spacing, perturbed, typos
from router.features import CONTEXT_LABEL, REPLY_LABEL
from router.prompts import Prompt
from tests.router.keyword_scorer import KeywordScorer

TEXT = "My landlord keeps the whole deposit, what can a tenant do about it?"


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbed_equal_seeds_give_equal_texts(name: str) -> None:
    assert perturbed(TEXT, name, "1") == perturbed(TEXT, name, "1")
    assert len({perturbed(TEXT, name, str(seed)) for seed in range(12)}) > 1 or name == "odd_spacing"


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("text", ["", "?", "x", "你好", "a\ud800b", "   "])
def test_perturbed_any_text_is_survived(name: str, text: str) -> None:
    assert isinstance(perturbed(text, name, "1"), str)


@pytest.mark.parametrize("name", sorted(set(PERTURBATIONS) - {"odd_spacing"}))
def test_perturbed_text_differs(name: str) -> None:
    assert perturbed(TEXT, name, "1") != TEXT


@pytest.mark.parametrize("label", [CONTEXT_LABEL, REPLY_LABEL])
def test_perturbed_only_the_last_turn_changes(label: str) -> None:
    context = f"\n{label}Integrate x squared"
    for name in PERTURBATIONS:
        assert perturbed(f"and for n=5{context}", name, "3").endswith(context)


def test_typos_change_one_letter_in_twenty() -> None:
    text = "abcdefghij" * 10
    changed = typos(text, random.Random(2))
    assert changed != text
    assert 95 <= len(changed) <= 105


def test_letter_case_script_without_case_stays() -> None:
    assert letter_case("税金はいくらですか", random.Random(1)) == "税金はいくらですか"
    assert letter_case("Tax", random.Random(1)) in {"TAX", "tax"}


def test_odd_spacing_adds_what_extract_removes() -> None:
    odd = odd_spacing(TEXT, random.Random(4))
    assert any(unicodedata.category(character) == "Cf" for character in odd)
    assert perturbed(TEXT, "odd_spacing", "4") == TEXT


def test_consistency_route_that_follows_the_first_word_moves_with_a_prefix_only() -> None:
    prompts = [Prompt(f"tenant asks {number}", "law", key=f"key-{number}") for number in range(40)]
    figures = consistency(KeywordScorer(), prompts, sample=30, seed=1)
    assert figures.count == 30
    assert figures.perturbations["boilerplate_prefix"] == 1.0
    assert figures.perturbations["letter_case"] == 1.0
    assert figures.perturbations["odd_spacing"] == 1.0
    # "integral" is one of the confounding words and comes before "tenant".
    assert figures.perturbations["confounder_prefix"] < 1.0
    assert figures.all_same <= min(figures.perturbations.values())


def test_consistency_is_the_same_twice_and_moves_with_the_seed() -> None:
    prompts = [Prompt(f"tenant {number} integral fever", "law", key=str(number)) for number in range(60)]
    lines: list[str] = []
    first = consistency(KeywordScorer(), prompts, sample=40, seed=1, progress=lines.append)
    assert consistency(KeywordScorer(), prompts, sample=40, seed=1) == first
    assert consistency(KeywordScorer(), prompts, sample=40, seed=2) != first
    assert lines == []


def test_consistency_of_no_prompts_is_zero() -> None:
    assert consistency(KeywordScorer(), []).all_same == 0.0
