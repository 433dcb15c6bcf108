"""The whole of `experts.yaml`, section by section."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from gateway.settings.common import Name, Strict
from gateway.settings.experts import ExpertSettings, GeneralistSettings
from gateway.settings.routing import PolicySettings, RouterSettings
from gateway.settings.serving import (
    HealthSettings,
    LimitSettings,
    PassThroughSettings,
    ServerSettings,
    TimeoutSettings,
)
from gateway.types import GENERALIST

RESERVED_NAMES = frozenset({"auto"})


class Settings(Strict):
    """The whole of `experts.yaml`."""

    generalist: GeneralistSettings = Field(description="Who answers when no specialist should.")
    experts: dict[Name, ExpertSettings] = Field({}, description="The specialists, by name.")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="Currency of all prices (ISO 4217).")
    router: RouterSettings = Field(RouterSettings(), description="The classifier.")
    policy: PolicySettings = Field(PolicySettings(), description="The rule that decides.")
    server: ServerSettings = Field(ServerSettings(), description="Where the gateway listens.")
    timeouts: TimeoutSettings = Field(TimeoutSettings(), description="Limits in seconds.")
    limits: LimitSettings = Field(LimitSettings(), description="Bounds on requests and answers.")
    pass_through: PassThroughSettings = Field(PassThroughSettings(), description="Which other fields may pass.")
    health: HealthSettings = Field(HealthSettings(), description="Active checks.")

    @field_validator("experts")
    @classmethod
    def _names_free(cls, experts: dict[str, ExpertSettings]) -> dict[str, ExpertSettings]:
        for name in experts:
            if name in RESERVED_NAMES | {GENERALIST}:
                raise ValueError(f"{name!r} is a reserved name")
        return experts

    @field_validator("experts")
    @classmethod
    def _domains_single(cls, experts: dict[str, ExpertSettings], info: ValidationInfo) -> dict[str, ExpertSettings]:
        owner: dict[str, str] = {}
        for name, expert in experts.items():
            for domain in expert.domains:
                if domain in owner:
                    raise ValueError(f"domain {domain!r} belongs to both {owner[domain]!r} and {name!r}")
                owner[domain] = name
        return experts

    def with_address(self, host: str | None, port: int | None) -> Settings:
        """Return the same settings listening elsewhere; None keeps what the file says."""
        changes = {"host": host, "port": port}
        server = self.server.model_copy(update={k: v for k, v in changes.items() if v is not None})
        return self.model_copy(update={"server": server})

    def named_experts(self) -> dict[str, ExpertSettings]:
        """Return all experts by name, the generalist first."""
        return {GENERALIST: self.generalist, **self.experts}
