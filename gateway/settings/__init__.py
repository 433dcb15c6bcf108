"""What `experts.yaml` may say: strict models, defaults, and the environment variables they name.

Reading the file is `settings_file`, building the catalog `catalog`. Every field's description is the reference: it
goes into the JSON Schema and must stand in `gateway/REFERENCE.md`.
"""

from __future__ import annotations

from gateway.settings.common import NAME, BaseUrl, Name, Seconds, Share, Strict
from gateway.settings.experts import (
    TEXT_ENDPOINTS,
    ExpertSettings,
    GeneralistSettings,
    PriceSettings,
    RewriteSettings,
    TimeoutOverrides,
)
from gateway.settings.feedback import FeedbackSettings
from gateway.settings.records import RecordSettings
from gateway.settings.root import RESERVED_NAMES, Settings
from gateway.settings.routing import CanarySettings, KeySettings, PolicyChoice, PolicySettings, RouterSettings
from gateway.settings.secrets import MissingSecret, secret
from gateway.settings.serving import (
    DENIED_FIELDS,
    HealthSettings,
    LimitSettings,
    PassThroughSettings,
    ServerSettings,
    TimeoutSettings,
)
from gateway.settings.sessions import SessionSettings
from gateway.settings.strategies import StrategyChoice, StrategySettings

__all__ = [
    "DENIED_FIELDS",
    "NAME",
    "RESERVED_NAMES",
    "TEXT_ENDPOINTS",
    "BaseUrl",
    "CanarySettings",
    "ExpertSettings",
    "FeedbackSettings",
    "GeneralistSettings",
    "HealthSettings",
    "KeySettings",
    "LimitSettings",
    "MissingSecret",
    "Name",
    "PassThroughSettings",
    "PolicyChoice",
    "PolicySettings",
    "PriceSettings",
    "RecordSettings",
    "RewriteSettings",
    "RouterSettings",
    "Seconds",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "Share",
    "StrategyChoice",
    "StrategySettings",
    "Strict",
    "TimeoutOverrides",
    "TimeoutSettings",
    "secret",
]
