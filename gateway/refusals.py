"""The errors of a request that no expert, or not the named one, may answer. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.eligibility import Demand, refusal
from gateway.errors import BudgetExhausted, Forbidden, InvalidRequest, PointsmanError
from gateway.types import Capability, Expert, Reason


def nobody(excluded: Mapping[str, Reason], demand: Demand, resets_in_s: int) -> PointsmanError:
    """Return the error of a request that every expert is excluded from for certain."""
    reason = refusal(excluded)
    if reason is Reason.CAPABILITY:
        return InvalidRequest(_nobody_can(demand), param=_param_of(demand.needs))
    return _error(reason, "every expert this key may use", demand, resets_in_s)


def named(expert: Expert, reason: Reason, demand: Demand, resets_in_s: int) -> PointsmanError:
    """Return the error of a request that names an expert which is excluded for certain."""
    if reason is not Reason.CAPABILITY:
        return _error(reason, f"`{expert.name}`", demand, resets_in_s)
    if demand.endpoint not in expert.serves:
        return InvalidRequest(f"`{expert.name}` does not serve {demand.endpoint.path}.", param="model")
    missing = demand.needs - expert.capabilities
    return InvalidRequest(
        f"`{expert.name}` cannot take requests with {', '.join(sorted(missing))}.", param=_param_of(missing)
    )


def _error(reason: Reason, who: str, demand: Demand, resets_in_s: int) -> PointsmanError:
    if reason is Reason.FORBIDDEN:
        return Forbidden(f"This key may not use {who}.", param="model")
    if reason is Reason.PRICE_CAP:
        return InvalidRequest(
            f"The request is expected to cost more at {who} than its price cap of {demand.price_cap:g}.",
            code="price_cap",
        )
    return BudgetExhausted(
        f"The request is expected to cost more at {who} than is left of the key's budget.",
        headers=(("retry-after", str(resets_in_s)), ("x-should-retry", "false")),
    )


def _nobody_can(demand: Demand) -> str:
    what = f" with {', '.join(sorted(demand.needs))}" if demand.needs else ""
    return f"No expert takes {demand.endpoint.value} requests{what}."


def _param_of(needs: frozenset[Capability]) -> str:
    if needs & {"vision", "audio", "files"}:
        return "messages"
    return "tools" if "tools" in needs else "model"
