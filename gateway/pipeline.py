"""The path of a request from parsed body to decision: features, scores, eligibility, policy. Opens no upstream."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from gateway import refusals
from gateway.budgets import Budgets
from gateway.context import RequestContext
from gateway.controls import Controls
from gateway.conversation import Conversation, read_conversation
from gateway.eligibility import Demand, eligible, exclusion
from gateway.errors import Forbidden, InvalidRequest
from gateway.fallbacks import MOST_FALLBACKS, chosen_by, embedding_decision, with_specialists
from gateway.health import Fleet
from gateway.language import detect
from gateway.limits.downgrade import cheapest
from gateway.openai import ApiRequest, features_of, needs_of
from gateway.policies import Policy
from gateway.readings import last_turn, surer
from gateway.request_size import size_of
from gateway.sessions import SessionStore
from gateway.settings import Settings
from gateway.stay import stay
from gateway.types import REFUSING, Candidate, Catalog, Decision, Endpoint, Expert, Reason, RoutingInput
from gateway.variants import Variant, policies_of
from gateway.wanted import wanted_by
from router import DomainScores


class Pipeline:
    """Decides. One per configuration.

    Args:
        settings: the configuration.
        catalog: its experts.
        fleet: their servers.
        live: decides for most.
        canary: decides for the canary's share.
        budgets: what keys have spent.
        sessions: which expert answered a conversation last.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        fleet: Fleet,
        live: Variant,
        *,
        canary: Variant | None = None,
        budgets: Budgets,
        sessions: SessionStore,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._fleet = fleet
        self._live = live
        self._canary = canary
        self._budgets = budgets
        self._sessions = sessions
        self._policies = policies_of(settings, settings.policy)
        self._fallbacks = MOST_FALLBACKS if settings.policy.specialist_fallback else 0
        self._shadow = None if settings.shadow is None else settings.shadow.load()
        self._languages_matter = any(expert.languages for expert in catalog.experts.values())
        self.thresholds = live.thresholds
        self.variants = (live,) if canary is None else (live, canary)

    async def decide(self, request: ApiRequest, context: RequestContext, controls: Controls) -> Decision:
        """Run phases 3 to 5 and leave features, scores and decision in the context.

        Args:
            request: the parsed request.
            context: takes the results.
            controls: what the request says about its own routing.

        Raises:
            ModelNotFound: `model` names nothing we have.
            InvalidRequest: no expert can take this request, or the policy is unknown.
            Forbidden: the caller's key may not use what is asked for.
            BudgetExhausted: too little is left of the key's budget.
        """
        context.answers = request.answers
        context.decision = await self._decide(request, context, controls)
        return context.decision

    def usage(self, request: ApiRequest, context: RequestContext, decision: Decision) -> tuple[float, float | None]:
        """Return the tokens and the money that a decided request is expected to use."""
        size = size_of(request, context.features or features_of(request))
        return self._live.estimator.usage(
            decision.expert, decision.domain, size.prompt_tokens, size.max_tokens, size.answers
        )

    def alternatives(self, context: RequestContext) -> dict[str, Decision]:
        """Return what every policy would have decided for a routed request."""
        routing = context.routing
        locked = context.decision is not None and context.decision.reason is Reason.TOOL_LOCK
        if routing is None or context.deciding is None or locked:
            return {}
        return {name: chosen_by(policy, routing) for name, policy in self._policies.items()}

    async def _decide(self, request: ApiRequest, context: RequestContext, controls: Controls) -> Decision:
        wanted = wanted_by(request.model, self._catalog)
        if controls.policy is not None:
            self._policy(None, controls.policy, context)  # one that does not exist is told whatever `model` says
        if wanted.expert is not None:
            self._check_named(wanted.expert, request, context, controls)
            if request.body.get("tools") or request.body.get("functions"):
                # Without tools no loop can open, and who names an expert does not pay for a session.
                self._recognise_named(request, context, controls)
            return Decision(wanted.expert, Reason.PINNED)
        if wanted.domain is None:
            context.policy, policy = self._policy(wanted.policy, controls.policy, context)
        if request.endpoint is Endpoint.EMBEDDINGS:
            return self._embedding(request, context, controls, wanted.domain)
        if wanted.domain is not None:
            return self._of_domain(wanted.domain, request, context, controls)
        return await self._routed(request, context, controls, policy, asked=bool(wanted.policy or controls.policy))

    async def _routed(
        self, request: ApiRequest, context: RequestContext, controls: Controls, policy: Policy, *, asked: bool
    ) -> Decision:
        context.features = features_of(request)
        conversation = self._recognise(request, context, controls)
        variant = self._variant(context)
        if variant is not self._live and not asked and context.grant.policy is None:
            context.policy, policy = variant.policy_name, variant.policy
        context.deciding, context.variant = policy, variant.name
        if context.session is not None and conversation.tool_loop:
            # Whoever called the tool reads its result, whatever it says: scoring would change nothing.
            decision = self._choose(request, context, controls, variant, Reason.NO_TEXT)
            if decision.reason is Reason.TOOL_LOCK:
                return replace(decision, domain=context.session.domain)
        scored = await self._score(request, context, variant)
        return self._choose(request, context, controls, variant, scored)

    def _of_domain(self, domain: str, request: ApiRequest, context: RequestContext, controls: Controls) -> Decision:
        routing = context.routing = self._routing(request, context, controls, self._live, Reason.NO_TEXT)
        self._recognise_named(request, context, controls)
        decision = replace(routing.take(self._catalog.by_domain[domain], Reason.REQUESTED_DOMAIN), domain=domain)
        return with_specialists(decision, routing, None, self._fallbacks)

    def _embedding(
        self, request: ApiRequest, context: RequestContext, controls: Controls, domain: str | None
    ) -> Decision:
        routing = self._routing(request, context, controls, self._live, Reason.NO_TEXT)
        decision = embedding_decision(routing, domain)
        refused = routing.excluded.get(decision.expert.name)
        if refused in REFUSING:
            demand = self._demand(request, 0, None, context, controls)
            raise refusals.named(decision.expert, refused, demand, self._budgets.resets_in_s(context.grant))
        return decision

    def _recognise(self, request: ApiRequest, context: RequestContext, controls: Controls) -> Conversation:
        conversation = read_conversation(request, context.grant.name, controls.session)
        context.conversation, context.draw = conversation, conversation.draw
        context.session = self._sessions.recall(conversation) if self._settings.sessions.enabled else None
        return conversation

    def _recognise_named(self, request: ApiRequest, context: RequestContext, controls: Controls) -> None:
        """Begin or go on with a session here too: a tool loop that a named expert opened is its own to end."""
        if self._settings.sessions.enabled and request.endpoint is not Endpoint.EMBEDDINGS:
            self._recognise(request, context, controls)

    def _choose(
        self,
        request: ApiRequest,
        context: RequestContext,
        controls: Controls,
        variant: Variant,
        scored: DomainScores | Reason,
    ) -> Decision:
        """Let the policy choose, and keep a conversation with its expert where nothing speaks enough for a change."""
        policy, session, conversation = context.deciding, context.session, context.conversation
        assert policy is not None
        assert conversation is not None
        routing = context.routing = self._routing(request, context, controls, variant, scored)
        decision = chosen_by(policy, routing)
        if session is not None:
            loop, settings = conversation.tool_loop, self._settings.sessions
            decision = stay(decision, routing, policy, session, tool_loop=loop, settings=settings)
        if self._shadow is not None and decision.reason is not Reason.TOOL_LOCK:
            context.shadow = chosen_by(self._shadow, routing)
        return with_specialists(decision, routing, policy, self._fallbacks)

    async def _score(self, request: ApiRequest, context: RequestContext, variant: Variant) -> DomainScores | Reason:
        """Score the routing text and, where earlier turns are part of it, the last turn alone; see `readings`."""
        assert context.features is not None
        started = time.perf_counter()
        alone, score = last_turn(request, context.features), variant.scorer.score
        if alone:
            scored, second = await asyncio.gather(score(context.features.text), score(alone))
            if not isinstance(scored, Reason) and not isinstance(second, Reason):
                scored = surer(scored, second, self._catalog, variant.thresholds)
        else:
            scored = await score(context.features.text)
        context.scored_s = time.perf_counter() - started
        context.scores = None if isinstance(scored, Reason) else scored
        context.thresholds, context.classifier = variant.thresholds, variant.scorer.scorer.version
        return scored

    def _policy(self, asked: str | None, header: str | None, context: RequestContext) -> tuple[str, Policy]:
        grant = context.grant
        name = asked or header or grant.policy or self._settings.policy.name
        policy = self._policies.get(name)
        if policy is None:
            raise InvalidRequest(
                f"Unknown policy; there are: {', '.join(self._policies)}.",
                param="model" if asked else None,
                code="unknown_policy",
            )
        if (asked or header) and grant.policies is not None and name not in grant.policies:
            raise Forbidden(f"This key may not ask for the policy `{name}`.", code="policy_forbidden")
        return name, policy

    def _variant(self, context: RequestContext) -> Variant:
        canary = self._settings.canary
        # Another part of the same number: the split of `weighted` must not follow the canary's.
        side = context.draw * 2**24 % 1.0
        if self._canary is None or canary is None or side >= canary.share:
            return self._live
        return self._canary

    def _routing(
        self,
        request: ApiRequest,
        context: RequestContext,
        controls: Controls,
        variant: Variant,
        scored: DomainScores | Reason,
    ) -> RoutingInput:
        """Put together what a policy may know.

        Raises:
            RequestError: nobody can take the request.
        """
        features = context.features or features_of(request)
        scores = None if isinstance(scored, Reason) else scored
        size = size_of(request, features)
        everybody = variant.estimator.estimate(
            scores, size.prompt_tokens, size.max_tokens, size.answers, stream=request.stream
        )
        context.estimates, language = everybody, detect(features.text) if self._languages_matter else None
        demand = self._demand(request, size.longest_tokens, language, context, controls)
        context.cost_limit = _least(demand.price_cap, demand.budget_left)
        candidates, excluded = eligible(everybody, demand, context.grant, self._fleet)
        context.excluded = excluded
        if not candidates:
            raise refusals.nobody(excluded, demand, self._budgets.resets_in_s(context.grant))
        if self._budgets.thrifty(context.grant) and request.endpoint is not Endpoint.EMBEDDINGS:
            candidates, excluded = cheapest(candidates, excluded)
            context.excluded = excluded
        return RoutingInput(
            features=features,
            scores=scores,
            catalog=self._catalog,
            thresholds=variant.thresholds,
            candidates=candidates,
            reference=variant.estimator.reference(everybody),
            excluded=excluded,
            unscored=scored if isinstance(scored, Reason) else Reason.NO_TEXT,
            draw=context.draw,
            key=context.grant.name,
        )

    def _demand(
        self, request: ApiRequest, tokens: int, language: str | None, context: RequestContext, controls: Controls
    ) -> Demand:
        policy, grant = self._settings.policy, context.grant
        return Demand(
            endpoint=request.endpoint,
            needs=needs_of(request),
            tokens=tokens + (request.max_tokens or 0),
            language=language,
            price_cap=_least(policy.price_cap, grant.price_cap, controls.price_cap),
            budget_left=self._budgets.left(grant),
            latency_s=_least(policy.latency_s, controls.latency_s),
            full=self._budgets.full(),
        )

    def _check_named(self, expert: Expert, request: ApiRequest, context: RequestContext, controls: Controls) -> None:
        """Refuse what is certain; everything else is the named upstream's to answer."""
        demand = self._demand(request, 0, None, context, controls)
        candidate = Candidate(expert)
        if demand.price_cap is not None or demand.budget_left is not None:
            size = size_of(request, features_of(request))
            everybody = self._live.estimator.estimate(
                None, size.prompt_tokens, size.max_tokens, size.answers, stream=request.stream
            )
            candidate = next(found for found in everybody if found.expert is expert)
        reason = exclusion(candidate, demand, context.grant, self._fleet)
        if reason in REFUSING:
            context.excluded = {expert.name: reason}
            raise refusals.named(expert, reason, demand, self._budgets.resets_in_s(context.grant))


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
