"""Ways to choose on recorded outcomes: baselines by hand, what is missing, and laws that hold for any outcomes."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import DataError
from router.replay import Contender, Family, Noisy, Recorded, Terms
from router.replay.baselines import always, domain_oracle, prompt_oracle, random
from router.replay.bootstrap import bootstrap_means, interval
from router.replay.compare import compare
from router.replay.result import Replay

NAN = float("nan")
EXPERTS = ("wide", "sums", "verse")
SCORES = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0.5]], dtype=float)
COST = np.array([[4, 1, 2]] * 4) / 1000
GROUPS = ("sums", "sums", "verse", "verse")
TABLE = Recorded.of(EXPERTS, SCORES, COST)


def played(family: Family | None = None, **changes: Any) -> Replay:
    families = [family or Family.single("mine", np.array([1, 1, 0, 0]))]
    chosen: dict[str, Any] = {"generalist": "wide", "groups": GROUPS, "labels": "group", "draws": 50, **changes}
    return compare(TABLE, families, Terms(**chosen))


def test_baselines_by_hand() -> None:
    assert TABLE.best_single() == 0
    assert TABLE.cheapest() == 1
    assert always(TABLE, 0).mean_quality == 0.75
    assert always(TABLE, 0).mean_cost == pytest.approx(0.004)
    assert random(TABLE).mean_quality == pytest.approx((2 / 3 + 1 / 3 + 2 / 3 + 0.5) / 4)
    assert random(TABLE).mean_cost == pytest.approx(0.007 / 3)
    oracle = domain_oracle(TABLE, GROUPS)
    assert oracle.mean_quality == 1
    assert oracle.shares.tolist() == [0.5, 0.5, 0]
    # The cheaper one of equals: `sums` on the first prompt, `verse` on the third.
    assert prompt_oracle(TABLE).cost.tolist() == [0.001, 0.001, 0.002, 0.004]


def test_row_of_a_policy_by_hand() -> None:
    row = played().row("mine")
    assert (row.quality, row.missing, row.kind, row.family) == (1, 0, "policy", "mine")
    assert row.cost == pytest.approx(2.5)
    assert row.saved == pytest.approx(1 - 2.5 / 4)
    assert row.difference == pytest.approx(0.25)
    assert row.gap_closed == pytest.approx(1)
    # Singles at (1, 0.5) and (4, 0.75): a mix that costs 2.5 is worth 0.625.
    assert row.over_zero_router == pytest.approx(0.375)
    assert row.shares == (0.5, 0.5, 0)


def test_roles_name_the_baselines_among_the_experts() -> None:
    replay = played()
    assert replay.row("wide").roles == ("generalist", "best single")
    assert replay.row("sums").roles == ("cheapest",)
    assert replay.best_single == "wide"
    # The generalist is the best, so that calls to the cheapest are the weak ones.
    assert replay.weak == "sums"
    assert played(generalist="verse").weak == "verse"


def test_curves_by_hand() -> None:
    family = Family("mine", "weight", ("0", "1"), np.array([[1, 1, 0, 0], [1, 1, 1, 0]]))
    zero, mine = played(family).curves
    assert (zero.name, zero.hull) == ("zero router", ((1, 0.5), (4, 0.75)))
    assert zero.aiq == pytest.approx(3 * 0.625 / 4)
    assert np.array(mine.hull) == pytest.approx(np.array([[1.75, 0.75], [2.5, 1]]))
    assert mine.aiq == pytest.approx((0.75 * 0.875 + 1.5) / 4)
    # The best single expert's 0.75 costs 4 alone and 1.75 here.
    assert mine.saved_at_equal_quality == pytest.approx(1 - 1.75 / 4)
    # Strong calls: a quarter recovers all of the gap from 0.5 to 0.75, half of them twice as much.
    assert mine.cpt50 == pytest.approx(0.125)
    assert mine.apgr == pytest.approx(0.25 * 0.5 + 0.25 * 1.5 + 0.5 * 1.5)


def test_chosen_expert_without_a_score_is_counted_as_missing() -> None:
    scores = SCORES.copy()
    scores[0, 1] = NAN
    table = Recorded.of(EXPERTS, scores, COST)
    contender = Contender.of("mine", table, np.array([1, 1, 0, 0]))
    assert contender.missing == 0.25
    assert contender.mean_quality == 1
    row = compare(table, [Family.single("mine", np.array([1, 1, 0, 0]))], Terms("wide", draws=20)).row("mine")
    assert (row.missing, row.quality) == (0.25, 1)
    assert row.difference == pytest.approx((1 + 0 + 0) / 3)


def test_choices_that_were_never_scored_leave_figures_unknown() -> None:
    scores = SCORES.copy()
    scores[:3, 2] = NAN
    table = Recorded.of(EXPERTS, scores, COST)
    row = compare(table, [Family.single("mine", np.array([2, 2, 2, 0]))], Terms("wide", draws=20)).row("mine")
    assert row.missing == 0.75
    assert row.quality == 1
    # An expert scored once is not the best single one by that.
    assert table.best_single() == 0


def test_experts_that_were_never_scored_leave_their_figures_unknown() -> None:
    scores = SCORES.copy()
    scores[:, 0] = NAN
    table = Recorded.of(EXPERTS, scores, COST)
    noisy = Noisy("mine", "its group", np.array([[1, 2]] * 4), np.array([0, 0, 1, 1]))
    replay = compare(table, [Family("f", "w", ("0", "1"), np.array([[0] * 4, [1] * 4]))], Terms("wide", noisy=noisy))
    assert (replay.row("wide").quality, replay.row("wide").interval, replay.row("wide").missing) == (None, None, 1)
    assert replay.best_single == "sums"
    assert (replay.curves[1].apgr, replay.curves[1].cpt50, replay.row("f 1").pgr) == (None, None, None)
    assert replay.break_even is not None
    assert replay.break_even.generalist is None
    json.dumps(replay.as_dict(), allow_nan=False)
    assert replay.text()


def test_without_prices_there_is_no_money_and_calls_still_count() -> None:
    table = Recorded.of(EXPERTS, SCORES, None)
    replay = compare(table, [Family("f", "w", ("0", "1"), np.array([[0] * 4, [1] * 4]))], Terms("wide", draws=20))
    assert {row.cost for row in replay.rows} == {None}
    assert {row.arena_score for row in replay.rows} == {None}
    assert "cheapest" not in {role for row in replay.rows for role in row.roles}
    curve = replay.curves[1]
    assert (curve.aiq, curve.hull) == (None, ())
    assert replay.weak == "verse"
    assert curve.apgr is not None


def test_generalist_that_is_better_than_all_others_leaves_no_gap() -> None:
    table = Recorded.of(("only",), SCORES[:, :1], COST[:, :1])
    replay = compare(
        table, [Family.single("mine", np.zeros(4, dtype=int))], Terms("only", groups=tuple(GROUPS), draws=5)
    )
    row = replay.row("mine")
    assert (row.pgr, row.gap_closed, row.saved) == (None, None, 0)


def test_free_experts_have_no_aiq_and_save_nothing() -> None:
    table = Recorded.of(EXPERTS, SCORES, COST * 0)
    replay = compare(table, [Family("f", "w", ("0", "1"), np.array([[0] * 4, [1] * 4]))], Terms("wide", draws=5))
    assert [curve.aiq for curve in replay.curves] == [None, None]
    assert replay.row("f 0").saved is None


def test_unknown_costs_stay_out_of_means_and_curves() -> None:
    cost = COST.copy()
    cost[:, 2] = NAN
    cost[0, 0] = NAN
    table = Recorded.of(EXPERTS, SCORES, cost)
    replay = compare(table, [Family.single("mine", np.array([2, 2, 0, 0]))], Terms("wide", draws=5))
    assert replay.row("wide").cost == pytest.approx(4)
    assert replay.row("verse").cost is None
    assert replay.row("mine").cost == pytest.approx(4)
    assert np.array(replay.curves[0].hull) == pytest.approx(np.array([[1, 0.5], [4, 0.75]]))


@pytest.mark.parametrize(
    ("scores", "cost"),
    [
        (np.array([[1.1]]), None),
        (np.array([[-0.1]]), None),
        (np.array([[np.inf]]), None),
        (np.array([[NAN]]), None),
        (np.zeros((0, 1)), None),
        (np.zeros(3), None),
        (np.zeros((3, 2)), None),
        (np.zeros((1, 1)), np.array([[-1.0]])),
        (np.zeros((1, 1)), np.array([[np.inf]])),
        (np.zeros((1, 1)), np.zeros((2, 1))),
    ],
)
def test_unsound_outcomes_are_refused(scores: np.ndarray, cost: np.ndarray | None) -> None:
    with pytest.raises(DataError):
        Recorded.of(("one",), scores, cost)


@pytest.mark.parametrize("choices", [[0, 0, 0], [0, 0, 0, 3], [0, 0, 0, -1], [[0, 0, 0, 0]]])
def test_choices_that_do_not_fit_are_refused(choices: list[int]) -> None:
    with pytest.raises(DataError):
        Contender.of("mine", TABLE, np.array(choices))


@pytest.mark.parametrize("changes", [{"generalist": "nobody"}, {"groups": ("a",)}])
def test_comparison_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        played(**changes)


def test_break_even_is_where_noisy_choices_equal_the_baselines() -> None:
    by_domain = np.array([[1, 0]] * 4)
    replay = played(noisy=Noisy("mine", "its group", by_domain, np.array([0, 0, 1, 1]), 0.8))
    found = replay.break_even
    assert found is not None
    # Perfect: 1. Always wrong: 0.25. The generalist, here also the best: 0.75.
    assert np.array([found.generalist, found.best_single]) == pytest.approx(2 / 3)
    assert (found.curve[0], found.curve[-1]) == ((0.0, 0.25), (1.0, 1.0))
    assert (found.domains, found.classifier) == (2, 0.8)


def test_bootstrap_agrees_with_the_standard_error_and_pairs_its_rows() -> None:
    generator = np.random.default_rng(5)
    rows = generator.random((2, 2000))
    means = bootstrap_means(np.vstack((rows, rows[0] - rows[1])), 1000, 7)
    assert means[:, 0].std() == pytest.approx(rows[0].std() / 2000**0.5, rel=0.1)
    assert means[:, 0] - means[:, 1] == pytest.approx(means[:, 2])
    low, high = interval(means)[0]
    assert low < rows[0].mean() < high


def test_bootstrap_leaves_out_what_is_missing_and_repeats_with_its_seed() -> None:
    rows = np.array([[1.0, NAN, 1.0, NAN], [NAN] * 4])
    means = bootstrap_means(rows, 200, 1)
    assert set(means[:, 0][~np.isnan(means[:, 0])]) == {1.0}
    assert np.isnan(interval(means)[1]).all()
    assert np.array_equal(means, bootstrap_means(rows, 200, 1), equal_nan=True)
    assert not np.array_equal(
        bootstrap_means(np.array([[0.0, 1.0, 0.5]]), 50, 1), bootstrap_means(np.array([[0.0, 1.0, 0.5]]), 50, 2)
    )


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    samples = (generator.random((200, 300)) < 0.7).astype(float)
    edges = interval(bootstrap_means(samples, 400, 3))
    covered = ((edges[:, 0] <= 0.7) & (edges[:, 1] >= 0.7)).mean()
    assert 0.88 <= covered <= 0.99


def outcomes_of(seed: int, missing: float = 0.0) -> tuple[Recorded, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    prompts, experts = int(generator.integers(1, 25)), int(generator.integers(1, 5))
    scores = np.round(generator.random((prompts, experts)), 1)
    scores[generator.random(scores.shape) < missing] = NAN
    scores[0] = np.nan_to_num(scores[0])
    names = tuple(f"e{column}" for column in range(experts))
    recorded = Recorded.of(names, scores, np.round(generator.random(scores.shape), 2))
    choices = generator.integers(experts, size=(3, prompts))
    return recorded, choices, [f"g{value}" for value in generator.integers(3, size=prompts)]


@given(st.integers(0, 100_000))
def test_oracles_are_at_least_as_good_as_what_knows_less(seed: int) -> None:
    recorded, choices, groups = outcomes_of(seed)
    everything = prompt_oracle(recorded).mean_quality
    domains = domain_oracle(recorded, groups).mean_quality
    best = always(recorded, recorded.best_single()).mean_quality
    assert everything >= domains - 1e-12 >= best - 2e-12
    assert everything >= max(Contender.of("any", recorded, row).mean_quality for row in choices) - 1e-12
    assert best >= random(recorded).mean_quality - 1e-12
    # Known groups of one prompt each are knowing everything.
    alone = domain_oracle(recorded, [str(row) for row in range(len(recorded))])
    assert alone.mean_quality == pytest.approx(everything)
    assert alone.mean_cost == pytest.approx(prompt_oracle(recorded).mean_cost)


@settings(deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.0, 0.5]))
def test_order_of_prompts_changes_nothing_but_the_draws(seed: int, missing: float) -> None:
    recorded, choices, groups = outcomes_of(seed, missing)
    order = np.random.default_rng(seed).permutation(len(recorded))
    shuffled = Recorded.of(recorded.experts, recorded.scores[order], recorded.cost[order])
    first = compare(
        recorded, [Family("f", "w", ("a", "b", "c"), choices)], Terms("e0", groups=tuple(groups), draws=2)
    ).as_dict()
    second = compare(
        shuffled,
        [Family("f", "w", ("a", "b", "c"), choices[:, order])],
        Terms("e0", groups=tuple(groups[row] for row in order), draws=2),
    ).as_dict()
    for one, other in zip(first["rows"] + first["curves"], second["rows"] + second["curves"], strict=True):
        figures = [name for name in one if name not in ("interval", "difference_interval", "roles", "hull")]
        assert {name: one[name] for name in figures} == approximately({name: other[name] for name in figures})
    assert first["best_single"] == second["best_single"]


def approximately(row: dict[str, object]) -> dict[str, object]:
    """A last digit may be rounded the other way when the sum was taken in another order."""
    return {
        name: pytest.approx(value, abs=2e-4) if isinstance(value, float | dict) else value
        for name, value in row.items()
    }


@settings(deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.0, 0.3, 0.9]))
def test_every_figure_is_json_and_in_range(seed: int, missing: float) -> None:
    recorded, choices, groups = outcomes_of(seed, missing)
    replay = compare(recorded, [Family("f", "w", ("a", "b", "c"), choices)], Terms("e0", groups=tuple(groups), draws=5))
    content = json.loads(json.dumps(replay.as_dict(), allow_nan=False))
    for row in content["rows"]:
        assert row["quality"] is None or 0 <= row["quality"] <= 1
        assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-3)
        assert row["interval"] is None or row["interval"][0] <= row["interval"][1]
    for curve in content["curves"]:
        assert curve["aiq"] is None or 0 <= curve["aiq"] <= 1
    assert replay.text()
    assert replay.markdown()
