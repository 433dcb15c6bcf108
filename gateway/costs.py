"""What an answer cost, and what the generalist would have cost for it. Pure arithmetic; looks no price up.

Money is float64, not Decimal: a price times a count of tokens is exact to 15 digits, both databases and all sums of
records are float64 anyway, and nobody is invoiced from here. Amounts are rounded to 12 decimals, a millionth of the
price of one token at 1 per million, so that what is equal is shown equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from gateway.answers import Usage

PER_TOKENS = 1_000_000
DIGITS = 12
# Far beyond anything real: what a broken server reports must not become infinite money.
MAXIMUM_TOKENS = 2**40

BASELINE_ASSUMPTIONS = (
    "The baseline is one plain call of the generalist, at its prices of the same moment.",
    "It would have had the same prompt, completion and cached tokens as the answer; in truth it may answer longer or "
    "shorter, its tokenizer may count otherwise, and an expert's own instructions would not have been in its prompt.",
    "What a strategy spent besides the answer is part of the cost and not of the baseline.",
    "An answer from the cache costs nothing; its baseline is that of the tokens it had when it was made.",
    "There is no baseline for requests that name an expert, for endpoints the generalist does not serve, and where the "
    "cost or the generalist's price is not known.",
)
"""What `baseline_cost` and `saving` take for granted, for whoever shows them."""


class Rates(Protocol):
    """Prices per million tokens; `settings.PriceSettings` and `types.Price` are such."""

    @property
    def input(self) -> float:
        """Of prompt tokens."""
        ...

    @property
    def output(self) -> float:
        """Of completion tokens."""
        ...

    @property
    def cached_input(self) -> float | None:
        """Of prompt tokens that the server had cached; None: as `input`."""
        ...


class Unpriced(StrEnum):
    """Why a cost is not known."""

    NO_ANSWER = "no_answer"
    """No expert answered."""
    NO_USAGE = "no_usage"
    """The answer does not say its tokens: an error, or a stream that broke or was left before its end."""
    NO_PRICE = "no_price"
    """The expert has no price."""
    EXTRA = "extra"
    """A strategy also asked an expert that has no price: `cost` is what is known of it."""


class Bill(NamedTuple):
    """What one request cost.

    Attributes:
        cost: money; with `unpriced` what is known of it, None when that is nothing.
        baseline: what the generalist would have cost; None where the two do not compare.
        unpriced: why the cost is not, or not wholly, known.
    """

    cost: float | None
    baseline: float | None = None
    unpriced: Unpriced | None = None

    @property
    def saving(self) -> float | None:
        """Baseline less cost: negative when the request cost more than the generalist would have."""
        if self.cost is None or self.baseline is None:
            return None
        return round(self.baseline - self.cost, DIGITS)


def tokens_cost(rates: Rates, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> float:
    """Return what tokens cost, not rounded.

    Args:
        rates: prices per million.
        input_tokens: of the prompt, cached ones among them, as vLLM counts; not negative.
        output_tokens: of the answer; not negative.
        cached_tokens: those of the prompt that were cached; more than the prompt has count as all of it.
    """
    cost = input_tokens * rates.input + output_tokens * rates.output
    cached_rate = rates.cached_input
    if cached_rate is not None and cached_tokens > 0:
        cached = min(cached_tokens, input_tokens)
        cost = (input_tokens - cached) * rates.input + cached * cached_rate + output_tokens * rates.output
    return cost / PER_TOKENS


def usage_cost(rates: Rates | None, usage: Usage) -> float | Unpriced:
    """Return what an answer cost by its usage, or why that is not known. No tokens cost nothing, whatever the price."""
    inputs, outputs = usage.input_tokens, usage.output_tokens or 0
    if inputs is None:
        return Unpriced.NO_USAGE
    if not 0 <= inputs <= MAXIMUM_TOKENS or not 0 <= outputs <= MAXIMUM_TOKENS:
        inputs, outputs = _bounded(inputs), _bounded(outputs)
    if not inputs and not outputs:
        return 0.0
    if rates is None:
        return Unpriced.NO_PRICE
    return round(tokens_cost(rates, inputs, outputs, usage.cached_tokens or 0), DIGITS)


def bill_of(
    usage: Usage,
    rates: Rates | None,
    reference: Rates | None,
    *,
    answered: bool = True,
    extra_cost: float = 0.0,
    extra_known: bool = True,
    from_cache: bool = False,
) -> Bill:
    """Return what a request cost and would have cost; `BASELINE_ASSUMPTIONS` says what that takes for granted.

    Args:
        usage: of the answer.
        rates: of the expert that answered; None: it has no price.
        reference: of the generalist; None where there is nothing to compare with.
        answered: whether an expert answered at all.
        extra_cost: what a strategy spent besides the answer.
        extra_known: whether that is all it spent.
        from_cache: the answer was not made for this request.
    """
    spent: float | Unpriced = usage_cost(rates, usage) if answered else Unpriced.NO_ANSWER
    if from_cache and answered:
        spent = 0.0
    if isinstance(spent, Unpriced):
        return Bill(round(extra_cost, DIGITS) if extra_cost else None, None, spent)
    cost = round(spent + extra_cost, DIGITS)
    if not extra_known:
        return Bill(cost, None, Unpriced.EXTRA)
    baseline = Unpriced.NO_PRICE if reference is None else usage_cost(reference, usage)
    return Bill(cost, None if isinstance(baseline, Unpriced) else baseline)


def price_version(currency: str, prices: Mapping[str, Rates | None]) -> str:
    """Return the name of a set of prices: the first 12 hex digits of its SHA-256, the same in any order of experts."""
    named = {
        name: None if rates is None else [float(rates.input), float(rates.output), _cached_rate(rates)]
        for name, rates in prices.items()
    }
    text = json.dumps([currency, named], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cached_rate(rates: Rates) -> float:
    return float(rates.input if rates.cached_input is None else rates.cached_input)


def _bounded(tokens: int) -> int:
    return min(max(tokens, 0), MAXIMUM_TOKENS)
