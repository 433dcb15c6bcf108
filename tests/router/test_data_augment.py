"""Augmentation is free to change everything about a prompt but its task, and repeats itself for one seed."""

from __future__ import annotations

import random

import pytest

from router.data import augment, with_typos
from router.data.phrases import PHRASES
from router.evaluation import perturbations
from router.features import CONTEXT_LABEL, extract_text

OTHERS = {
    "law": ["can my landlord evict me without any notice"],
    "math": ["find the integral of the tangent"],
    "general": ["suggest a nice picnic place for sunday"],
}
TEXT = "What's the best way to remove a stuck pipe fitting from an old radiator?"
ODD = ["?", "...", "🙂", "a", "\u200b", "```\n```", "0", "你好", "(A)", "The the the of the a to"]


def augmented(text: str, seed: int, count: int = 300) -> list[str]:
    dice = random.Random(seed)
    return [augment(text, "general", dice, others=OTHERS) for _ in range(count)]


def test_augment_repeats_itself_for_one_seed() -> None:
    assert augmented(TEXT, seed=5) == augmented(TEXT, seed=5)
    assert augmented(TEXT, seed=5) != augmented(TEXT, seed=6)


@pytest.mark.parametrize("text", [TEXT, *ODD])
def test_augment_never_returns_blank_text(text: str) -> None:
    assert all(result.strip() for result in augmented(text, seed=1))


def test_augment_is_varied_yet_leaves_a_share_alone() -> None:
    results = augmented(TEXT, seed=2, count=2_000)
    assert 0.2 < results.count(TEXT) / len(results) < 0.5
    assert len(set(results)) > 800


def test_augment_uses_words_of_other_domains_only() -> None:
    text = " ".join(augmented(TEXT, seed=3, count=2_000)).lower()
    assert "landlord" in text
    assert "tangent" in text
    assert "picnic" not in text


def test_augment_names_other_labels_only() -> None:
    tagged = [result for result in augmented(TEXT, seed=4, count=2_000) if "domain: " in result.lower()]
    assert tagged
    assert all("domain: general" not in result.lower() for result in tagged)


def test_augment_works_without_other_domains() -> None:
    dice = random.Random(0)
    assert all(augment(TEXT, "law", dice, others={}).strip() for _ in range(300))


def test_augment_leaves_the_context_of_a_conversation() -> None:
    context = f"\n{CONTEXT_LABEL}How do I bleed a radiator?"
    assert all(result.endswith(context) for result in augmented("and the old one" + context, seed=1))


def test_augment_letters_the_options_of_an_exam_item() -> None:
    results = augmented("What floats best of all?\niron\nwood\nlead", seed=1)
    assert any("(B) wood" in result for result in results)


def test_augmented_text_survives_what_serving_does_to_it() -> None:
    assert all(extract_text(result).text for result in augmented(TEXT, seed=8))


def test_with_typos_changes_letters_at_the_given_rate() -> None:
    assert with_typos(TEXT, random.Random(1), rate=0.0) == TEXT
    assert with_typos("1234 !?", random.Random(1), rate=1.0) == "1234 !?"
    assert with_typos(TEXT, random.Random(1), rate=0.2) != TEXT


def test_phrase_banks_are_wide_and_without_repeats() -> None:
    frames = [*PHRASES.prefixes, *PHRASES.suffixes, *PHRASES.personas]
    assert len(set(frames)) == len(frames) >= 60
    assert len(set(PHRASES.irrelevant)) == len(PHRASES.irrelevant) >= 60


def test_phrases_are_not_those_that_robustness_is_measured_with() -> None:
    banks = (*PHRASES.prefixes, *PHRASES.suffixes, *PHRASES.personas, *PHRASES.irrelevant)
    dice = random.Random(0)
    measured = {perturbations.irrelevant_sentence("", dice).strip() for _ in range(100)}
    measured |= {perturbations.boilerplate_prefix("", dice).strip() for _ in range(100)}
    assert not measured & {phrase.strip() for phrase in banks}
