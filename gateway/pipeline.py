"""The path of a request from parsed body to decision: features, scores, eligibility, policy. Opens no upstream.

`model` says what is wanted: `auto` and `auto:<policy>` route, `auto/<domain>` names the domain, an expert's name
or served model name pins it.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import policies
from gateway.context import RequestContext
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.health import Fleet
from gateway.openai import ApiRequest, features_of, needs_of
from gateway.policies import Policy
from gateway.scoring import AsyncScorer
from gateway.settings import RouterSettings, Settings
from gateway.types import Capability, Catalog, Decision, Endpoint, Expert, Reason, RoutingInput
from router import Thresholds

AUTO = "auto"


class UnknownDomain(ValueError):
    """`router.thresholds` names a domain that the classifier does not have."""


def thresholds_of(settings: RouterSettings, labels: Sequence[str], fitted: Thresholds) -> Thresholds:
    """Return the thresholds in effect: what the settings say, else what was fitted with the classifier.

    Args:
        settings: the section `router`.
        labels: the classifier's domains.
        fitted: its own thresholds.

    Raises:
        UnknownDomain: a threshold is set for a domain that is not among `labels`; the message says which.
    """
    unknown = next((domain for domain in settings.thresholds if domain not in labels), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, labels, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownDomain(
            f"router.thresholds.{unknown}: the classifier has no such domain; {hint}it has: {', '.join(labels)}"
        )
    everywhere = settings.minimum_confidence
    return Thresholds(
        confidence={**({} if everywhere is not None else fitted.confidence), **settings.thresholds},
        default_confidence=_first(everywhere, fitted.default_confidence),
        margin=_first(settings.minimum_margin, fitted.margin),
        out_of_domain=_first(settings.maximum_out_of_domain, fitted.out_of_domain),
        disagreement=_first(settings.maximum_disagreement, fitted.disagreement),
    )


def _first(setting: float | None, fitted: float) -> float:
    return fitted if setting is None else setting


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the `model` field asks for; at most one of the three is set, none means: route.

    Attributes:
        expert: this expert and no other.
        domain: this domain's expert.
        policy: decide by this policy.
    """

    expert: Expert | None = None
    domain: str | None = None
    policy: str | None = None


class Pipeline:
    """Decides. One per configuration.

    Attributes:
        thresholds: when it abstains.

    Raises:
        UnknownDomain: the settings name a domain that the classifier does not have.
    """

    def __init__(self, settings: Settings, catalog: Catalog, fleet: Fleet, scorer: AsyncScorer) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._scorer = scorer
        self.thresholds = thresholds_of(settings.router, scorer.labels, scorer.thresholds)
        self._policy_name = settings.policy.name
        # The configured one with its options, every other one as it comes.
        self._policies = {name: policies.load(name, {}) for name in policies.names()}
        self._policies[self._policy_name] = policies.load(self._policy_name, settings.policy.options)

    async def decide(self, request: ApiRequest, context: RequestContext, header_policy: str | None) -> Decision:
        """Run phases 3 to 5 and leave features, scores and decision in the context.

        Args:
            request: the parsed request.
            context: takes the results.
            header_policy: value of `x-pointsman-policy`.

        Raises:
            ModelNotFound: `model` names nothing we have.
            InvalidRequest: no expert can take this request, or the policy is unknown.
        """
        wanted, needs = self._wanted(request.model), needs_of(request)
        context.decision = await self._decide(request, context, wanted, needs, header_policy)
        return context.decision

    async def _decide(
        self,
        request: ApiRequest,
        context: RequestContext,
        wanted: Wanted,
        needs: frozenset[Capability],
        header_policy: str | None,
    ) -> Decision:
        if wanted.expert is not None:
            _check_able(wanted.expert, request.endpoint, needs)
            return Decision(wanted.expert, Reason.PINNED)
        excluded = self._excluded(request.endpoint, needs)
        able = [e for e in self._catalog.experts.values() if excluded.get(e.name) is not Reason.CAPABILITY]
        if not able:
            raise InvalidRequest(_nobody_can(request.endpoint, needs), param=_param_of(needs))
        if wanted.domain is not None:
            return self._requested(wanted.domain, excluded, able)
        name, policy = self._policy(wanted.policy, header_policy)
        context.policy = name
        if request.endpoint is Endpoint.EMBEDDINGS:
            # Vectors of different models do not compare, so their choice must not depend on the text.
            return Decision(able[0], Reason.CAPABILITY)
        context.features = features_of(request)
        started = time.perf_counter()
        scored = await self._scorer.score(context.features.text)
        context.scored_s = time.perf_counter() - started
        context.scores = None if isinstance(scored, Reason) else scored
        context.thresholds = self.thresholds
        routing = RoutingInput(
            features=context.features,
            scores=context.scores,
            catalog=self._catalog,
            thresholds=self.thresholds,
            excluded=excluded,
            unscored=scored if isinstance(scored, Reason) else Reason.NO_TEXT,
        )
        return _within(policy.choose(routing), excluded, able)

    def _wanted(self, model: str) -> Wanted:
        if model == AUTO:
            return Wanted()
        kind, _, rest = model.partition(":")
        if kind == AUTO and rest:
            return Wanted(policy=rest)
        kind, _, rest = model.partition("/")
        if kind == AUTO and rest in self._catalog.by_domain:
            return Wanted(domain=rest)
        expert = self._catalog.named(model)
        if expert is None:
            raise ModelNotFound(
                f"The model `{model}` does not exist. Use `{AUTO}` or a name that /v1/models lists.",
                param="model",
            )
        return Wanted(expert=expert)

    def _policy(self, asked: str | None, header: str | None) -> tuple[str, Policy]:
        name = asked or header or self._policy_name
        policy = self._policies.get(name)
        if policy is None:
            raise InvalidRequest(
                f"Unknown policy; there are: {', '.join(self._policies)}.",
                param="model" if asked else None,
                code="unknown_policy",
            )
        return name, policy

    def _excluded(self, endpoint: Endpoint, needs: frozenset[Capability]) -> dict[str, Reason]:
        """Return the experts that cannot take the request; what they lack weighs more than being down."""
        excluded = {}
        for expert in self._catalog.experts.values():
            if not _able(expert, endpoint, needs):
                excluded[expert.name] = Reason.CAPABILITY
            elif not self._fleet.usable(expert):
                excluded[expert.name] = Reason.UNHEALTHY
        return excluded

    def _requested(self, domain: str, excluded: dict[str, Reason], able: list[Expert]) -> Decision:
        expert, generalist = self._catalog.by_domain[domain], self._catalog.generalist
        fallbacks = () if expert is generalist else (generalist,)
        chosen, reason = (expert, Reason.REQUESTED_DOMAIN)
        if expert.name in excluded:
            chosen, reason, fallbacks = generalist, excluded[expert.name], ()
        return _within(Decision(chosen, reason, fallbacks, domain), excluded, able)


def _within(decision: Decision, excluded: dict[str, Reason], able: list[Expert]) -> Decision:
    """Keep a decision inside what is possible: fallbacks that can answer, and another expert where it cannot.

    An expert that is merely down stays: trying it is better than refusing.
    """
    fallbacks = tuple(e for e in decision.fallbacks if excluded.get(e.name) is not Reason.CAPABILITY)
    expert, reason = decision.expert, decision.reason
    if excluded.get(expert.name) is Reason.CAPABILITY:
        expert = next((e for e in able if e.name not in excluded), able[0])
        fallbacks, reason = tuple(e for e in fallbacks if e is not expert), Reason.CAPABILITY
    return Decision(expert, reason, fallbacks, decision.domain, decision.confidence)


def _able(expert: Expert, endpoint: Endpoint, needs: frozenset[Capability]) -> bool:
    return endpoint in expert.serves and needs <= expert.capabilities


def _check_able(expert: Expert, endpoint: Endpoint, needs: frozenset[Capability]) -> None:
    if endpoint not in expert.serves:
        raise InvalidRequest(f"`{expert.name}` does not serve {endpoint.path}.", param="model")
    missing = needs - expert.capabilities
    if missing:
        raise InvalidRequest(
            f"`{expert.name}` cannot take requests with {', '.join(sorted(missing))}.",
            param=_param_of(missing),
        )


def _nobody_can(endpoint: Endpoint, needs: frozenset[Capability]) -> str:
    what = f" with {', '.join(sorted(needs))}" if needs else ""
    return f"No expert takes {endpoint.value} requests{what}."


def _param_of(needs: frozenset[Capability]) -> str:
    if needs & {"vision", "audio", "files"}:
        return "messages"
    return "tools" if "tools" in needs else "model"
