"""Which policies are replayed, and along which of their options. No outcomes here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway import policies
from gateway.policies import Policy

PARAMETERS: Final[Mapping[str, tuple[str, tuple[float, ...]]]] = MappingProxyType(
    {
        "balanced": (
            "cost_weight",
            (0, 5e-4, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2),
        ),
        "economy": ("quality_floor", (1.3, 1.2, 1.1, 1.05, 1, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)),
    }
)
"""Policy to the option that trades quality for money and its values, from the best quality to the least cost.

Both are relative to the generalist: small weights and high floors tell where it is the cheap one.
"""

LEFT_OUT: Final = frozenset({"fixed", "weighted"})
"""What these do is among the baselines: every expert alone, and chance."""


Options = Mapping[str, Mapping[str, object]]
"""Policy to its options."""
NO_OPTIONS: Final[Options] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sweep:
    """A policy at one or several values of one option.

    Attributes:
        policy: its name.
        parameter: the option, "" when there is one point.
        points: value as text, and the policy with it.
    """

    policy: str
    parameter: str
    points: tuple[tuple[str, Policy], ...]

    @property
    def first(self) -> str:
        """Name of the first point."""
        return f"{self.policy} {self.points[0][0]}".rstrip()

    def collapsed(self) -> Sweep:
        """Return the first point alone: without prices the others decide the same."""
        return Sweep(self.policy, "", (("", self.points[0][1]),)) if self.policy in PARAMETERS else self


def sweep(name: str, options: Mapping[str, object] = MappingProxyType({})) -> Sweep:
    """Return a policy with its options, over its parameter where it has one that the options do not set.

    Raises:
        gateway.policies.UnknownPolicy: there is no such policy.
        pydantic.ValidationError: an option is unknown or out of range.
    """
    parameter, values = PARAMETERS.get(name, ("", ()))
    if not parameter or parameter in options:
        return single(name, options)
    points = ((f"{value:g}", policies.load(name, {**options, parameter: value})) for value in values)
    return Sweep(name, parameter, tuple(points))


def single(name: str, options: Mapping[str, object] = MappingProxyType({})) -> Sweep:
    """Return a policy with its options and nothing varied; raises as `sweep` does."""
    return Sweep(name, "", (("", policies.load(name, dict(options))),))


def asked(name: str, given: Mapping[str, object], configured: Options = NO_OPTIONS) -> tuple[Sweep, ...]:
    """Return a policy as it was asked for: with the configured options and, before them, the given ones.

    What is given is not varied. A configured value of the parameter is replayed for itself, before all others.

    Args:
        name: the policy.
        given: options of this replay.
        configured: policy to its options in a configuration.

    Raises:
        gateway.policies.UnknownPolicy: there is no such policy.
        pydantic.ValidationError: an option is unknown or out of range.
    """
    own, (parameter, _) = configured.get(name, {}), PARAMETERS.get(name, ("", ()))
    if not parameter or parameter in given or parameter not in own:
        return (sweep(name, {**own, **given}),)
    others = {option: value for option, value in own.items() if option != parameter}
    return single(name, {**own, **given}), sweep(name, {**others, **given})


def every(configured: Options = NO_OPTIONS) -> tuple[Sweep, ...]:
    """Return all policies, those with a parameter over it, with what is configured; see `asked`."""
    wanted = [name for name in policies.names() if name not in LEFT_OUT]
    return tuple(found for name in wanted for found in asked(name, {}, configured))


def usual(configured_policy: str | None, configured: Options = NO_OPTIONS) -> tuple[Sweep, ...]:
    """Return the configured policy as it is, where there is one, and `balanced` over its parameter."""
    parameter, _ = PARAMETERS["balanced"]
    others = {option: value for option, value in configured.get("balanced", {}).items() if option != parameter}
    varied = sweep("balanced", others)
    if configured_policy is None:
        return (varied,)
    return single(configured_policy, configured[configured_policy]), varied
