"""What every policy promises, and what each one decides; pure values, no gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import policies
from gateway.policies import Policy, balanced, economy, fixed, modem, quality, weighted
from gateway.types import Reason, draw_of
from router import Thresholds
from tests.gateway.routing import CATALOG, routing_of, scores_of

NAMES = tuple(CATALOG.experts)
SURE = scores_of(0.9, 0.05, 0.05)
OPTIONS: dict[str, dict[str, object]] = {
    "fixed": {"expert": "a"},
    "weighted": {"shares": {"a": 1, "b": 2, "generalist": 3}},
}
shares = st.floats(0, 1)
tables = st.fixed_dictionaries({name: shares for name in NAMES})
costs = st.fixed_dictionaries({name: st.floats(0, 10) for name in NAMES})
refusals = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(Reason)), max_size=2)


@st.composite
def measured_routings(draw: Any) -> Any:
    """Inputs with scores, a quality table and prices."""
    return routing_of(
        scores_of(*draw(st.tuples(shares, shares, shares))),
        quality=draw(tables),
        cost={**draw(costs), "generalist": draw(st.floats(0.01, 10))},
        excluded=draw(refusals),
    )


@st.composite
def routings(draw: Any) -> Any:
    """Any input: with and without scores, table and prices, at least one candidate."""
    scores = draw(st.none() | st.tuples(shares, shares, shares).map(lambda p: scores_of(*p)))
    return routing_of(
        scores,
        quality=draw(st.none() | tables) if scores is not None else None,
        cost=draw(st.none() | costs),
        excluded=draw(refusals),
        draw=draw(st.floats(0, 1, exclude_max=True)),
        thresholds=Thresholds(default_confidence=draw(shares), out_of_domain=draw(shares)),
    )


@pytest.mark.parametrize("name", policies.names())
@given(routing=routings())
@pytest.mark.row("F6", "F7")
def test_policy_takes_a_candidate_and_always_the_same(name: str, routing: Any) -> None:
    policy = policies.load(name, OPTIONS.get(name, {}))
    decision = policy.choose(routing)
    assert routing.candidate(decision.expert) is not None
    assert policy.choose(routing) == decision
    assert decision.expert not in decision.fallbacks
    assert len(set(map(id, decision.fallbacks))) == len(decision.fallbacks)
    for candidate in routing.candidates:
        assert policy.utility(routing, candidate) == policy.utility(routing, candidate)
    each = [policy.utility(routing, candidate) for candidate in routing.candidates]
    assert policy.utilities(routing) == pytest.approx(each)


@pytest.mark.parametrize("name", policies.names())
@given(routing=routings())
def test_generalist_is_the_last_fallback_wherever_it_can_take_the_request(name: str, routing: Any) -> None:
    decision = policies.load(name, OPTIONS.get(name, {})).choose(routing)
    able = routing.candidate(CATALOG.generalist) is not None
    if able and decision.expert is not CATALOG.generalist:
        assert decision.fallbacks[-1] is CATALOG.generalist
    assert all(routing.excluded.get(e.name) is not Reason.CAPABILITY for e in decision.fallbacks)


@pytest.mark.parametrize("name", policies.names())
def test_reason_of_an_excluded_wish_is_why_it_is_excluded(name: str) -> None:
    policy = policies.load(name, OPTIONS.get(name, {}))
    routing = routing_of(SURE, excluded={"a": Reason.CONTEXT_LENGTH})
    decision = policy.choose(routing)
    assert decision.expert.name != "a"
    if name != "weighted":
        assert (decision.expert.name, decision.reason) == ("generalist", Reason.CONTEXT_LENGTH)


@given(routing=measured_routings(), low=st.floats(0, 5), more=st.floats(0, 5))
def test_balanced_more_cost_weight_never_costs_more(routing: Any, low: float, more: float) -> None:
    def cost_at(weight: float) -> float:
        policy = balanced.Policy(cost_weight=weight, abstain="never")
        return float(routing.candidate(policy.choose(routing).expert).cost)

    assert cost_at(low + more) <= cost_at(low) * (1 + 1e-9) + 1e-12


@given(routing=measured_routings(), floor=st.floats(0, 2))
def test_economy_takes_nobody_below_the_floor_while_somebody_is_above(routing: Any, floor: float) -> None:
    decision = economy.Policy(quality_floor=floor, abstain="never").choose(routing)
    good = [c for c in routing.candidates if c.quality >= floor * routing.reference.quality]
    chosen = routing.candidate(decision.expert)
    assert (decision.reason is Reason.QUALITY_FLOOR) == bool(good)
    if good:
        assert chosen in good
        # Quality breaks ties only: it weighs a millionth of the generalist's cost.
        cheapest, unit = min(c.cost for c in good), routing.reference.cost
        assert chosen.cost - cheapest <= 2e-6 * (1 + cheapest / unit) ** 2 * unit + 1e-9
    else:
        assert chosen.quality == max(c.quality for c in routing.candidates)


QUALITY = {"generalist": 0.70, "a": 0.80, "b": 0.69}
COST = {"generalist": 1.0, "a": 1.2, "b": 0.2}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (quality.Policy(), ("a", Reason.EXPECTED_QUALITY)),
        (balanced.Policy(cost_weight=0), ("a", Reason.EXPECTED_QUALITY)),
        (balanced.Policy(cost_weight=0.05), ("a", Reason.EXPECTED_QUALITY)),
        (balanced.Policy(cost_weight=0.2), ("b", Reason.EXPECTED_QUALITY)),
        (economy.Policy(quality_floor=0.97), ("b", Reason.QUALITY_FLOOR)),
        (economy.Policy(quality_floor=1.0), ("generalist", Reason.QUALITY_FLOOR)),
        (economy.Policy(quality_floor=1.1), ("a", Reason.QUALITY_FLOOR)),
        (economy.Policy(quality_floor=1.2), ("a", Reason.EXPECTED_QUALITY)),
        (modem.Policy(), ("b", Reason.CONFIDENT)),
        (fixed.Policy(), ("generalist", Reason.FIXED)),
        (fixed.Policy(expert="b"), ("b", Reason.FIXED)),
        (weighted.Policy(), ("generalist", Reason.SPLIT)),
    ],
)
def test_policies_weigh_quality_and_cost_in_their_own_way(policy: Any, expected: Any) -> None:
    decision = policy.choose(routing_of(scores_of(0.05, 0.9, 0.05), quality=QUALITY, cost=COST))
    assert (decision.expert.name, decision.reason) == expected
    assert (decision.domain, round(decision.confidence or 0, 2)) == ("coding", 0.9)


@pytest.mark.parametrize(
    ("scores", "abstain", "reason"),
    [
        (scores_of(0.9, 0.05, 0.05, strange=0.95), "strange", Reason.OUT_OF_DOMAIN),
        (scores_of(0.9, 0.05, 0.05, moved=0.95), "strange", Reason.DISAGREEMENT),
        (scores_of(0.9, 0.05, 0.05, moved=0.95), "never", Reason.EXPECTED_QUALITY),
        (scores_of(0.5, 0.3, 0.2), "strange", Reason.EXPECTED_QUALITY),
        (scores_of(0.5, 0.3, 0.2), "unsure", Reason.LOW_CONFIDENCE),
        (scores_of(0.56, 0.4, 0.04), "unsure", Reason.SMALL_MARGIN),
    ],
)
def test_measured_policies_abstain_as_told(scores: Any, abstain: Any, reason: Reason) -> None:
    limits = Thresholds(default_confidence=0.55, margin=0.2, out_of_domain=0.9, disagreement=0.9)
    routing = routing_of(scores, quality=QUALITY, cost=COST, thresholds=limits)
    decision = quality.Policy(abstain=abstain).choose(routing)
    assert decision.reason is reason
    assert decision.expert.name == ("a" if reason is Reason.EXPECTED_QUALITY else "generalist")


def test_without_the_generalist_there_is_nobody_to_abstain_to() -> None:
    routing = routing_of(
        scores_of(0.9, 0.05, 0.05, strange=1.0),
        quality=QUALITY,
        thresholds=Thresholds(out_of_domain=0.9),
        excluded={"generalist": Reason.CAPABILITY},
    )
    decision = quality.Policy().choose(routing)
    assert (decision.expert.name, decision.fallbacks[0].name, len(decision.fallbacks)) == ("a", "b", 1)


@pytest.mark.parametrize("kind", [quality.Policy, balanced.Policy, economy.Policy])
def test_without_a_table_declared_domains_decide(kind: Any) -> None:
    for scores in (SURE, scores_of(0.4, 0.3, 0.3), None):
        routing = routing_of(scores, cost=COST)
        assert kind().choose(routing) == modem.Policy().choose(routing)
        assert kind().utility(routing, routing.candidates[1]) == modem.Policy().utility(routing, routing.candidates[1])


def test_fallbacks_come_by_utility() -> None:
    table = {"generalist": 0.1, "a": 0.9, "b": 0.5}
    decision = quality.Policy().choose(routing_of(SURE, quality=table))
    assert [e.name for e in decision.fallbacks] == ["b", "generalist"]


def test_weighted_splits_by_share_and_moves_only_those_who_must() -> None:
    policy = weighted.Policy(shares={"generalist": 1, "a": 2, "b": 1})
    draws = [step / 1000 for step in range(1000)]
    fell = [policy.choose(routing_of(SURE, draw=draw)).expert.name for draw in draws]
    assert [fell.count(name) for name in NAMES] == [250, 500, 250]
    without = [
        policy.choose(routing_of(SURE, draw=draw, excluded={"a": Reason.UNHEALTHY})).expert.name for draw in draws
    ]
    assert all(now == before for before, now in zip(fell, without, strict=True) if before != "a")
    assert {now for before, now in zip(fell, without, strict=True) if before == "a"} == {"generalist", "b"}


def test_weighted_sticks_to_the_conversation_or_to_the_key() -> None:
    shares = {"generalist": 1, "a": 1}
    by_session, by_key = weighted.Policy(shares=shares), weighted.Policy(shares=shares, sticky="key")

    def fell(policy: Policy, key: str, draw: float) -> str:
        return policy.choose(replace(routing_of(SURE, draw=draw), key=key)).expert.name

    keys, draws = [f"key {number}" for number in range(200)], [step / 20 for step in range(20)]
    assert {fell(by_session, key, 0.1) for key in keys} == {"generalist"}
    assert all(len({fell(by_key, key, draw) for draw in draws}) == 1 for key in keys)
    assert 70 <= [fell(by_key, key, 0.1) for key in keys].count("a") <= 130


@given(st.text())
def test_draw_of_any_name_is_a_share(name: str) -> None:
    assert 0 <= draw_of(name) < 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("balanced", {"cost_weight": -1}),
        ("balanced", {"cost_weigth": 1}),
        ("economy", {"quality_floor": "high"}),
        ("weighted", {"shares": {"a": -1}}),
        ("quality", {"abstain": "sometimes"}),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        policies.load(name, options)
