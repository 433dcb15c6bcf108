"""Policies: one file each, a pure function from `RoutingInput` to `Decision`. No I/O, no clock, no state.

Files whose names begin with an underscore are no policies but what several of them share.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Protocol, cast

from pydantic import BaseModel, ConfigDict

from gateway.types import Candidate, Decision, RoutingInput


class Options(BaseModel):
    """Base of every policy: its fields are its options; an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def named_experts(self) -> tuple[str, ...]:
        """Return the experts that the options name; a configuration without them is refused."""
        return ()

    def utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return how good a candidate is; see `Policy.utility`."""
        raise NotImplementedError

    def utilities(self, routing: RoutingInput) -> list[float]:
        """Return the utility of every candidate, in their order; a policy with a quicker way has one of its own."""
        return [self.utility(routing, candidate) for candidate in routing.candidates]


class Policy(Protocol):
    """What the pipeline asks of a policy."""

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide for one request among `routing.candidates`. Must not raise and must not wait."""
        ...

    def utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return how good a candidate is for this request in the policy's own unit, 0 to about 1.

        What is chosen anew has the greatest utility, or is the generalist by abstention; a session's expert gives way
        only to a gain in utility.
        """
        ...

    def utilities(self, routing: RoutingInput) -> list[float]:
        """Return `utility` of every candidate, in their order."""
        ...

    def named_experts(self) -> tuple[str, ...]:
        """Return the experts that the options name."""
        ...


class UnknownPolicy(ValueError):
    """No file of that name in this package."""


def names() -> tuple[str, ...]:
    """Return the names of all policies, sorted: one file in this package is one policy."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in files if not name.startswith("_")))


def policy_class(name: str) -> type[Options]:
    """Return the class `Policy` of the file `name`.

    Raises:
        UnknownPolicy: there is no such file.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name not in names():
        raise UnknownPolicy(f"unknown policy {name!r}; there are: {', '.join(names())}")
    return cast("type[Options]", importlib.import_module(f"{__name__}.{name}").Policy)


def load(name: str, options: dict[str, object]) -> Policy:
    """Build a policy from its name and options.

    Raises:
        UnknownPolicy: there is no such policy.
        pydantic.ValidationError: an option is unknown or out of range.
    """
    return cast("Policy", policy_class(name).model_validate(options))
