"""Routing inputs made by hand, for tests of policies: experts a, b and the generalist, three domains."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from gateway.types import (
    TEXT_CAPABILITIES,
    Candidate,
    Catalog,
    Endpoint,
    Expert,
    Price,
    Reason,
    RoutingInput,
    Timeouts,
    Upstream,
)
from router import DomainScores, Features, Thresholds

LABELS = ("math", "coding", "general")


def expert(name: str, *domains: str, price: float = 1.0) -> Expert:
    """An expert that can do everything."""
    return Expert(
        name=name,
        model=f"m/{name}",
        upstreams=(Upstream(f"http://{name}"),),
        domains=domains,
        serves=frozenset(Endpoint),
        capabilities=TEXT_CAPABILITIES,
        timeouts=Timeouts(1, 1, 1, 1),
        price=Price(price, price),
    )


def catalog_of(*specialists: Expert) -> Catalog:
    """A catalog with a generalist in front."""
    generalist = expert("generalist", "general")
    experts = {found.name: found for found in (generalist, *specialists)}
    by_domain = {domain: found for found in experts.values() for domain in found.domains}
    return Catalog(MappingProxyType(experts), generalist, MappingProxyType(by_domain), "v1")


CATALOG = catalog_of(expert("a", "math"), expert("b", "coding"))


def scores_of(*probabilities: float, strange: float = 0.0, moved: float = 0.0) -> DomainScores:
    """Scores of the three domains."""
    return DomainScores(LABELS, np.array(probabilities, dtype=np.float32), strange, moved)


def routing_of(
    scores: DomainScores | None,
    *,
    quality: dict[str, float] | None = None,
    cost: dict[str, float] | None = None,
    excluded: dict[str, Reason] | None = None,
    catalog: Catalog = CATALOG,
    thresholds: Thresholds | None = None,
    draw: float = 0.0,
) -> RoutingInput:
    """An input in which everybody but `excluded` may be chosen."""
    everybody = [
        Candidate(found, None if quality is None else quality[name], None if cost is None else cost[name])
        for name, found in catalog.experts.items()
    ]
    refused = excluded or {}
    return RoutingInput(
        features=Features(text="x"),
        scores=scores,
        catalog=catalog,
        thresholds=thresholds or Thresholds(),
        candidates=tuple(c for c in everybody if c.expert.name not in refused),
        reference=everybody[0],
        excluded=refused,
        draw=draw,
    )
