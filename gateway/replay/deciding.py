"""What a policy would have decided for recorded prompts, every expert being up. It must not see a recorded score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gateway.estimates import Estimator
from gateway.pace import Pace
from gateway.policies import Policy
from gateway.replay.prompts import Prompts, certain
from gateway.types import Candidate, Catalog, RoutingInput
from router import DomainScores, QualityTable, Thresholds

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

COST_PRIOR = 20.0
"""Prompts that the mean cost over all domains is worth in the mean of one domain."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What is the same whichever table was fitted.

    Attributes:
        catalog: the experts.
        columns: expert to its column in the outcomes; who is not here has none and cannot be chosen.
        thresholds: when to abstain.
        completion_tokens: length of an answer where the table knows none.
        draws: float (n,), for policies that split traffic.
    """

    catalog: Catalog
    columns: Mapping[str, int]
    thresholds: Thresholds
    completion_tokens: float
    draws: Floats


class Decider:
    """Decides with one quality table.

    Args:
        setting: experts and thresholds.
        prompts: features and scores of all prompts.
        table: measured quality, of other prompts than are decided.
        costs: float (k + 1, m), expected cost per domain (the last row: unknown domain) and column; None leaves it to
            prices.
    """

    def __init__(self, setting: Setting, prompts: Prompts, table: QualityTable, costs: Floats | None) -> None:
        catalog = setting.catalog
        present = MappingProxyType({name: e for name, e in catalog.experts.items() if name in setting.columns})
        self._setting = setting
        self._prompts = prompts
        self._catalog = catalog if catalog.by_domain else _declared(catalog, table)
        self._estimator = Estimator(
            replace(catalog, experts=present), prompts.labels, table, Pace(), setting.completion_tokens
        )
        self._costs = costs

    def inputs(self, rows: Sequence[int]) -> list[RoutingInput]:
        """Return what a policy would have been told of some prompts."""
        return [self._input(row, self._prompts.scores[row]) for row in rows]

    def choose(self, policy: Policy, inputs: Sequence[RoutingInput]) -> Indices:
        """Return the column (n,) of the expert that a policy chooses for each of n inputs."""
        columns = self._setting.columns
        return np.fromiter((columns[policy.choose(each).expert.name] for each in inputs), np.intp, len(inputs))

    def by_domain(self, policy: Policy, rows: Sequence[int]) -> Indices:
        """Return the choices (n, k) for some prompts if they were said, for sure, to be of each domain in turn."""
        sure = [certain(self._prompts.labels, domain) for domain in range(len(self._prompts.labels))]
        chosen = [self.choose(policy, [self._input(row, scores) for row in rows]) for scores in sure]
        return np.stack(chosen, axis=1)

    def _input(self, row: int, scores: DomainScores | None) -> RoutingInput:
        features = self._prompts.features[row]
        everyone = self._estimator.estimate(scores, features.token_estimate, None, 1, stream=False)
        if self._costs is not None:
            everyone = self._costed(everyone, self._costs, scores)
        return RoutingInput(
            features=features,
            scores=scores,
            catalog=self._catalog,
            thresholds=self._setting.thresholds,
            candidates=everyone,
            reference=self._estimator.reference(everyone),
            draw=float(self._setting.draws[row]),
        )

    def _costed(
        self, everyone: tuple[Candidate, ...], costs: Floats, scores: DomainScores | None
    ) -> tuple[Candidate, ...]:
        row = costs[-1 if scores is None else int(np.argmax(scores.probabilities))].tolist()
        found = [row[self._setting.columns[each.expert.name]] for each in everyone]
        return tuple(
            each._replace(cost=None if isnan(cost) else cost) for each, cost in zip(everyone, found, strict=True)
        )


def expected_costs(cost: Floats, domains: Sequence[int], count: int) -> Floats:
    """Return the mean recorded cost per domain and expert, shrunk to the expert's own mean over all domains.

    Args:
        cost: float (n, m), of prompts that are not decided; NaN where it is not known.
        domains: n columns of domains, `count` for unknown.
        count: how many domains there are, k.

    Returns:
        float (k + 1, m), the last row being the mean over all domains; NaN for an expert without any cost.
    """
    member = np.eye(count + 1)[np.asarray(domains, dtype=np.intp)]
    known = np.isfinite(cost)
    counts, totals = member.T @ known, member.T @ np.where(known, cost, 0.0)
    number = known.sum(axis=0)
    overall = np.full(len(number), np.nan)
    np.divide(totals.sum(axis=0), number, out=overall, where=number > 0)
    means: Floats = (totals + COST_PRIOR * overall) / (counts + COST_PRIOR)
    means[-1] = overall
    return means


def _declared(catalog: Catalog, table: QualityTable) -> Catalog:
    """Return the catalog with each domain declared by the expert that the table puts first, of equals the first."""
    names = list(catalog.experts)
    bounds = table.lower[:, [table.experts.index(name) for name in names]]
    best = [catalog.experts[names[column]] for column in bounds.argmax(axis=1)]
    owners = dict(zip(table.labels, best, strict=True))
    return replace(catalog, by_domain=MappingProxyType(owners))
