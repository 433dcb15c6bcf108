"""What requests cost: arithmetic, and what must hold for all prices and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import Usage
from gateway.costs import BASELINE_ASSUMPTIONS, Bill, Unpriced, bill_of, price_version, tokens_cost, usage_cost
from gateway.settings import PriceSettings, Settings


@dataclass(frozen=True)
class Prices:
    input: float
    output: float
    cached_input: float | None = None


CHEAP, DEAR = Prices(0.1, 0.4), Prices(1.0, 2.0, 0.25)
MILLION = 1_000_000

prices = st.floats(0, 1_000, allow_nan=False)
counts = st.integers(0, 2_000_000)
rates = st.builds(Prices, prices, prices, st.none() | prices)
usages = st.builds(Usage, counts, counts, st.none() | counts)
anything = st.none() | st.integers(-(2**70), 2**70)


def test_cost_is_tokens_at_their_own_prices() -> None:
    assert usage_cost(DEAR, Usage(MILLION, MILLION)) == 3.0
    assert usage_cost(DEAR, Usage(MILLION, 0, MILLION)) == 0.25
    assert usage_cost(DEAR, Usage(1_000, 100, 400)) == pytest.approx((600 * 1.0 + 400 * 0.25 + 100 * 2.0) / 1e6)


def test_cached_tokens_cost_the_full_price_without_a_price_of_their_own() -> None:
    assert usage_cost(CHEAP, Usage(1_000, 10, 900)) == usage_cost(CHEAP, Usage(1_000, 10))


def test_settings_are_rates() -> None:
    read = PriceSettings(input=1, output=2, cached_input=0.5)
    assert usage_cost(read, Usage(MILLION, 0, MILLION)) == 0.5


@pytest.mark.parametrize(
    ("price", "usage", "why"),
    [
        (DEAR, Usage(), Unpriced.NO_USAGE),
        (DEAR, Usage(None, 5), Unpriced.NO_USAGE),
        (None, Usage(), Unpriced.NO_USAGE),
        (None, Usage(5, 5), Unpriced.NO_PRICE),
    ],
)
def test_unknown_cost_says_why(price: Prices | None, usage: Usage, why: Unpriced) -> None:
    assert usage_cost(price, usage) is why


def test_embeddings_have_no_completion_and_a_cost() -> None:
    assert usage_cost(DEAR, Usage(MILLION, None)) == 1.0


def test_no_tokens_cost_nothing_even_without_a_price() -> None:
    assert usage_cost(None, Usage(0, 0)) == 0.0


@given(rates, anything, anything, anything)
def test_whatever_a_server_reports_the_cost_is_a_finite_amount(
    price: Prices, given_in: int | None, out: int | None, cached: int | None
) -> None:
    cost = usage_cost(price, Usage(given_in, out, cached))
    assert (cost is Unpriced.NO_USAGE) == (given_in is None)
    assert isinstance(cost, Unpriced) or (math.isfinite(cost) and cost >= 0)


@given(rates, usages, usages)
def test_costs_add_up(price: Prices, one: Usage, other: Usage) -> None:
    def cost(*of: Usage) -> float:
        # More cached than prompt is a server's mistake, and is cut for each request by itself.
        cached = sum(min(u.cached_tokens or 0, u.input_tokens or 0) for u in of)
        return tokens_cost(price, sum(u.input_tokens or 0 for u in of), sum(u.output_tokens or 0 for u in of), cached)

    assert cost(one, other) == pytest.approx(cost(one) + cost(other), rel=1e-12, abs=1e-12)


@given(rates, usages, counts)
def test_more_tokens_never_cost_less(price: Prices, usage: Usage, more: int) -> None:
    longer = Usage(usage.input_tokens, (usage.output_tokens or 0) + more, usage.cached_tokens)
    cost, other = usage_cost(price, usage), usage_cost(price, longer)
    assert isinstance(cost, float)
    assert isinstance(other, float)
    assert other >= cost


@given(rates, usages)
def test_cached_tokens_are_dearer_only_where_their_price_says_so(price: Prices, usage: Usage) -> None:
    cached, plain = usage_cost(price, usage), usage_cost(price, Usage(usage.input_tokens, usage.output_tokens))
    assert isinstance(cached, float)
    assert isinstance(plain, float)
    if price.cached_input is None or price.cached_input <= price.input:
        assert cached <= plain + 1e-9
    else:
        assert cached >= plain - 1e-9


def test_saving_is_what_the_generalist_would_have_cost_less_the_cost() -> None:
    bill = bill_of(Usage(MILLION, MILLION), CHEAP, DEAR)
    assert (bill.cost, bill.baseline, bill.saving, bill.unpriced) == (0.5, 3.0, 2.5, None)


def test_dearer_expert_has_a_negative_saving() -> None:
    assert bill_of(Usage(MILLION, MILLION), DEAR, CHEAP).saving == -2.5


def test_generalist_itself_saves_nothing() -> None:
    assert bill_of(Usage(123, 45, 100), DEAR, DEAR).saving == 0.0


def test_what_a_strategy_spent_besides_lowers_the_saving() -> None:
    bill = bill_of(Usage(MILLION, MILLION), CHEAP, DEAR, extra_cost=4.0)
    assert (bill.cost, bill.baseline, bill.saving) == (4.5, 3.0, -1.5)


def test_strategy_with_an_unpriced_expert_has_a_least_cost_and_no_saving() -> None:
    bill = bill_of(Usage(MILLION, 0), CHEAP, DEAR, extra_cost=1.0, extra_known=False)
    assert (bill.cost, bill.saving, bill.unpriced) == (1.1, None, Unpriced.EXTRA)


def test_broken_answer_of_a_strategy_still_costs_what_is_known() -> None:
    assert bill_of(Usage(), CHEAP, DEAR, extra_cost=1.0) == Bill(1.0, None, Unpriced.NO_USAGE)


def test_nobody_answered() -> None:
    assert bill_of(Usage(), None, DEAR, answered=False) == Bill(None, None, Unpriced.NO_ANSWER)


def test_nothing_to_compare_with_leaves_the_saving_open() -> None:
    bill = bill_of(Usage(MILLION, 0), CHEAP, None)
    assert (bill.cost, bill.baseline, bill.saving, bill.unpriced) == (0.1, None, None, None)


def test_answer_from_the_cache_costs_nothing_and_saves_all() -> None:
    bill = bill_of(Usage(MILLION, MILLION), CHEAP, DEAR, from_cache=True)
    assert (bill.cost, bill.baseline, bill.saving) == (0.0, 3.0, 3.0)


def test_answer_from_the_cache_costs_nothing_where_its_tokens_or_price_are_not_known() -> None:
    assert bill_of(Usage(), None, None, from_cache=True) == Bill(0.0)


@given(st.none() | rates, st.none() | rates, usages, st.floats(0, 1_000), st.booleans(), st.booleans())
def test_bill_is_never_negative_and_says_why_it_is_open(
    price: Prices | None, reference: Prices | None, usage: Usage, extra: float, known: bool, cached: bool
) -> None:
    bill = bill_of(usage, price, reference, extra_cost=extra, extra_known=known, from_cache=cached)
    assert bill.cost is not None or bill.unpriced is not None
    assert bill.cost is None or bill.cost >= 0
    assert bill.baseline is None or bill.baseline >= 0
    assert bill.baseline is None or bill.unpriced is None
    if bill.saving is not None:
        assert bill.baseline is not None
        assert bill.cost is not None
        assert bill.saving == pytest.approx(bill.baseline - bill.cost, abs=1e-9)


def test_price_version_tells_prices_apart_and_not_their_order() -> None:
    version = price_version("USD", {"a": CHEAP, "b": DEAR, "c": None})
    assert version == price_version("USD", {"c": None, "b": DEAR, "a": CHEAP})
    assert len(version) == 12
    others = [
        price_version("EUR", {"a": CHEAP, "b": DEAR, "c": None}),
        price_version("USD", {"a": DEAR, "b": CHEAP, "c": None}),
        price_version("USD", {"a": CHEAP, "b": DEAR, "c": CHEAP}),
        price_version("USD", {"a": CHEAP, "b": Prices(1.0, 2.0), "c": None}),
        price_version("USD", {"a": CHEAP, "b": DEAR}),
    ]
    assert len({version, *others}) == 6


def test_price_version_does_not_hang_on_how_a_number_is_written() -> None:
    assert price_version("USD", {"a": Prices(1, 2)}) == price_version("USD", {"a": Prices(1.0, 2.0, 1.0)})


@pytest.mark.parametrize("fields", [{"cached_input": -0.1}, {"cached_input": float("nan")}, {"cached": 1}])
def test_settings_refuse_a_wrong_cached_price(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cached"):
        PriceSettings(input=1, output=1, **fields)


@pytest.mark.parametrize("version", ["", "two words", "x" * 65])
def test_settings_refuse_a_wrong_price_version(version: str) -> None:
    generalist = {"model": "m", "upstreams": ["http://m"]}
    assert Settings.model_validate({"generalist": generalist, "price_version": "2026-11"}).price_version == "2026-11"
    with pytest.raises(ValueError, match="price_version"):
        Settings.model_validate({"generalist": generalist, "price_version": version})


def test_assumptions_are_said() -> None:
    assert any("same prompt, completion and cached tokens" in line for line in BASELINE_ASSUMPTIONS)
