"""What is put around a prompt leaves the ask as it is, misleads, and is marked as not asked."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.data.augment import augment, augmented_parts
from router.data.noise import joined, surround
from router.data.phrases import PHRASES
from router.evaluation import perturbations
from router.features import CONTEXT_LABEL, extract_text

OTHERS = {
    "law": ["can my landlord evict me without any notice"],
    "math": ["find the integral of the tangent"],
    "general": ["We had a long picnic by the lake on Sunday. Suggest a game for the way home."],
}
ASK = "Is a polite letter to the plumber enough?"


def surrounded(label: str = "law", count: int = 2_000, seed: int = 3) -> list[str]:
    dice = random.Random(seed)
    return [joined(surround(ASK, label, dice, others=OTHERS)) for _ in range(count)]


@given(text=st.text(min_size=1, max_size=80), seed=st.integers(0, 10_000))
def test_surround_keeps_the_ask_and_marks_it_alone(text: str, seed: int) -> None:
    parts = surround(text, "law", random.Random(seed), others=OTHERS)
    assert [part.text for part in parts if part.asked] == [text]
    assert len(parts) in (2, 3)
    assert all(part.text.strip() for part in parts if not part.asked)


def test_surround_is_varied_and_repeats_itself_for_one_seed() -> None:
    assert surrounded(seed=1) == surrounded(seed=1)
    assert len(set(surrounded())) > 1_500
    before = sum(text.endswith(ASK) for text in surrounded())
    after = sum(text.startswith(ASK) for text in surrounded())
    assert before > 800
    assert after > 200


def test_surround_misleads_with_words_of_other_domains_only() -> None:
    text = " ".join(surrounded("law"))
    assert "integral" in text
    assert "landlord" not in text
    assert "We had a long picnic by the lake on Sunday." in text
    assert "[law]" not in text


@pytest.mark.parametrize("others", [{}, {"law": ["x"]}, {"law": [], "general": []}, {"math": [""]}])
def test_surround_works_with_nothing_to_mislead_with(others: dict[str, list[str]]) -> None:
    dice = random.Random(0)
    assert all(joined(surround(ASK, "law", dice, others=others)).strip() for _ in range(500))


def test_surround_ask_survives_what_serving_does_to_it() -> None:
    read = [extract_text(text).text for text in surrounded(count=500)]
    assert sum("letter to the plumber" in text for text in read) > 480


def test_augmented_parts_are_what_augment_returns() -> None:
    text = f"and the old one\n{CONTEXT_LABEL}How do I bleed a radiator?"
    for seed in range(200):
        parts = augmented_parts(text, "general", random.Random(seed), others=OTHERS)
        assert joined(parts) == augment(text, "general", random.Random(seed), others=OTHERS)
        assert parts[-1].asked
        assert any(not part.asked for part in parts) or len(parts) == 2


def test_openings_and_small_talk_are_not_those_that_robustness_is_measured_with() -> None:
    dice = random.Random(0)
    measured = {perturbations.irrelevant_sentence("", dice).strip() for _ in range(100)}
    measured |= {perturbations.boilerplate_prefix("", dice).strip() for _ in range(100)}
    sentences = {sentence for text in measured for sentence in text.replace("!", ".").replace(":", ".").split(". ")}
    banks = (PHRASES.roles, PHRASES.orders, PHRASES.niceties, PHRASES.requests, PHRASES.closings, PHRASES.events)
    used = {phrase.rstrip(".!:?") for bank in banks for phrase in bank}
    assert not used & {sentence.rstrip(".!:?") for sentence in sentences}
    assert all(len(set(bank)) == len(bank) >= 20 for bank in banks)
