"""What the `model` field asks for: `auto` and `auto:<policy>` route, `auto/<domain>` a domain, all else an expert."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import ModelNotFound
from gateway.types import Catalog, Expert

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Wanted:
    """At most one of the three is set, none means: route.

    Attributes:
        expert: this expert and no other.
        domain: this domain's expert.
        policy: decide by this policy.
    """

    expert: Expert | None = None
    domain: str | None = None
    policy: str | None = None


ROUTED = Wanted()


def wanted_by(model: str, catalog: Catalog) -> Wanted:
    """Read a `model` field.

    Raises:
        ModelNotFound: it names nothing in the catalog.
    """
    if model == AUTO:
        return ROUTED
    kind, _, rest = model.partition(":")
    if kind == AUTO and rest:
        return Wanted(policy=rest)
    kind, _, rest = model.partition("/")
    if kind == AUTO and rest in catalog.by_domain:
        return Wanted(domain=rest)
    expert = catalog.named(model)
    if expert is None:
        raise ModelNotFound(
            f"The model `{model}` does not exist. Use `{AUTO}` or a name that /v1/models lists.", param="model"
        )
    return Wanted(expert=expert)
