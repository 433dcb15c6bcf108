"""The whole of `experts.yaml`, section by section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from gateway import policies
from gateway.addresses import is_inside, is_link_local
from gateway.settings.admin import AdminSettings
from gateway.settings.cache import CacheSettings
from gateway.settings.common import NAME, Name, Strict
from gateway.settings.experts import ExpertSettings, GeneralistSettings
from gateway.settings.feedback import FeedbackSettings
from gateway.settings.keys import KeySettings, KeyStoreSettings
from gateway.settings.quotas import QuotaSettings
from gateway.settings.records import RecordSettings
from gateway.settings.reliability import (
    BalancingSettings,
    BreakerSettings,
    ConcurrencySettings,
    OverloadSettings,
    RetrySettings,
)
from gateway.settings.resume import ResumeSettings
from gateway.settings.routing import CanarySettings, PolicyChoice, PolicySettings, RouterSettings
from gateway.settings.serving import (
    HealthSettings,
    LimitSettings,
    PassThroughSettings,
    ServerSettings,
    TimeoutSettings,
)
from gateway.settings.sessions import SessionSettings
from gateway.settings.strategies import StrategySettings
from gateway.types import GENERALIST

RESERVED_NAMES = frozenset({"auto"})


class Settings(Strict):
    """The whole of `experts.yaml`."""

    generalist: GeneralistSettings = Field(description="Who answers when no specialist should.")
    experts: dict[Name, ExpertSettings] = Field({}, description="The specialists, by name.")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="Currency of all prices (ISO 4217).")
    price_version: str | None = Field(
        None, pattern=NAME, description="What records call these prices; left out: a digest of them."
    )
    router: RouterSettings = Field(RouterSettings(), description="The classifier.")
    policy: PolicySettings = Field(PolicySettings(), description="The rule that decides.")
    policies: dict[Name, dict[str, Any]] = Field(
        {}, description="Options of other policies, by name, for requests that ask for those."
    )
    shadow: PolicyChoice | None = Field(
        None, description="A second policy that decides beside the live one and is only recorded."
    )
    strategies: StrategySettings = Field(StrategySettings(), description="Answers made with more than one call.")
    canary: CanarySettings | None = Field(None, description="Something new, for a part of the traffic.")
    sessions: SessionSettings = Field(SessionSettings(), description="How conversations stay with their expert.")
    keys: dict[Name, KeySettings] = Field({}, description="Callers' keys, by name, and what each may do.")
    key_store: KeyStoreSettings = Field(KeyStoreSettings(), description="Where keys made by commands are kept.")
    quotas: QuotaSettings = Field(QuotaSettings(), description="How much keys and experts may use.")
    server: ServerSettings = Field(ServerSettings(), description="Where the gateway listens.")
    timeouts: TimeoutSettings = Field(TimeoutSettings(), description="Limits in seconds.")
    limits: LimitSettings = Field(LimitSettings(), description="Bounds on requests and answers.")
    pass_through: PassThroughSettings = Field(PassThroughSettings(), description="Which other fields may pass.")
    health: HealthSettings = Field(HealthSettings(), description="Active checks.")
    breaker: BreakerSettings = Field(BreakerSettings(), description="When a server that fails is left alone.")
    retries: RetrySettings = Field(RetrySettings(), description="How many further tries there may be.")
    resume: ResumeSettings = Field(ResumeSettings(), description="Streams that break in the middle.")
    concurrency: ConcurrencySettings = Field(ConcurrencySettings(), description="How much one server gets at once.")
    overload: OverloadSettings = Field(OverloadSettings(), description="When the gateway itself takes no more.")
    balancing: BalancingSettings = Field(BalancingSettings(), description="Which of the servers gets a request.")
    feedback: FeedbackSettings = Field(FeedbackSettings(), description="Callers' ratings of answers.")
    records: RecordSettings = Field(RecordSettings(), description="Finished requests, as they are kept.")
    cache: CacheSettings = Field(CacheSettings(), description="Answers given again.")
    admin: AdminSettings = Field(AdminSettings(), description="The admin API.")

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

    @field_validator("policies")
    @classmethod
    def _options_fit(cls, chosen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in chosen.items():
            policies.load(name, options)
        return chosen

    @field_validator("policy", "policies", "shadow", "canary")
    @classmethod
    def _experts_exist(cls, value: Any, info: ValidationInfo) -> Any:
        known = {GENERALIST, *info.data.get("experts", ())}
        for policy in _policies_in(value):
            unknown = set(policy.named_experts()) - known
            if unknown:
                raise ValueError(f"unknown expert {min(unknown)!r}; there are: {', '.join(sorted(known))}")
        return value

    @field_validator("strategies")
    @classmethod
    def _strategies_fit(cls, chosen: StrategySettings, info: ValidationInfo) -> StrategySettings:
        known = {GENERALIST, *info.data.get("experts", ())}
        unknown = chosen.named_experts() - known
        if unknown:
            raise ValueError(f"unknown expert {min(unknown)!r}; there are: {', '.join(sorted(known))}")
        return chosen

    @field_validator("quotas")
    @classmethod
    def _quotas_fit(cls, quotas: QuotaSettings, info: ValidationInfo) -> QuotaSettings:
        known = {GENERALIST, *info.data.get("experts", ())}
        unknown = set(quotas.experts) - known
        if unknown:
            raise ValueError(f"unknown expert {min(unknown)!r}; there are: {', '.join(sorted(known))}")
        return quotas

    @field_validator("keys")
    @classmethod
    def _keys_fit(cls, keys: dict[str, KeySettings], info: ValidationInfo) -> dict[str, KeySettings]:
        experts, names = {GENERALIST, *info.data.get("experts", ())}, set(policies.names())
        for name, key in keys.items():
            unknown = set(key.experts or ()) - experts
            unknown |= ({*(key.policies or ())} | ({key.policy} if key.policy else set())) - names
            if unknown:
                raise ValueError(f"{name}: no expert or policy is called {min(unknown)!r}")
            if any(other.key_env == key.key_env for rival, other in keys.items() if rival != name):
                raise ValueError(f"{name}: another key has the same key_env")
        return keys

    def anchored(self, folder: Path) -> Settings:
        """Return the same settings with the paths of quality tables and stores, relative to `folder`, made absolute."""

        def absolute(path: str | None) -> str | None:
            return None if path is None else str(folder / path)

        policy = self.policy.model_copy(update={"quality_table": absolute(self.policy.quality_table)})
        canary = self.canary
        if canary is not None:
            canary = canary.model_copy(update={"quality_table": absolute(canary.quality_table)})
        sections: dict[str, FeedbackSettings | RecordSettings | KeyStoreSettings | AdminSettings | QuotaSettings] = {
            "feedback": self.feedback,
            "records": self.records,
            "key_store": self.key_store,
            "admin": self.admin,
            "quotas": self.quotas,
        }
        stores = {
            name: section.model_copy(update={"database": absolute(section.database)})
            for name, section in sections.items()
        }
        return self.model_copy(update={"policy": policy, "canary": canary, **stores})

    def with_address(self, host: str | None, port: int | None, workers: int | None = None) -> Settings:
        """Return the same settings listening elsewhere, with so many workers; None keeps what the file says."""
        changes = {"host": host, "port": port, "workers": workers}
        server = self.server.model_copy(update={k: v for k, v in changes.items() if v is not None})
        return self.model_copy(update={"server": server})

    def forbids(self, address: str) -> bool:
        """Tell whether no upstream may be at a resolved address."""
        link_local = not self.admin.allow_link_local and is_link_local(address)
        return link_local or is_inside(address, self.server.denied_networks)

    def named_experts(self) -> dict[str, ExpertSettings]:
        """Return all experts by name, the generalist first."""
        return {GENERALIST: self.generalist, **self.experts}


def _policies_in(value: Any) -> list[policies.Policy]:
    if isinstance(value, CanarySettings):
        value = value.policy
    if isinstance(value, PolicyChoice):
        return [value.load()]
    return [policies.load(name, options) for name, options in value.items()] if isinstance(value, dict) else []
