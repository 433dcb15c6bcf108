"""Fitting a quality table to outcomes: domains, cells, what is held out, and the files of cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router import DataError, OutcomeTable, QualityError, QualityTable, fit_quality, join_outcomes, outcomes_from_scores
from router.quality.advantage import lower_advantage, prior_strength
from router.quality.cells import Cells
from router.quality.clusters import spherical_kmeans, unit_means
from router.scores import FloatArray
from tests.router.keyword_scorer import KeywordScorer
from tests.router.spot_scorer import LABELS, SIZE, SPOTS, SpotScorer, spot_outcomes


def chosen_scores(table: QualityTable, outcomes: OutcomeTable, scorer: SpotScorer) -> float:
    batch = scorer.score(outcomes.prompts)
    assert batch.embeddings is not None
    choices = table.expect_all(batch.probabilities, batch.embeddings).argmax(axis=1)
    return float(outcomes.scores[np.arange(len(choices)), choices].mean())


@pytest.fixture(scope="module")
def fitted() -> QualityTable:
    return fit_quality(spot_outcomes(), scorer=SpotScorer())


def one(scorer: SpotScorer, prompt: str) -> tuple[FloatArray, FloatArray]:
    scores = scorer.score([prompt])[0]
    assert scores.embedding is not None
    return scores.probabilities, scores.embedding


def test_given_domains_need_no_scorer() -> None:
    outcomes = outcomes_from_scores([("law", "a", 1.0), ("law", "b", 0.0), ("math", "b", 1.0), ("math", "a", 0.0)])
    table = fit_quality(outcomes, generalist="b")
    assert table.labels == ("law", "math")
    assert table.score.tolist() == [[1, 0], [0, 1]]
    assert table.count.tolist() == [[1, 1], [1, 1]]
    assert table.cells is None


def test_prompt_counts_in_each_domain_with_its_probability() -> None:
    outcomes = OutcomeTable(("the integral", "hello"), (None, None), ("", ""), ("a",), np.array([[1.0], [0.0]]))
    table = fit_quality(outcomes, scorer=KeywordScorer())
    counts = dict(zip(table.labels, table.count[:, 0].tolist(), strict=True))
    assert counts["math"] == pytest.approx(0.8 + 0.1)
    assert counts["general"] == pytest.approx(0.05 + 0.6)
    assert table.score[table.labels.index("math"), 0] == pytest.approx(0.8 / 0.9)


def test_row_counts_with_its_weight_through_selection_and_join() -> None:
    rows = [("law", "a", 1.0), ("law", "a", 0.0), ("math", "a", 1.0)]
    weighted, whole = outcomes_from_scores(rows, [0.75, 0.25, 0.5]), outcomes_from_scores([("math", "a", 0.0)])
    table = fit_quality(join_outcomes([weighted, whole]))
    assert table.score[:, 0].tolist() == pytest.approx([0.75, 0.5 / 1.5])
    assert table.count[:, 0].tolist() == pytest.approx([1.0, 1.5])
    assert fit_quality(weighted.rows([1, 2])).count[:, 0].tolist() == pytest.approx([0.25, 0.5])
    assert join_outcomes([whole, whole]).weights is None


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, 1.5], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="needs a weight for each score"):
        outcomes_from_scores([("law", "a", 1.0), ("law", "a", 1.0)], weights)


def test_given_domain_wins_over_the_scorer() -> None:
    outcomes = OutcomeTable(("the integral",), ("law",), ("",), ("a",), np.array([[1.0]]))
    table = fit_quality(outcomes, scorer=KeywordScorer())
    assert table.count[:, 0].tolist() == [float(label == "law") for label in table.labels]


def test_generalist_is_the_named_one_else_the_best_of_those_scored_often() -> None:
    scores = np.array([[0.5, 0.9, np.nan], [0.7, 0.8, np.nan], [0.6, 0.7, 1.0]])
    outcomes = OutcomeTable(("",) * 3, ("law",) * 3, ("",) * 3, ("a", "b", "rare"), scores)
    assert fit_quality(outcomes).generalist == "b"
    assert fit_quality(outcomes, generalist="a").generalist == "a"
    assert fit_quality(outcomes.renamed({"a": "generalist"})).generalist == "generalist"


def test_names_that_do_not_fit_get_a_hint() -> None:
    outcomes = outcomes_from_scores([("mathss", "solver", 1.0)])
    with pytest.raises(QualityError, match="no domain 'mathss'.*did you mean 'math'"):
        fit_quality(outcomes, scorer=KeywordScorer())
    with pytest.raises(QualityError, match="no expert 'solvr'.*did you mean 'solver'"):
        fit_quality(outcomes, generalist="solvr")
    with pytest.raises(QualityError, match="a scorer is needed"):
        fit_quality(spot_outcomes(2))


def test_lengths_are_those_of_the_domain() -> None:
    outcomes = outcomes_from_scores([("law", "a", 1.0), ("law", "a", 1.0), ("math", "a", 1.0), ("code", "a", 1.0)])
    tokens = np.array([[100.0], [300.0], [50.0], [np.nan]])
    table = fit_quality(replace(outcomes, output_tokens=tokens))
    assert table.completion_tokens is not None
    lengths = dict(zip(table.labels, table.completion_tokens.tolist(), strict=True))
    assert lengths == {"law": 200, "math": 50, "code": 150}


def test_cells_find_what_domains_hide(fitted: QualityTable) -> None:
    unseen = spot_outcomes(seed=1)
    assert fitted.cells is not None
    assert set(fitted.cells.names) == set(SPOTS)
    scorer = SpotScorer()
    assert chosen_scores(fitted, unseen, scorer) > chosen_scores(fitted.without_cells(), unseen, scorer) + 0.05
    algebra, geometry = (fitted.expect(*one(scorer, f"{spot} 900")) for spot in ("algebra", "geometry"))
    assert algebra[1] > algebra[0]
    assert geometry[1] < geometry[0]


def test_cells_are_found_without_names_of_groups() -> None:
    table = fit_quality(spot_outcomes(named=False), scorer=SpotScorer())
    assert table.cells is not None
    assert all(name.startswith("cluster") for name in table.cells.names)
    unseen = spot_outcomes(seed=1)
    plain = chosen_scores(table.without_cells(), unseen, SpotScorer())
    assert chosen_scores(table, unseen, SpotScorer()) > plain + 0.05


def test_no_cells_where_they_do_not_choose_better() -> None:
    assert fit_quality(spot_outcomes(helps=False), scorer=SpotScorer()).cells is None
    assert fit_quality(spot_outcomes(each=20), scorer=SpotScorer()).cells is None
    assert fit_quality(spot_outcomes(), scorer=SpotScorer(), cells=False).cells is None


def test_equal_prompts_do_not_make_cells_look_good() -> None:
    random = np.random.default_rng(5)
    some = spot_outcomes(each=25, helps=False)
    noise = replace(some, scores=(random.random(some.scores.shape) < 0.5).astype(np.float64))
    # Each prompt twelve times with the same scores: by rows there is plenty of data, by prompts there is not.
    assert fit_quality(join_outcomes([noise] * 12), scorer=SpotScorer(), generalist="generalist").cells is None


def test_rows_without_prompts_do_not_hinder_cells() -> None:
    ratings = outcomes_from_scores([("math", "generalist", 1.0), ("general", "solver", 0.0)])
    table = fit_quality(join_outcomes([spot_outcomes(), ratings]), scorer=SpotScorer())
    assert table.cells is not None
    assert table.count.sum() == pytest.approx(2 * 800 + 2)


def test_strange_prompt_is_left_to_its_domain(fitted: QualityTable) -> None:
    probabilities, embedding = one(SpotScorer(), "elsewhere 5")
    assert fitted.expect(probabilities, embedding) == pytest.approx(fitted.expect(probabilities), abs=1e-6)


def test_prompt_of_a_domain_its_cell_never_saw_is_left_to_the_domain(fitted: QualityTable) -> None:
    assert fitted.cells is not None
    profile = np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (len(fitted.cells.names), 1))
    table = replace(fitted, cells=replace(fitted.cells, profile=profile))
    _, embedding = one(SpotScorer(), "algebra 5")
    general, math = np.eye(2, dtype=np.float32)
    assert table.expect(general, embedding) == pytest.approx(table.expect(general), abs=1e-6)
    assert table.expect(math, embedding) != pytest.approx(table.expect(math), abs=1e-3)


def test_cells_and_no_embedding_give_the_answer_of_the_domains(fitted: QualityTable) -> None:
    probabilities, embedding = one(SpotScorer(), "algebra 5")
    assert fitted.expect(probabilities) == fitted.without_cells().expect(probabilities, embedding)
    assert fitted.expect(probabilities, embedding[:3]) == fitted.expect(probabilities)
    assert fitted.expect(probabilities, embedding * np.float32("nan")) == fitted.expect(probabilities)


def test_fit_is_the_same_every_time() -> None:
    first, second = (fit_quality(spot_outcomes(named=False), scorer=SpotScorer()) for _ in range(2))
    assert first.cells is not None
    assert second.cells is not None
    np.testing.assert_array_equal(first.cells.lower, second.cells.lower)


def test_unscored_expert_gets_what_the_domains_say_in_cells() -> None:
    outcomes = spot_outcomes()
    few = np.full((len(outcomes), 1), np.nan)
    few[:10] = 1.0
    wider = replace(outcomes, experts=(*outcomes.experts, "new"), scores=np.hstack([outcomes.scores, few]))
    table = fit_quality(wider, scorer=SpotScorer())
    assert table.cells is not None
    np.testing.assert_allclose(table.cells.lower[:, 2], table.cells.profile @ table.lower[:, 2], atol=1e-5)


def test_saved_cells_are_loaded_in_the_order_asked_for(fitted: QualityTable, tmp_path: Path) -> None:
    fitted.save(tmp_path / "q.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.cells.npz", "q.csv"]
    loaded = QualityTable.load(
        tmp_path / "q.csv", experts=("new", "solver", "generalist"), labels=tuple(reversed(LABELS))
    )
    probabilities, embedding = one(SpotScorer(), "algebra 5")
    expected = loaded.expect(np.ascontiguousarray(probabilities[::-1]), embedding)
    assert expected[2:0:-1] == pytest.approx(fitted.expect(probabilities, embedding), abs=1e-5)
    assert expected[0] < expected[2]


def test_loaded_and_saved_again_keeps_its_cells(fitted: QualityTable, tmp_path: Path) -> None:
    fitted.save(tmp_path / "q.csv")
    QualityTable.load(tmp_path / "q.csv").save(tmp_path / "again.csv")
    assert QualityTable.load(tmp_path / "again.csv").cells is not None
    fitted.without_cells().save(tmp_path / "again.csv")
    assert not (tmp_path / "again.cells.npz").exists()


def test_cells_of_another_or_edited_table_are_refused(fitted: QualityTable, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    fitted.save(path)
    text = path.read_text()
    path.write_text(text.replace("\n", "\r\n"), newline="")
    assert QualityTable.load(path).cells is not None
    with pytest.raises(QualityError, match="compares with 'generalist', not with 'solver'"):
        QualityTable.load(path, generalist="solver")
    path.write_text(text.replace("math,solver,0.", "math,solver,0.9"))
    with pytest.raises(QualityError, match=r"q\.csv: q\.cells\.npz was fitted with another table"):
        QualityTable.load(path)


def test_cells_of_another_space_are_refused(fitted: QualityTable, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    fitted.save(path)
    assert QualityTable.load(path, scorer=SpotScorer()).labels == LABELS
    with pytest.raises(QualityError, match=f"embeddings of {SIZE} entries .*have {SIZE * 2}"):
        QualityTable.load(path, scorer=SpotScorer(size=SIZE * 2))
    with pytest.raises(QualityError, match="embeds otherwise than"):
        QualityTable.load(path, scorer=SpotScorer(turned=True))
    with pytest.raises(QualityError, match="gives none"):
        fitted.check_scorer(KeywordScorer())
    fitted.without_cells().check_scorer(KeywordScorer())


@pytest.mark.parametrize("damage", ["cut", "text", "other arrays", "shape", "nan", "object"])
def test_damaged_cells_are_one_error(fitted: QualityTable, tmp_path: Path, damage: str) -> None:
    fitted.save(tmp_path / "q.csv")
    path = tmp_path / "q.cells.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_bytes(b"not an archive")
    else:
        changes = {
            "other arrays": {"bias": None},
            "shape": {"bias": arrays["bias"][1:]},
            "nan": {"lower": arrays["lower"] * np.nan},
            "object": {"names": np.array([{}], dtype=object)},
        }[damage]
        changed = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
        np.savez(path, allow_pickle=True, **changed)
    with pytest.raises(QualityError, match=r"q\.cells\.npz"):
        QualityTable.load(tmp_path / "q.csv")


def test_cells_written_as_arrays_are_read_as_they_were(fitted: QualityTable) -> None:
    assert fitted.cells is not None
    again = Cells.from_arrays(fitted.cells.as_arrays())
    assert again.names == fitted.cells.names
    np.testing.assert_array_equal(again.projection, fitted.cells.projection)


def test_kmeans_separates_what_is_far_apart() -> None:
    embeddings = SpotScorer().score(spot_outcomes(50).prompts).embeddings
    assert embeddings is not None
    clusters = spherical_kmeans(embeddings, len(SPOTS))
    assert [len(set(clusters[start : start + 50].tolist())) for start in range(0, 200, 50)] == [1, 1, 1, 1]
    assert len(set(clusters.tolist())) == len(SPOTS)
    assert set(spherical_kmeans(embeddings[:1].repeat(5, axis=0), 3).tolist()) == {0}
    assert not unit_means(embeddings, clusters, len(SPOTS) + 1)[-1].any()


def test_advantage_is_bounded_by_what_pairs_say() -> None:
    random = np.random.default_rng(0)
    hard = random.random(400)
    better = np.column_stack([hard * 0.5, hard * 0.5 + 0.1, np.full(400, np.nan)])
    groups = np.eye(2)[np.arange(400) % 2]
    bounds, known = lower_advantage(groups, better, 0, np.zeros((2, 3)), 0.8)
    assert known.tolist() == [True, True, False]
    assert (bounds[:, 1] > 0.05).all()
    lower, _ = lower_advantage(groups, better, 0, np.zeros((2, 3)), 0.99)
    assert (lower[:, 1] < bounds[:, 1]).all()


def test_prior_is_strong_where_groups_agree_and_weak_where_they_differ() -> None:
    count = np.full(10, 100.0)
    assert prior_strength(count, np.full(10, 0.01), 0.25) > 100
    assert prior_strength(count, np.linspace(-0.5, 0.5, 10), 0.25) < 10
