"""The quality table: shrinkage, bounds, what it expects of a prompt, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from router import QualityError, QualityTable, winners
from router.quality.beta import beta_quantile, incomplete_beta

LABELS = ("general", "law", "math")
EXPERTS = ("generalist", "solver", "lawyer")
NAN = float("nan")
SCORE = [[0.7, 0.5, NAN], [0.6, NAN, 0.58], [0.5, 0.9, NAN]]
COUNT = [[400.0, 400.0, 0.0], [100.0, 0.0, 100.0], [200.0, 200.0, 0.0]]


def small(prior: float = 20.0, confidence: float = 0.8) -> QualityTable:
    return QualityTable.of(LABELS, EXPERTS, "generalist", SCORE, COUNT, prior=prior, confidence=confidence)


def test_bound_lies_below_the_mean_and_the_generalist_has_its_mean() -> None:
    table = small()
    assert (table.lower[:, 1:] < table.mean[:, 1:]).all()
    np.testing.assert_array_equal(table.lower[:, 0], table.mean[:, 0])


def test_unmeasured_cell_is_never_above_the_generalist() -> None:
    table = small()
    assert table.mean[0, 2] <= table.mean[0, 0]
    assert table.lower[2, 2] < table.lower[2, 0]


def test_strength_of_the_prior_moves_the_mean_to_the_generalist() -> None:
    weak, strong = small(prior=1.0), small(prior=1e6)
    assert weak.mean[2, 1] == pytest.approx(0.9, abs=0.01)
    assert strong.mean[2, 1] <= strong.mean[2, 0] + 1e-3


def test_higher_confidence_lowers_every_bound() -> None:
    assert (small(confidence=0.95).lower[:, 1:] < small(confidence=0.7).lower[:, 1:]).all()
    np.testing.assert_array_equal(small(confidence=0.5).lower, small(confidence=0.5).mean)


def test_better_by_chance_does_not_beat_the_generalist() -> None:
    few = QualityTable.of(("law",), ("generalist", "lawyer"), "generalist", [[0.6, 0.7]], [[20, 20]])
    many = QualityTable.of(("law",), ("generalist", "lawyer"), "generalist", [[0.6, 0.7]], [[2000, 2000]])
    assert few.lower[0, 1] < few.lower[0, 0]
    assert many.lower[0, 1] > many.lower[0, 0]


def test_expected_quality_is_weighed_by_the_probabilities() -> None:
    table = small()
    mixed = table.expect(np.array([0.2, 0.3, 0.5], dtype=np.float32))
    assert mixed == pytest.approx(0.2 * table.lower[0] + 0.3 * table.lower[1] + 0.5 * table.lower[2], abs=1e-6)
    assert all(type(value) is float for value in mixed)
    many = table.expect_all(np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(many, table.lower, atol=1e-6)


def test_winners_are_those_the_bounds_choose() -> None:
    rows = winners(small())
    assert [row.winner for row in rows] == ["generalist", "generalist", "solver"]
    assert all(row.low < row.mean < row.high for row in rows)
    assert rows[2].mean > rows[2].generalist_mean
    assert rows[2].count == 200


@given(
    score=arrays.arrays(np.float64, (3, 3), elements=st.floats(0, 1)),
    count=arrays.arrays(np.float64, (3, 3), elements=st.sampled_from([0.0, 0.3, 5.0, 1e3, 1e6])),
    prior=st.sampled_from([0.5, 20.0, 1e4]),
    confidence=st.sampled_from([0.5, 0.8, 0.99]),
)
@settings(deadline=None)
def test_any_measurements_give_bounds_between_0_and_1(
    score: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    count: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    prior: float,
    confidence: float,
) -> None:
    count[0, 0] = 7.0
    table = QualityTable.of(LABELS, EXPERTS, "generalist", score, count, prior=prior, confidence=confidence)
    assert ((table.lower >= 0) & (table.lower <= 1)).all()
    assert (table.lower <= table.mean + 1e-6).all()
    unmeasured = count == 0
    assert (table.mean[unmeasured] <= np.broadcast_to(table.mean[:, [0]], (3, 3))[unmeasured] + 1e-2).all()


@given(better=st.floats(0, 1), worse=st.floats(0, 1), count=st.floats(1, 1e4))
@settings(deadline=None)
def test_a_better_score_never_lowers_the_bound(better: float, worse: float, count: float) -> None:
    scores = sorted((worse, better))
    lower = [
        QualityTable.of(("a",), ("g", "e"), "g", [[0.5, score]], [[50, count]]).lower[0, 1].item() for score in scores
    ]
    assert lower[0] <= lower[1] + 1e-9


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"generalist": "nobody"}, "'nobody' is not among"),
        ({"score": [[2, 0, 0], [0, 0, 0], [0, 0, 0]]}, "score is outside"),
        ({"count": [[-1, 0, 0], [0, 0, 0], [0, 0, 0]]}, "count is not a number"),
        ({"count": [[0, 9, 9], [0, 9, 9], [0, 9, 9]], "score": np.full((3, 3), 0.5)}, "no scores of the generalist"),
        ({"labels": ("a", "a", "b")}, "distinct"),
        ({"labels": ("a", "b")}, "do not fit"),
        ({"confidence": 1.0}, "confidence 1.0"),
        ({"prior": 0.0}, "prior 0.0"),
        ({"prior": NAN}, "prior nan"),
    ],
)
def test_measurements_that_do_not_fit_are_refused(changes: dict[str, object], problem: str) -> None:
    arguments = {"labels": LABELS, "experts": EXPERTS, "generalist": "generalist", "score": SCORE, "count": COUNT}
    with pytest.raises(QualityError, match=problem):
        QualityTable.of(**{**arguments, **changes})  # type: ignore[arg-type]


def test_quantile_inverts_the_incomplete_beta_function() -> None:
    random = np.random.default_rng(3)
    total, mean = 10 ** random.uniform(-1, 4, 400), random.uniform(0.01, 0.99, 400)
    a, b = total * mean + 0.05, total * (1 - mean) + 0.05
    for level in (0.025, 0.2, 0.5, 0.975):
        quantile = beta_quantile(level, a, b)
        # Of so small ones floating point keeps no distribution.
        inside = (quantile > 1e-6) & (quantile < 1 - 1e-6)
        assert inside.mean() > 0.8
        found = incomplete_beta(quantile[inside], a[inside], b[inside])
        np.testing.assert_allclose(found, level, atol=1e-4)


def test_quantile_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the train extra")
    random = np.random.default_rng(4)
    total, mean = 10 ** random.uniform(-1, 5, 2_000), random.uniform(0.002, 0.998, 2_000)
    a, b = total * mean + 0.02, total * (1 - mean) + 0.02
    for level in (0.025, 0.1, 0.2, 0.975):
        np.testing.assert_allclose(beta_quantile(level, a, b), stats.beta.ppf(level, a, b), atol=3e-4)


@pytest.mark.parametrize(("a", "b"), [(2.0, 1.0), (0.5, 0.5), (30.0, 1.0)])
def test_quantile_of_known_distributions(a: float, b: float) -> None:
    known = 0.2 ** (1 / a) if b == 1.0 else np.sin(np.pi * 0.2 / 2) ** 2
    assert beta_quantile(0.2, a, b).item() == pytest.approx(known, abs=1e-9)


def test_saved_table_is_loaded_as_it_was(tmp_path: Path) -> None:
    table = QualityTable.of(
        LABELS, EXPERTS, "generalist", SCORE, COUNT, prior=7, confidence=0.9, completion_tokens=[10, 20, 30]
    )
    table.save(tmp_path / "deep" / "quality.csv")
    loaded = QualityTable.load(tmp_path / "deep" / "quality.csv")
    assert (loaded.labels, loaded.experts, loaded.generalist) == (LABELS, EXPERTS, "generalist")
    assert (loaded.prior, loaded.confidence) == (7, 0.9)
    np.testing.assert_allclose(loaded.lower, table.lower, atol=1e-5)
    np.testing.assert_array_equal(loaded.completion_tokens, [10, 20, 30])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["quality.csv"]


def test_names_with_commas_and_quotes_survive_the_file(tmp_path: Path) -> None:
    names = ("generalist", 'the "best", really', "#1")
    QualityTable.of(LABELS, names, "generalist", SCORE, COUNT).save(tmp_path / "q.csv")
    assert QualityTable.load(tmp_path / "q.csv").experts == names


WRITTEN = "domain,expert,score,count\nmath,generalist,0.5,100\nmath,solver,0.8,100\n"


def written(folder: Path, content: str) -> Path:
    path = folder / "quality.csv"
    path.write_bytes(content.encode())
    return path


def test_file_by_hand_takes_the_order_of_experts_and_labels_given(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeff# a note\r\n" + WRITTEN.replace("\n", "\r\n"))
    table = QualityTable.load(path, experts=("solver", "generalist", "unseen"), labels=("law", "math"))
    assert table.experts == ("solver", "generalist", "unseen")
    assert table.count.tolist() == [[0, 0, 0], [100, 100, 0]]
    expected = table.expect(np.array([0, 1], dtype=np.float32))
    assert expected[0] > expected[1] > expected[2]
    law = table.expect(np.array([1, 0], dtype=np.float32))
    assert max(law) == law[1]


def test_generalist_given_wins_over_the_one_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "# generalist: solver\n" + WRITTEN)
    assert QualityTable.load(path).generalist == "solver"
    assert QualityTable.load(path, generalist="generalist").generalist == "generalist"


def test_lengths_missing_in_one_domain_are_the_mean_of_the_others(tmp_path: Path) -> None:
    content = "domain,expert,score,count,completion_tokens\nmath,generalist,1,9,100\nlaw,generalist,1,9,\n"
    table = QualityTable.load(written(tmp_path, content))
    np.testing.assert_array_equal(table.completion_tokens, [100, 100])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (WRITTEN.replace("solver", "solvr"), ":3: no expert 'solvr' here; did you mean 'solver'?"),
        (WRITTEN.replace("math,solver", "maths,solver"), ":3: no domain 'maths' here; did you mean 'math'?"),
        (WRITTEN + "math,solver,0.8,100\n", ":4: a second row for 'solver' in 'math'"),
        (WRITTEN.replace("0.8", "80"), ":3: score is not a number from 0 to 1"),
        (WRITTEN.replace("0.8", "nan"), ":3: score is not a number"),
        (WRITTEN.replace(",100\nmath,s", ",-1\nmath,s"), ":2: count is not a number"),
        (WRITTEN.replace("0.8,100", "0.8,inf"), ":3: count is not a number"),
        (WRITTEN.replace("0.8,100", "0.8"), ":3: 3 cells, but 4 columns"),
        (WRITTEN.replace("math,solver", "math,"), ":3: no expert"),
        (WRITTEN.replace("generalist", "solver", 1).replace("solver,0.8", "solver,0.8", 1), "a second row"),
        ("# prior: many\n" + WRITTEN, ":1: prior is not a number"),
        ("# confidence: 2\n" + WRITTEN, "confidence 2.0 is outside"),
        ("# generalist: nobody\n" + WRITTEN, "'nobody' is not among"),
        ("domain,expert,score\nmath,generalist,1\n", ":1: the first line must name the columns"),
        ("domain,expert,score,count\n", "no rows"),
        ("", "the first line must name"),
        ('domain,expert,score,count\nmath,"generalist,1,1\n', "unexpected end of data"),
        ("domain,expert,score,count\nmath,solver,1,1\n", "no scores of the generalist"),
    ],
)
def test_bad_file_is_one_error_with_its_line(tmp_path: Path, content: str, problem: str) -> None:
    path = written(tmp_path, content)
    known = {"experts": ("generalist", "solver"), "labels": ("math", "law")}
    with pytest.raises(QualityError) as caught:
        QualityTable.load(path, **known)  # type: ignore[arg-type]
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_file_that_is_missing_huge_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match="No such file"):
        QualityTable.load(tmp_path / "none.csv")
    with pytest.raises(QualityError, match="directory"):
        QualityTable.load(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(QualityError, match="not UTF-8"):
        QualityTable.load(tmp_path / "bytes.csv")
    with (tmp_path / "huge.csv").open("wb") as stream:
        stream.truncate(17_000_000)
    with pytest.raises(QualityError, match="larger than"):
        QualityTable.load(tmp_path / "huge.csv")


def test_table_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QualityError, match="file"):
        small().save(tmp_path / "file" / "quality.csv")


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), headed=st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_table_or_an_error(tmp_path: Path, content: bytes, headed: bool) -> None:
    path = tmp_path / "quality.csv"
    path.write_bytes(WRITTEN.encode() + content if headed else content)
    try:
        table = QualityTable.load(path)
    except QualityError:
        return
    assert ((table.lower >= 0) & (table.lower <= 1)).all()


@given(names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=4, unique_by=str.strip))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_survive_the_file_or_are_refused(tmp_path: Path, names: list[str]) -> None:
    count = np.full((1, len(names)), 5.0)
    try:
        table = QualityTable.of(("a",), names, names[0], count / 10, count)
        table.save(tmp_path / "q.csv")
        loaded = QualityTable.load(tmp_path / "q.csv")
    except QualityError:
        return
    assert loaded.experts == tuple(names)
