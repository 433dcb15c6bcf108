"""What `experts.yaml` says of strategies: which domains are answered by one, and which ones requests may ask for."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway import strategies
from gateway.settings.common import Name, Strict


class StrategyChoice(BaseModel):
    """A strategy and its options; which options there are is the strategy's own business."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: Name = Field(description="Which strategy answers; `none` for none.")

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.name == strategies.NONE:
            if self.options:
                raise ValueError("`none` takes no options")
        else:
            strategies.load(self.name, self.options)
        return self

    @property
    def options(self) -> dict[str, object]:
        """All keys but the name."""
        return dict(self.model_extra or {})

    def load(self) -> strategies.Strategy | None:
        """Build the strategy; None for `none`."""
        return None if self.name == strategies.NONE else strategies.load(self.name, self.options)


class StrategySettings(Strict):
    """Strategies for chat requests; without settings there are none."""

    default: StrategyChoice | None = Field(None, description="Strategy of all domains that have none of their own.")
    domains: dict[Name, StrategyChoice] = Field({}, description="Strategies of single domains, by name.")
    per_request: dict[Name, dict[str, Any]] = Field(
        {}, description="Strategies that requests may ask for by `x-pointsman-strategy`, with their options."
    )

    @field_validator("per_request")
    @classmethod
    def _loadable(cls, offered: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in offered.items():
            strategies.load(name, options)
        return offered

    def offered(self) -> dict[str, strategies.Strategy]:
        """Build the strategies that requests may ask for."""
        return {name: strategies.load(name, options) for name, options in self.per_request.items()}

    def named_experts(self) -> set[str]:
        """Return all experts that strategies name."""
        choices = [*self.domains.values(), *([self.default] if self.default else [])]
        loaded = [*(choice.load() for choice in choices), *self.offered().values()]
        return {name for strategy in loaded if strategy is not None for name in strategy.named_experts()}
