"""Replays on outcomes made by hand: real policies, real quality tables, a scorer that counts words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.policies import UnknownPolicy, load
from gateway.replay.deciding import expected_costs
from gateway.replay.experts import read_prices
from gateway.replay.halves import splits
from gateway.replay.prompts import RememberingScorer, read_prompts
from gateway.replay.run import Plan, replay
from gateway.replay.sweeps import asked as asked_for
from gateway.replay.sweeps import every, single, sweep, usual
from gateway.settings import Settings
from router import DataError, OutcomeTable, QualityError, Replay, ScoreBatch, fit_quality
from tests.router.keyword_scorer import KeywordScorer

NAN = float("nan")
EXPERTS = ("wide", "sums", "counsel")
CHANCES = {"math": (0.5, 0.98, 0.1), "law": (0.5, 0.1, 0.98), "general": (0.8, 0.2, 0.2)}
TEXTS = {"math": "the integral of number {}", "law": "the tenant of house {}", "general": "hello to person {}"}
PRICES = {"wide": (1.0, 1.0), "sums": (0.25, 0.25), "counsel": (0.5, 0.5)}
QUALITY = single("quality")


def outcomes_of(seed: int = 0, each: int = 200) -> OutcomeTable:
    """Three kinds of prompts, for two of which there is a cheap specialist; costs are not recorded."""
    generator = np.random.default_rng(seed)
    prompts = [(kind, TEXTS[kind].format(number)) for number in range(each) for kind in TEXTS]
    scores = np.array([generator.random(3) < CHANCES[kind] for kind, _ in prompts], dtype=float)
    groups = tuple(kind for kind, _ in prompts)
    return OutcomeTable(tuple(text for _, text in prompts), (None,) * len(prompts), groups, EXPERTS, scores)


def played(outcomes: OutcomeTable, *sweeps: object, **changes: object) -> Replay:
    plan = Plan(sweeps=sweeps or (QUALITY,), generalist="wide", draws=50)  # type: ignore[arg-type]
    return replay(outcomes, KeywordScorer(), replace(plan, **changes))  # type: ignore[arg-type]


def test_policy_with_a_fitted_table_sends_each_kind_to_its_specialist() -> None:
    replay = played(outcomes_of(), QUALITY)
    row = replay.row("quality")
    assert row.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert row.quality == replay.row("domain oracle").quality
    assert (replay.generalist, replay.best_single, row.gap_closed) == ("wide", "wide", 1)
    assert row.difference_interval is not None
    assert row.difference_interval[0] > 0.1


def test_break_even_is_worked_out_with_the_groups_as_truth() -> None:
    found = played(outcomes_of(), QUALITY).break_even
    assert found is not None
    assert (found.policy, found.classifier, found.domains) == ("quality", 1, 5)
    assert found.best_single is not None
    assert 0 < found.best_single < 0.6
    assert found.curve[-1][1] == pytest.approx(played(outcomes_of(), QUALITY).row("quality").quality)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_what_a_prompt_got_never_changes_what_is_decided_for_it(seed: int) -> None:
    """The choices of a half depend on the other half alone, so its own outcomes may be anything."""
    outcomes = outcomes_of(seed, each=15)
    half = splits(outcomes.prompts, 0.5, 7)[0].replayed
    changed = outcomes.scores.copy()
    changed[half] = np.random.default_rng(seed + 1).random((len(half), 3))
    plan = Plan(sweeps=(sweep("balanced"),), generalist="wide", draws=1, split=0.4999, prices=PRICES)
    alone = splits(outcomes.prompts, 0.4999, 7)[0].replayed
    assert np.array_equal(alone, half)
    first = replay(outcomes, KeywordScorer(), plan)
    second = replay(replace(outcomes, scores=changed), KeywordScorer(), plan)
    assert [row.shares for row in first.rows if row.family] == [row.shares for row in second.rows if row.family]


def test_halves_swap_roles_so_that_every_prompt_is_replayed() -> None:
    outcomes = outcomes_of(each=20)
    assert played(outcomes).prompts == 60
    assert played(outcomes, split=0.75).prompts == 15
    first, second = splits(outcomes.prompts, 0.5, 7)
    assert np.array_equal(first.fitted, second.replayed)
    assert sorted([*first.fitted, *first.replayed]) == list(range(60))


@given(st.lists(st.sampled_from(["a", "b", "c", "d", ""]), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_split_keeps_equal_prompts_together_and_both_parts_filled(prompts: list[str], share: float) -> None:
    if len(set(prompts)) < 2 and "" not in prompts:
        with pytest.raises(DataError):
            splits(prompts, share, 1)
        return
    for part in splits(prompts, share, 1):
        fitted, replayed = ({prompts[row] for row in rows} - {""} for rows in (part.fitted, part.replayed))
        assert not fitted & replayed
        assert len(part.fitted) > 0
        assert len(part.replayed) > 0
        assert len(part.fitted) + len(part.replayed) == len(prompts)


def test_seed_repeats_a_replay_and_another_seed_splits_otherwise() -> None:
    outcomes = outcomes_of(each=10)
    first = played(outcomes, sweep("balanced"), prices=PRICES, seed=3).as_dict()
    assert first == played(outcomes, sweep("balanced"), prices=PRICES, seed=3).as_dict()
    assert first["rows"] != played(outcomes, sweep("balanced"), prices=PRICES, seed=4).as_dict()["rows"]


def test_prices_are_multiplied_with_lengths_and_weigh_in_the_decision() -> None:
    replay = played(outcomes_of(), sweep("balanced"), prices=PRICES)
    # 300 tokens are assumed; a prompt has about six.
    assert replay.row("wide").cost == pytest.approx(0.306, abs=0.003)
    assert replay.row("sums").cost == pytest.approx(replay.row("wide").cost / 4)  # type: ignore[operator]
    costs = [row.cost for row in replay.rows if row.family]
    assert costs == sorted(costs, reverse=True)  # type: ignore[type-var]
    assert replay.row("balanced 2").shares[1] == 1
    curve = replay.curves[1]
    assert curve.aiq is not None
    assert replay.curves[0].aiq is not None
    assert curve.aiq > replay.curves[0].aiq
    assert curve.saved_at_equal_quality is not None
    assert curve.saved_at_equal_quality > 0.4
    assert any("300 tokens" in note for note in replay.notes)


def test_recorded_costs_are_judged_as_they_are_and_expected_as_on_the_other_half() -> None:
    outcomes = outcomes_of()
    generator = np.random.default_rng(1)
    cost = generator.exponential(1, outcomes.scores.shape) * np.array([0.004, 0.001, 0.002])
    replay = played(replace(outcomes, cost=cost), sweep("balanced"))
    for column, name in enumerate(EXPERTS):
        assert replay.row(name).cost == pytest.approx(cost[:, column].mean() * 1000)
    # Decisions cannot follow the cost of single requests, which is pure noise here.
    row = replay.row("balanced 0.2")
    assert row.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=0.02)


def test_given_prices_replace_recorded_costs() -> None:
    outcomes = replace(outcomes_of(each=10), cost=np.full((30, 3), 7.0))
    assert played(outcomes).row("sums").cost == 7000
    assert played(outcomes, prices=PRICES).row("sums").cost == pytest.approx(0.0765, abs=0.001)


def test_without_costs_and_prices_only_quality_is_told() -> None:
    replay = played(outcomes_of(each=20), sweep("balanced"), sweep("economy"))
    assert not replay.priced
    assert [row.name for row in replay.rows if row.family] == ["balanced", "economy"]
    assert any("nothing is said of money" in note for note in replay.notes)
    assert "cost" not in replay.text().split("\n\n")[3]


def test_all_policies_are_replayed_without_a_configuration() -> None:
    replay = played(outcomes_of(), *every(), prices=PRICES)
    families = {row.family for row in replay.rows if row.family}
    assert families == {"balanced", "economy", "modem", "quality"}
    # Nobody declares domains, so that those who win them do.
    assert replay.row("modem").shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_named_generalist_and_the_best_single_expert_as_default() -> None:
    outcomes = outcomes_of(each=20)
    assert played(outcomes, generalist="sums").generalist == "sums"
    found = played(outcomes, generalist=None)
    assert found.generalist == found.best_single
    assert any("No generalist was named" in note for note in found.notes)
    assert not any("hindsight" in note for note in found.notes)
    with pytest.raises(DataError, match="no expert 'nobody'"):
        played(outcomes, generalist="nobody")


def test_generalist_is_chosen_on_the_fitted_part_only() -> None:
    outcomes = outcomes_of(each=20)
    (part,) = splits(outcomes.prompts, 0.3, 7)
    scores = np.full(outcomes.scores.shape, 0.5)
    scores[part.fitted, EXPERTS.index("sums")] = 0.6
    scores[part.replayed, EXPERTS.index("counsel")] = 1.0
    found = played(replace(outcomes, scores=scores), generalist=None, split=0.3)
    assert (found.generalist, found.best_single) == ("sums", "counsel")
    assert any(note.startswith("No generalist was named: sums") for note in found.notes)


def test_generalist_that_the_halves_do_not_agree_on_is_said_to_be_known_in_hindsight() -> None:
    outcomes = outcomes_of(each=20)
    first, second = splits(outcomes.prompts, 0.5, 7)
    scores = np.full(outcomes.scores.shape, 0.5)
    scores[first.fitted, EXPERTS.index("sums")] = 0.6
    scores[second.fitted, EXPERTS.index("counsel")] = 1.0
    found = played(replace(outcomes, scores=scores), generalist=None)
    assert found.generalist == "counsel"
    assert any("hindsight" in note for note in found.notes)


def test_generalist_with_a_given_table_is_said_to_be_known_in_hindsight(tmp_path: Path) -> None:
    outcomes, path = outcomes_of(each=20), tmp_path / "quality.csv"
    fit_quality(outcomes, scorer=KeywordScorer(), generalist="wide").save(path)
    found = played(outcomes, generalist=None, quality_table=path)
    assert any("hindsight" in note for note in found.notes)


CONFIGURED: dict[str, dict[str, object]] = {
    "economy": {"quality_floor": 0.93, "abstain": "never"},
    "balanced": {"abstain": "never"},
}


def test_configured_options_are_honoured_and_the_given_ones_win() -> None:
    alone, varied = asked_for("economy", {}, CONFIGURED)
    assert alone.points[0][1] == load("economy", {"quality_floor": 0.93, "abstain": "never"})
    assert varied.parameter == "quality_floor"
    assert {"abstain='never'" in repr(policy) for _, policy in varied.points} == {True}
    (given,) = asked_for("economy", {"quality_floor": 0.8}, CONFIGURED)
    assert given.points == (("", load("economy", {"quality_floor": 0.8, "abstain": "never"})),)
    assert asked_for("quality", {}, CONFIGURED) == (single("quality"),)


def test_configured_options_are_honoured_for_every_policy_and_by_default() -> None:
    assert set(asked_for("economy", {}, CONFIGURED)) <= set(every(CONFIGURED))
    assert {sweep.policy for sweep in every(CONFIGURED)} == {"balanced", "economy", "modem", "quality"}
    first, second = usual("economy", CONFIGURED)
    assert first == asked_for("economy", {}, CONFIGURED)[0]
    assert len(second.points) > 1
    assert {"abstain='never'" in repr(policy) for _, policy in second.points} == {True}
    assert usual(None) == (sweep("balanced"),)


def test_policy_that_names_an_unknown_expert_is_an_error() -> None:
    with pytest.raises(DataError, match="policy fixed: no expert 'generalist'"):
        played(outcomes_of(each=5), single("fixed"))


def test_expert_without_a_price_is_an_error() -> None:
    with pytest.raises(DataError, match="no price of: counsel"):
        played(outcomes_of(each=5), prices={"wide": (1, 1), "sums": (1, 1)})


def test_scores_that_are_missing_are_counted() -> None:
    outcomes = outcomes_of()
    scores = outcomes.scores.copy()
    law = np.array([group == "law" for group in outcomes.groups])
    scores[np.flatnonzero(law)[::4], 2] = NAN
    row = played(replace(outcomes, scores=scores), single("fixed", {"expert": "counsel"})).row("fixed")
    assert row.missing == pytest.approx(1 / 12)
    assert row.quality == pytest.approx(float(np.nanmean(scores[:, 2])))


def test_rows_of_domains_without_prompts_are_decided_by_their_domain() -> None:
    outcomes = outcomes_of()
    bare = replace(outcomes, prompts=("",) * len(outcomes), domains=outcomes.groups, groups=("",) * len(outcomes))
    replay = played(bare)
    assert replay.row("quality").shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert replay.labels == "given domain"
    assert replay.break_even is not None
    assert replay.break_even.classifier == 1


def test_given_domains_that_the_classifier_does_not_have_are_groups() -> None:
    outcomes = outcomes_of()
    named = replace(outcomes, domains=tuple(f"my {group}" for group in outcomes.groups))
    replay = played(named)
    assert replay.row("quality").gap_closed == 1
    assert any("my general, my law, my math" in note for note in replay.notes)


def test_outcomes_that_say_nothing_of_groups_have_no_domain_oracle() -> None:
    outcomes = replace(outcomes_of(each=20), groups=("",) * 60)
    replay = played(outcomes)
    assert (replay.labels, replay.row("quality").gap_closed) == ("", None)
    assert replay.break_even is not None
    assert replay.break_even.classifier is None
    with pytest.raises(KeyError):
        replay.row("domain oracle")


def test_one_prompt_cannot_be_split() -> None:
    with pytest.raises(DataError, match="fewer than two"):
        played(outcomes_of(each=20).rows([0, 0]))


def test_given_quality_table_decides_for_all_prompts(tmp_path: Path) -> None:
    outcomes = outcomes_of()
    path = tmp_path / "q.csv"
    fit_quality(outcomes, scorer=KeywordScorer(), generalist="wide").save(path)
    replay = played(outcomes, quality_table=path)
    assert replay.prompts == len(outcomes)
    assert replay.row("quality").shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert any("table was given" in note for note in replay.notes)
    with pytest.raises(QualityError):
        played(outcomes, quality_table=tmp_path / "none.csv")
    more = replace(outcomes, experts=("wide", "sums", "poet"))
    with pytest.raises(DataError, match="nothing of: poet"):
        played(more, quality_table=path)


def configuration(**sections: object) -> Settings:
    def expert(model: str, price: float, *domains: str) -> dict[str, object]:
        host = f"http://{model.split('/')[-1]}:8000"
        return {"model": model, "upstreams": [host], "domains": domains, "price": {"input": price, "output": price}}

    generalist = {name: value for name, value in expert("lab/wide", 1.0).items() if name != "domains"}
    experts = {"solver": expert("sums", 0.25, "math"), "lawyer": expert("counsel", 0.5, "law")}
    return Settings.model_validate({"generalist": generalist, "experts": experts, **sections})


def test_configured_experts_are_found_by_their_models_and_priced() -> None:
    outcomes = replace(outcomes_of(), experts=("lab/wide", "sums", "counsel"))
    found = played(outcomes, single("modem"), QUALITY, settings=configuration(), generalist=None)
    assert found.experts == ("generalist", "solver", "lawyer")
    assert found.generalist == "generalist"
    assert found.row("modem").shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert found.row("solver").cost == pytest.approx(found.row("generalist").cost / 4)  # type: ignore[operator]


def test_prices_may_name_configured_experts_by_their_models() -> None:
    outcomes = replace(outcomes_of(each=20), experts=("lab/wide", "sums", "counsel"))
    prices = {"lab/wide": (2.0, 2.0), "solver": (1.0, 1.0), "counsel": (0.5, 0.5)}
    found = played(outcomes, settings=configuration(), generalist=None, prices=prices)
    assert found.row("generalist").cost == pytest.approx(2 * found.row("solver").cost)  # type: ignore[operator]


def test_configured_thresholds_hold() -> None:
    outcomes = replace(outcomes_of(each=20), experts=("lab/wide", "sums", "counsel"))
    settings = configuration(router={"minimum_confidence": 0.9})
    found = played(outcomes, single("modem"), settings=settings, generalist=None)
    assert found.row("modem").shares == (1, 0, 0)


def test_experts_on_one_side_only_are_told_and_never_chosen() -> None:
    outcomes = replace(outcomes_of(), experts=("lab/wide", "sums", "stranger"))
    found = played(outcomes, single("modem"), QUALITY, settings=configuration(), generalist=None)
    assert found.experts == ("generalist", "solver")
    assert {"Not configured and left out: stranger."} <= set(found.notes)
    assert any(note.endswith("never chosen: lawyer.") for note in found.notes)
    assert found.row("modem").shares == pytest.approx((2 / 3, 1 / 3))


def test_outcomes_without_the_configured_generalist_are_refused() -> None:
    with pytest.raises(DataError, match="nothing of the generalist"):
        played(outcomes_of(each=5), settings=configuration(), generalist=None)


def test_expected_costs_are_shrunk_means_by_domain() -> None:
    cost = np.array([[2.0, NAN], [4.0, NAN], [6.0, NAN]])
    found = expected_costs(cost, [0, 0, 2], 2)
    assert found[:, 0] == pytest.approx([(6 + 20 * 4) / 22, 4, 4])
    assert np.isnan(found[:, 1]).all()


def test_remembering_scorer_scores_each_text_once_and_answers_alike() -> None:
    class Counting(KeywordScorer):
        def score(self, texts: object) -> ScoreBatch:
            asked.extend(texts)  # type: ignore[arg-type]
            return super().score(texts)  # type: ignore[arg-type]

    asked: list[str] = []
    scorer = RememberingScorer(Counting())
    texts = ["an integral", "a strange tenant", "an integral", ""]
    first, second = scorer.score(texts), KeywordScorer().score(texts)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert np.array_equal(first.out_of_domain, second.out_of_domain)
    assert (first.tiers, first.embeddings) == (second.tiers, None)
    scorer.score(texts)
    assert asked == ["an integral", "a strange tenant", ""]


def test_prompts_without_text_and_known_domain_have_no_scores() -> None:
    outcomes = OutcomeTable(("", "an integral"), ("astrology", None), ("", ""), ("a",), np.ones((2, 1)))
    prompts = read_prompts(outcomes, KeywordScorer(), lambda line: None)
    assert prompts.scores[0] is None
    assert prompts.top() == [5, 4]


def test_sweeps_vary_what_is_not_set() -> None:
    assert len(sweep("balanced").points) > 8
    assert sweep("balanced", {"cost_weight": 0.2}).parameter == ""
    assert sweep("balanced", {"abstain": "never"}).parameter == "cost_weight"
    assert sweep("quality").first == "quality"
    assert sweep("balanced").first == "balanced 0"
    assert {each.policy for each in every()} == {"balanced", "economy", "modem", "quality"}
    with pytest.raises(UnknownPolicy):
        sweep("best")
    with pytest.raises(ValidationError):
        sweep("balanced", {"weight": 1})


def test_prices_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("\ufeffexpert,input,output,note\nwide,1,2,x\n sums ,0,0.5,\n", encoding="utf-8")
    assert read_prices(path) == {"wide": (1.0, 2.0), "sums": (0.0, 0.5)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"expert,input\nwide,1\n",
        b"expert,input,output\nwide,1\n",
        b"expert,input,output\nwide,1,free\n",
        b"expert,input,output\nwide,1,-2\n",
        b"expert,input,output\nwide,nan,2\n",
        b"expert,input,output\nwide,1,inf\n",
        b"expert,input,output\n,1,2\n",
        b"expert,input,output\nwide,1,2\nwide,1,2\n",
        b"expert,input,output\nwide,1,\xff\n",
        b'expert,input,output\n"wide,1,2\n',
    ],
)
def test_prices_that_are_wrong_are_refused_with_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"prices\.csv"):
        read_prices(path)
    with pytest.raises(DataError, match="none"):
        read_prices(tmp_path / "none.csv")
