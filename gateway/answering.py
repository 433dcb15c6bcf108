"""Phase 6: answers a decided request the plain way, by its domain's strategy, or by the one it asks for.

Keeps account of what a strategy's calls cost. How a strategy gets its answer is its own file's business, how a call
reaches a server the dispatcher's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from gateway.answers import Opened, Usage
from gateway.calling import RequestCalls
from gateway.context import RequestContext, StrategyUse
from gateway.costs import Unpriced, usage_cost
from gateway.cutoff import Cutoff
from gateway.dispatch import Dispatcher
from gateway.errors import InvalidRequest
from gateway.openai import ApiRequest
from gateway.settings import LimitSettings, StrategySettings
from gateway.strategies import NONE, Call, Job, Skip, Strategy
from gateway.thresholds import check_domains
from gateway.types import Endpoint, Expert


class Answering:
    """Answers decided requests. One per configuration.

    Args:
        settings: the section `strategies`.
        limits: bounds on answers.
        dispatcher: sends requests.
        domains: all that a decision may have.

    Raises:
        UnknownDomain: a strategy is set for a domain that is not among them.
    """

    def __init__(
        self, settings: StrategySettings, limits: LimitSettings, dispatcher: Dispatcher, domains: Sequence[str]
    ) -> None:
        check_domains("strategies.domains", settings.domains, domains)
        self._dispatcher = dispatcher
        self._limits = limits
        self._default = _named(settings.default.name, settings.default.load()) if settings.default else None
        self._domains = {domain: _named(choice.name, choice.load()) for domain, choice in settings.domains.items()}
        self._offered = settings.offered()
        self._plain_only = self._default is None and not self._domains

    def open(
        self, request: ApiRequest, context: RequestContext, cutoff: Cutoff, asked: str | None
    ) -> Awaitable[Opened]:
        """Return the answer, ready to be sent.

        Args:
            request: what the client sent.
            context: has the decision; takes what became of it.
            cutoff: ends the waiting.
            asked: value of `x-pointsman-strategy`.

        Raises:
            InvalidRequest: no such strategy, or none for this endpoint.
            UpstreamError: nobody could answer.
            ClientLeft: nobody waits any more.
        """
        if asked is None and self._plain_only:
            return self._dispatcher.open(request, context, cutoff)
        wanted = self._wanted(request, context, asked)
        if wanted is None:
            return self._dispatcher.open(request, context, cutoff)
        return self._strategic(*wanted, request, context, cutoff)

    def is_strategic(self, request: ApiRequest, context: RequestContext, asked: str | None) -> bool:
        """Tell whether a strategy makes the answer.

        Raises:
            InvalidRequest: as `open`.
        """
        if asked is None and self._plain_only:
            return False
        return self._wanted(request, context, asked) is not None

    def _wanted(self, request: ApiRequest, context: RequestContext, asked: str | None) -> tuple[str, Strategy] | None:
        if asked == NONE:
            return None
        if asked is not None:
            return self._asked(asked, request.endpoint)
        if request.endpoint is not Endpoint.CHAT or context.decision is None:
            return None
        return self._domains.get(context.decision.domain or "", self._default)

    def _asked(self, name: str, endpoint: Endpoint) -> tuple[str, Strategy]:
        strategy = self._offered.get(name)
        if strategy is None:
            offered = ", ".join([NONE, *self._offered])
            raise InvalidRequest(f"Unknown strategy; requests may ask for: {offered}.", code="unknown_strategy")
        if endpoint is not Endpoint.CHAT:
            raise InvalidRequest(f"Strategies answer {Endpoint.CHAT.path} only.", code="strategy_unsupported")
        return name, strategy

    async def _strategic(
        self, name: str, strategy: Strategy, request: ApiRequest, context: RequestContext, cutoff: Cutoff
    ) -> Opened:
        use = context.strategy = StrategyUse(name)
        job = _job(request, context)
        if not isinstance(job, Skip):
            experts = too_dear(strategy.participants(job), job, context)
            job = experts if isinstance(experts, Skip) else job
        if isinstance(job, Skip):
            use.outcome = f"skipped:{job}"
            return await self._dispatcher.open(request, context, cutoff)
        calls = RequestCalls(self._dispatcher, request, context, cutoff, self._limits.event_bytes)
        use.outcome = "failed"
        try:
            result = await strategy.answer(job, calls)
        finally:
            context.attempts = calls.attempts
            use.calls = len(calls.made)
            calls.estimate_stopped()
            _account(use, calls.made, None)  # as it stays when nobody could answer, or the client left
        use.outcome = result.outcome
        calls.note_answer(result.call)
        _account(use, calls.made, result.call)
        return result.opened


def _named(name: str, strategy: Strategy | None) -> tuple[str, Strategy] | None:
    return None if strategy is None else (name, strategy)


def _job(request: ApiRequest, context: RequestContext) -> Job | Skip:
    """Return what strategies work on, or why this request is none for them."""
    body, decision, routing = request.body, context.decision, context.routing
    if body.get("tools") or body["messages"][-1].get("role") in ("tool", "function"):
        return Skip.TOOLS
    if request.answers > 1:
        return Skip.SEVERAL_ANSWERS
    if decision is None or routing is None:
        return Skip.NOT_ROUTED
    return Job(body, request.stream, decision, routing)


def too_dear(experts: tuple[Expert, ...] | Skip, job: Job, context: RequestContext) -> tuple[Expert, ...] | Skip:
    """Skip what may cost more than the request may: each call's expected cost counts, as if none were stopped."""
    limit = context.cost_limit
    if limit is None or isinstance(experts, Skip):
        return experts
    candidates = [job.routing.candidate(expert) for expert in experts]
    expected = sum(candidate.cost or 0.0 for candidate in candidates if candidate is not None)
    return Skip.PRICE_CAP if expected > limit else experts


def _account(use: StrategyUse, made: list[Call], answering: Call | None) -> None:
    """Sum up the tokens and the money that did not go into the answer."""
    use.extra, use.extra_cost, use.extra_known = Usage(0, 0), 0.0, True
    for call in made:
        spent = [call.spare] if call is answering else [call.usage, call.spare]
        for usage in spent:
            use.extra.input_tokens = (use.extra.input_tokens or 0) + (usage.input_tokens or 0)
            use.extra.output_tokens = (use.extra.output_tokens or 0) + (usage.output_tokens or 0)
            told = Usage(usage.input_tokens or 0, usage.output_tokens or 0, usage.cached_tokens)
            cost = usage_cost(call.expert.price, told)
            if isinstance(cost, Unpriced):
                use.extra_known = False
            else:
                use.extra_cost += cost
