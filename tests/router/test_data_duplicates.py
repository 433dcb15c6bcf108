"""Repeats are found whatever their case, marks or language; different prompts are never taken for one."""

from __future__ import annotations

import pytest

from router.data import DuplicateIndex, canonical, find_repeats

LONG = (
    "My landlord in Leeds wants to keep the whole deposit because the carpet was stained when I left, "
    "but I have photographs from the first day that show the stain."
)


def repeats(first: str, second: str) -> bool:
    return find_repeats([first, second])[1] is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What is 2+2?", "what is 2+2"),
        ("¿Qué es la entropía?", "Qué es la entropía"),
        ("什么是量子力学？", "什么是量子力学"),
        (LONG, LONG.replace("wants to keep", "wants to hold")),
        (LONG, LONG + " Thanks!"),
        ("यह क़ानून कब लागू हुआ था और किसने बनाया?", "यह क़ानून कब लागू हुआ था और किसने बनाया"),
    ],
)
def test_repeats_are_found(first: str, second: str) -> None:
    assert repeats(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("...", "???"),
        ("", "?"),
        ("a", "b"),
        ("🙂", "🙃"),
        ("2+2", "2-2"),
        ("1.5 km", "15 km"),
        ("x < 3", "x > 3"),
        ("what is the capital of France", "what is the capital of Finland"),
        ("Write a poem about my landlord", LONG),
        ("几何", "代数"),
    ],
)
def test_different_prompts_are_kept_apart(first: str, second: str) -> None:
    assert not repeats(first, second)


def test_find_repeats_points_to_the_first_of_its_kind() -> None:
    matches = find_repeats(["hello there", "other words", "Hello there!", "HELLO THERE"])
    assert [match and match.position for match in matches] == [None, None, 0, 0]
    assert all(match.exact for match in matches if match)


def test_index_reports_how_similar() -> None:
    index = DuplicateIndex()
    assert index.find_or_add(LONG) is None
    match = index.find(LONG.replace("photographs", "photos"))
    assert match is not None
    assert 0.8 <= match.similarity < 1.0
    assert not match.exact
    assert len(index) == 1


def test_index_lowers_its_threshold_on_request() -> None:
    changed = LONG.replace("Leeds", "Bradford").replace("photographs", "some pictures")
    assert DuplicateIndex().find_or_add(LONG) is None
    assert not repeats(LONG, changed)
    assert find_repeats([LONG, changed], threshold=0.6)[1] is not None


def test_index_grows_beyond_its_first_block() -> None:
    texts = [f"question {number * 7919} about item {number * 104729}" for number in range(3_000)]
    index = DuplicateIndex()
    added = [text for text in texts if index.find_or_add(text) is None]
    assert len(index) == len(added) > 1_024
    assert all(index.find(text) is not None for text in texts)


def test_canonical_keeps_what_means_something() -> None:
    assert canonical("  f(x) = 2,5·x^2!  ") == "f ( x ) = 2,5 · x ^ 2"
    assert canonical("!?") == "!?"
    assert canonical("snake_case") == canonical("snake case")
