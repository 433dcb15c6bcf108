"""Which fault applies to which request: the `NAME;key=value` syntax and the rules set by admin calls.

What a fault does stands in `fault_kinds`; this module only parses, stores and matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.sim.errors import SimError


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name with its parameters, all texts until a kind reads them."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def number(self, key: str, default: float) -> float:
        """A parameter as a number.

        Raises:
            SimError: it is not one.
        """
        try:
            return float(self.parameters.get(key, default))
        except ValueError as error:
            raise SimError(400, f"sim fault {self.name}: {key} must be a number", param="sim_fault") from error

    def count(self, key: str, default: int) -> int:
        """A parameter as a whole number."""
        return int(self.number(key, default))

    def __str__(self) -> str:
        return ";".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])


def parse_fault(text: str) -> Fault:
    """Read `NAME;key=value;key=value`.

    Raises:
        SimError: a parameter has no `=`.
    """
    name, *pairs = [part.strip() for part in text.split(";")]
    parameters = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise SimError(400, f"sim fault parameter {pair!r} is not key=value", param="sim_fault")
        parameters[key.strip()] = value.strip()
    return Fault(name.lower().replace("-", "_"), parameters)


@dataclass(slots=True)
class FaultRule:
    """A fault for the next requests.

    Args:
        fault: What to do.
        count: How many requests it still hits; None: until cleared.
        path: Only requests with this path; None: every generating request.
        model: Only requests for this model name; None: any.
    """

    fault: Fault
    count: int | None = None
    path: str | None = None
    model: str | None = None

    def fits(self, path: str, model: str | None, *, generating: bool) -> bool:
        """Whether the rule hits a request."""
        if self.path is None and not generating:
            return False
        return self.path in (None, path) and self.model in (None, model)


class FaultBook:
    """The rules in force, oldest first."""

    def __init__(self) -> None:
        self.rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        """Put a rule in force."""
        self.rules.append(rule)

    def clear(self) -> None:
        """Lift all rules."""
        self.rules.clear()

    def take(self, path: str, model: str | None, *, generating: bool) -> Fault | None:
        """The fault for a request, which uses up one of its rule's count."""
        for rule in self.rules:
            if rule.fits(path, model, generating=generating):
                if rule.count is not None:
                    rule.count -= 1
                    if rule.count <= 0:
                        self.rules.remove(rule)
                return rule.fault
        return None
