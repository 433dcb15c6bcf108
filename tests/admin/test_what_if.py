"""Thresholds tried on stored requests: a curve says at every point what a single try says, and so does the API."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.choices import COLUMNS, choices
from gateway.admin.what_if import STEPS, Curve, compare, curve
from gateway.types import Catalog, Endpoint, Expert, Price, Timeouts
from router import Thresholds
from tests.admin.conftest import Admin
from tests.waiting import until

pytestmark = pytest.mark.slow

NOW = Thresholds(confidence={"math": 0.537}, default_confidence=0.55, margin=0.1, out_of_domain=0.9)


def expert(name: str, price: float | None) -> Expert:
    rates = None if price is None else Price(price, price)
    return Expert(name, name, (), (), frozenset({Endpoint.CHAT}), frozenset(), Timeouts(1, 1, 1, 1), rates)


GENERALIST, MATH, CODING, LAW = (
    expert("generalist", 2.0),
    expert("math", 1.0),
    expert("coding", 4.0),
    expert("law", None),
)
CATALOG = Catalog(
    {one.name: one for one in (GENERALIST, MATH, CODING, LAW)},
    GENERALIST,
    {"math": MATH, "coding": CODING, "law": LAW},
    "v",
)


def stored(**changes: Any) -> dict[str, Any]:
    return {
        **{"decided": "generalist", "reason": "low_confidence", "domain": "math", "confidence": 0.5, "margin": 0.3},
        **{"out_of_domain": None, "disagreement": None, "excluded": None, "cost": 4e-6, "cached": 0},
        **{"input_tokens": 1, "output_tokens": 1, "cached_tokens": None, "extra_cost": 0.0},
        **changes,
    }


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in COLUMNS}


def of(rows: list[dict[str, Any]], thresholds: Thresholds = NOW, catalog: Catalog = CATALOG) -> Curve:
    return curve(columns(rows), thresholds, catalog)


def tried(rows: list[dict[str, Any]], thresholds: Thresholds) -> dict[str, Any]:
    return compare(columns(rows), thresholds, CATALOG)


share = st.one_of(st.sampled_from([0.0, 0.5, 0.537, 0.55, 0.7, 1.0]), st.floats(0, 1))
rows = st.fixed_dictionaries(
    {
        "decided": st.sampled_from(["generalist", "math", "coding", "law", "gone", None]),
        "reason": st.sampled_from(
            ["confident", "low_confidence", "small_margin", "out_of_domain", "pinned", "session"]
        ),
        "domain": st.sampled_from(["math", "coding", "law", "history", None]),
        "confidence": st.one_of(st.none(), share),
        "margin": st.one_of(st.none(), share),
        "out_of_domain": st.one_of(st.none(), share),
        "disagreement": st.one_of(st.none(), share),
        "excluded": st.sampled_from([None, "{}", '{"math":"unhealthy"}', '{"generalist":"forbidden"}', "{cut"]),
        "cost": st.one_of(st.none(), st.sampled_from([0.0, 1e-6, 0.25])),
        "cached": st.sampled_from([0, 1]),
        "input_tokens": st.one_of(st.none(), st.integers(0, 10_000)),
        "output_tokens": st.one_of(st.none(), st.integers(0, 10_000)),
        "cached_tokens": st.one_of(st.none(), st.integers(0, 10_000)),
        "extra_cost": st.sampled_from([None, 0.0, 1e-6]),
    }
)


@given(st.lists(rows, max_size=30), st.integers(0, STEPS))
def test_curve_says_at_every_point_what_a_single_try_says(found: list[dict[str, Any]], step: int) -> None:
    threshold = step / STEPS
    whole = of(found)
    one = tried(found, Thresholds({}, threshold, NOW.margin, NOW.out_of_domain, NOW.disagreement))
    experts, cost = whole.at(threshold)
    assert experts == one["after"]["requests"]
    assert cost == pytest.approx(one["after"]["cost"], abs=1e-7)
    assert (whole.before, whole.requests, whole.unpriced) == (
        one["before"]["requests"],
        one["requests"],
        one["unpriced"],
    )
    assert whole.cost_before == pytest.approx(one["before"]["cost"], abs=1e-7)
    total = whole.whole()
    kept = sum(count for name, count in whole.kept.items() if name != "generalist")
    acted = {name: counts[step] for name, counts in total.acted.items()}
    assert kept + sum(acted.values()) == sum(count for name, count in experts.items() if name != "generalist")
    assert total.cost[step] + whole.kept_cost == pytest.approx(cost, abs=1e-7)
    in_effect = tried(found, NOW)
    experts, cost = whole.at()
    assert experts == in_effect["after"]["requests"]
    assert cost == pytest.approx(in_effect["after"]["cost"], abs=1e-7)


@given(st.lists(rows, max_size=30))
def test_higher_threshold_never_gives_a_specialist_more(found: list[dict[str, Any]]) -> None:
    for one in of(found).domains:
        for counts in one.acted.values():
            assert counts == sorted(counts, reverse=True)
            assert len(counts) == STEPS + 1


def test_threshold_of_one_domain_leaves_the_others_as_they_are() -> None:
    found = of([stored(), stored(domain="coding", confidence=0.54), stored(domain="coding")])
    experts, cost = found.at()
    assert experts == {"generalist": 3}
    assert cost == pytest.approx(12e-6)
    experts, cost = found.at({"coding": 0.5})
    assert experts == {"generalist": 1, "coding": 2}
    assert cost == pytest.approx(4e-6 + 2 * 8e-6)
    assert found.at(0.5)[0] == {"math": 1, "coding": 2}
    assert found.at(0.51)[0] == {"generalist": 2, "coding": 1}


def test_threshold_in_effect_counts_exactly_and_not_by_the_hundredth() -> None:
    found = of([stored(confidence=0.538), stored(confidence=0.536)])
    assert found.at()[0] == {"math": 1, "generalist": 1}
    assert found.at(0.54)[0] == {"generalist": 2}


def test_confident_request_keeps_its_expert_of_then_and_goes_to_the_generalist_above() -> None:
    then = stored(decided="coding", reason="confident", confidence=0.8, cost=8e-6)
    one = choices(columns([then]), NOW, CATALOG)
    assert (one.experts[one.acted[0]], one.acted_cost[0], one.left_cost[0]) == ("coding", 8e-6, pytest.approx(4e-6))
    found = of([then])
    assert found.at(0.8)[0] == {"coding": 1}
    experts, cost = found.at(0.81)
    assert experts == {"generalist": 1}
    assert cost == pytest.approx(4e-6)


def test_expert_that_could_not_take_a_request_then_does_not_get_it_now() -> None:
    assert of([stored(excluded='{"math":"context_length"}')]).at(0.0)[0] == {"generalist": 1}
    alone = stored(decided="math", reason="confident", confidence=0.9, excluded='{"generalist":"forbidden"}')
    assert of([alone]).at(1.0)[0] == {"math": 1}
    assert of([alone]).hanging == 0


def test_other_limits_hold_whatever_the_confidence() -> None:
    strange, close = stored(out_of_domain=0.95), stored(margin=0.05)
    assert of([strange, close]).at(0.0)[0] == {"generalist": 2}
    loose = Thresholds(default_confidence=0.55)
    assert of([strange, close], loose, CATALOG).at(0.0)[0] == {"math": 2}


def test_answer_from_the_cache_costs_nothing_elsewhere_either() -> None:
    found = of([stored(cost=0.0, cached=1)])
    assert (found.unpriced, found.at(0.0)[1], found.at(1.0)[1]) == (0, 0.0, 0.0)


def test_cached_tokens_are_priced_as_such() -> None:
    cheap = Expert(
        "math", "m", (), (), frozenset({Endpoint.CHAT}), frozenset(), Timeouts(1, 1, 1, 1), Price(10.0, 0.0, 1.0)
    )
    catalog = Catalog({"generalist": GENERALIST, "math": cheap}, GENERALIST, {"math": cheap}, "v")
    found = of([stored(input_tokens=100, cached_tokens=90, output_tokens=0)], NOW, catalog)
    assert found.at(0.0)[1] == pytest.approx((10 * 10 + 90) / 1e6)


def test_expert_without_a_price_leaves_the_sums_of_money_at_every_threshold() -> None:
    found = of([stored(domain="law"), stored()])
    assert found.unpriced == 1
    assert [round(found.at(step / 100)[1], 9) for step in (0, 50, 51, 100)] == [2e-6, 2e-6, 4e-6, 4e-6]


def test_nothing_stored_is_a_curve_of_nothing() -> None:
    found = of([])
    assert (found.requests, found.domains, found.at(0.5)) == (0, (), ({}, 0.0))


def test_limits_are_inclusive_on_the_side_that_acts_as_in_the_router() -> None:
    row = stored(confidence=0.6, disagreement=0.2, cost=2e-6, output_tokens=0)
    found = tried([row], Thresholds(default_confidence=0.5))
    assert (found["moved_to_specialist"], found["after"]["cost"]) == (1, 1e-6)
    assert tried([row], Thresholds(default_confidence=0.6))["moved_to_specialist"] == 1
    for kept in (
        Thresholds(default_confidence=0.61),
        Thresholds(default_confidence=0.5, margin=0.31),
        Thresholds(default_confidence=0.5, disagreement=0.1),
    ):
        assert tried([row], kept)["moved_to_specialist"] == 0
    assert tried([{**row, "reason": "pinned"}], Thresholds(default_confidence=0.1))["movable"] == 0
    unpriced = tried([{**row, "cost": None}], Thresholds(default_confidence=0.5))
    assert (unpriced["unpriced"], unpriced["moved_to_specialist"]) == (1, 1)
    assert tried([{**row, "decided": None}], Thresholds())["requests"] == 0


async def test_api_gives_histograms_and_the_curve_of_what_was_stored(admin: Admin) -> None:
    records = admin.gateway.records
    assert records is not None
    for prompt in ("math", "coding", "hello", "math"):
        await admin.town.gateway.chat(prompt)
    await until(lambda: records.state().written == 4)
    found = await admin.json("/reports/confidence")
    scored = {one["domain"]: one for one in found["domains"]}
    assert sum(scored["math"]["confidence"]) == scored["math"]["requests"] >= 2
    assert found["what_if"]["curve"]["requests"] == found["requests"] == found["what_if"]["looked_at"]
    one = await admin.post("/whatif", {"minimum_confidence": 0.99})
    assert sum(one.json()["after"]["requests"].values()) == found["requests"]
    bad: tuple[dict[str, Any], ...] = ({"since_s": 10, "until_s": 5}, {"since_s": -1}, {"until_s": 10**30}, {"x": 1})
    for wrong in bad:
        assert (await admin.get("/reports/confidence", **wrong)).status_code == 400
    early = await admin.json("/reports/confidence", since_s=0, until_s=86_400)
    assert (early["requests"], early["domains"], early["what_if"]["looked_at"]) == (0, [], 0)
