"""What decides: a classifier, its thresholds, what it expects of experts, and a policy; live, or as a canary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import policies
from gateway.estimates import Estimator
from gateway.pace import Pace
from gateway.policies import Policy
from gateway.scoring import AsyncScorer
from gateway.settings import PolicyChoice, Settings
from gateway.thresholds import thresholds_of
from gateway.types import GENERALIST, Catalog
from router import Scorer, Thresholds

if TYPE_CHECKING:
    from router import QualityTable

LIVE = "live"
CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to decide.

    Attributes:
        name: `live` or `canary`, for records.
        scorer: the classifier.
        thresholds: when it abstains.
        estimator: what it expects of the experts.
        policy_name: the policy's name.
        policy: decides when a request asks for no other.
    """

    name: str
    scorer: AsyncScorer
    thresholds: Thresholds
    estimator: Estimator
    policy_name: str
    policy: Policy


def policies_of(settings: Settings, choice: PolicyChoice) -> dict[str, Policy]:
    """Return every policy by name: the chosen one with its options, others with theirs, the rest as they come."""
    loaded = {name: policies.load(name, settings.policies.get(name, {})) for name in policies.names()}
    return {**loaded, choice.name: choice.load()}


def options_of(settings: Settings) -> dict[str, Mapping[str, object]]:
    """Return the options of all policies that a configuration says something of, as `policies_of` has them."""
    return {**settings.policies, settings.policy.name: settings.policy.options}


def load_table(path: str | None, catalog: Catalog, scorer: Scorer) -> QualityTable | None:
    """Read a quality table for these experts and this classifier.

    Raises:
        router.QualityError: the file cannot be read, names what is not there, or was made with another classifier.
    """
    if path is None:
        return None
    from router import QualityTable

    return QualityTable.load(path, experts=tuple(catalog.experts), generalist=GENERALIST, scorer=scorer)


def live_variant(
    settings: Settings, catalog: Catalog, scorer: AsyncScorer, table: QualityTable | None, pace: Pace
) -> Variant:
    """Put the live variant together.

    Raises:
        UnknownDomain: the settings name a domain that the classifier does not have.
    """
    return Variant(
        name=LIVE,
        scorer=scorer,
        thresholds=thresholds_of(settings.router, scorer.labels, scorer.thresholds),
        estimator=Estimator(catalog, scorer.labels, table, pace, settings.policy.completion_tokens),
        policy_name=settings.policy.name,
        policy=settings.policy.load(),
    )


def canary_variant(
    settings: Settings, catalog: Catalog, scorer: AsyncScorer, table: QualityTable | None, pace: Pace
) -> Variant:
    """Put the canary together: the live one but for what `canary` sets. See `live_variant`."""
    assert settings.canary is not None
    choice = settings.canary.policy or settings.policy
    return Variant(
        name=CANARY,
        scorer=scorer,
        thresholds=thresholds_of(settings.router, scorer.labels, scorer.thresholds),
        estimator=Estimator(catalog, scorer.labels, table, pace, settings.policy.completion_tokens),
        policy_name=choice.name,
        policy=choice.load(),
    )
