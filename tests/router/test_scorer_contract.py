"""What every scorer must do; each backend is held to it through an artifact it can read."""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Sequence

import numpy as np
import pytest

import router.backends
from router import Scorer, extract_text, load_scorer
from router.artifact import DEFAULT

ARTIFACTS = {"tiered": DEFAULT}
"""Backend name to an artifact it reads; a new backend adds its line here."""

TEXTS = (
    "Find the eigenvalues of a 2x2 rotation matrix",
    "",
    "my knee clicks when I climb stairs, is it arthritis?",
    "ok",
    "Schreibe eine kurze Einladung zum Sommerfest",
    "SELECT name FROM users WHERE id = 3; -- why is this slow?",
)


@pytest.fixture(scope="module", params=sorted(ARTIFACTS))
def scorer(request: pytest.FixtureRequest) -> Scorer:
    return load_scorer(ARTIFACTS[request.param])


def test_backends_all_have_a_contract_artifact() -> None:
    assert {module.name for module in pkgutil.iter_modules(router.backends.__path__)} == set(ARTIFACTS)


def test_scorer_returns_one_float32_row_per_text_that_sums_to_one(scorer: Scorer) -> None:
    batch = scorer.score(TEXTS)
    assert batch.is_sound(len(TEXTS))
    assert batch.probabilities.dtype == np.float32
    np.testing.assert_allclose(batch.probabilities.sum(axis=1), 1, atol=1e-5)


def test_scorer_says_how_strange_how_steady_and_by_which_tier(scorer: Scorer) -> None:
    batch = scorer.score(TEXTS)
    for column in (batch.out_of_domain, batch.disagreement):
        assert ((column >= 0) & (column <= 1)).all()
    assert all(batch.tiers)
    assert scorer.thresholds.of("law") > 0


def test_scorer_no_texts_returns_no_rows(scorer: Scorer) -> None:
    assert scorer.score([]).probabilities.shape == (0, len(scorer.labels))


def test_scorer_has_distinct_labels_and_a_version(scorer: Scorer) -> None:
    assert len(set(scorer.labels)) == len(scorer.labels) >= 2
    assert scorer.version


def test_scorer_same_text_gives_the_same_bits(scorer: Scorer) -> None:
    np.testing.assert_array_equal(scorer.score(TEXTS).probabilities, scorer.score(TEXTS).probabilities)


def test_scorer_batch_equals_single(scorer: Scorer) -> None:
    singles = np.concatenate([scorer.score([text]).probabilities for text in TEXTS])
    np.testing.assert_array_equal(scorer.score(TEXTS).probabilities, singles)


def test_scorer_second_instance_gives_the_same_answer(scorer: Scorer) -> None:
    second = load_scorer(DEFAULT).score(TEXTS[:2])
    np.testing.assert_array_equal(second.probabilities, scorer.score(TEXTS[:2]).probabilities)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\x00", "\ud800", "🙂" * 50, "a" * 1_000_000, "word " * 200_000, "数" * 100_000, "e" + "\u0301" * 9_000],
    ids=["empty", "space", "nul", "surrogate", "emoji", "long-word", "long-text", "cjk", "marks"],
)
def test_scorer_any_text_is_scored(scorer: Scorer, text: str) -> None:
    row = scorer.score([text]).probabilities[0]
    assert np.isfinite(row).all()
    assert row.sum() == pytest.approx(1, abs=1e-5)


def test_scorer_long_prompt_is_read_at_both_ends(scorer: Scorer) -> None:
    filler = "and then the other thing happened as well " * 400
    law = extract_text(f"{filler} Can my landlord evict me without a court order? Which notice period applies?").text
    math = extract_text(f"{filler} Solve the equation 3x^2 - 7x + 2 = 0 and factor the polynomial.").text
    rows = scorer.score([law, math]).probabilities
    column = {label: index for index, label in enumerate(scorer.labels)}
    assert rows[0, column["law"]] > rows[1, column["law"]]
    assert rows[1, column["math"]] > rows[0, column["math"]]


def test_scorer_used_by_many_threads_gives_the_answers_of_one(scorer: Scorer) -> None:
    expected = scorer.score(TEXTS).probabilities
    answers: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []

    def work(texts: Sequence[str]) -> None:
        answers.extend(scorer.score(texts).probabilities for _ in range(5))

    threads = [threading.Thread(target=work, args=(TEXTS,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert all(np.array_equal(answer, expected) for answer in answers)
