"""Policies: one file each, a pure function from `RoutingInput` to `Decision`. No I/O, no clock, no state."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Protocol, cast

from pydantic import BaseModel, ConfigDict

from gateway.types import Decision, RoutingInput


class Options(BaseModel):
    """Base of every policy: its fields are its options; an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Policy(Protocol):
    """What the pipeline asks of a policy."""

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide for one request. Must not raise and must not wait."""
        ...


class UnknownPolicy(ValueError):
    """No file of that name in this package."""


def names() -> tuple[str, ...]:
    """Return the names of all policies, sorted: one file in this package is one policy."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


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
