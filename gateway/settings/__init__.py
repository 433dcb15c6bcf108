"""What `experts.yaml` may say: strict models, defaults, and the environment variables they name.

Reading the file is `settings_file`, building the catalog `catalog`. Every field's description is the reference: it
goes into the JSON Schema and must stand in `gateway/REFERENCE.md`.
"""

from __future__ import annotations

from gateway.settings.admin import AdminSettings
from gateway.settings.cache import CacheSettings
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
from gateway.settings.keys import KeySettings, KeyStoreSettings, KeyTerms, StoredTerms
from gateway.settings.quotas import QuotaSettings, QuotaTerms, ValkeySettings
from gateway.settings.records import RecordSettings
from gateway.settings.root import RESERVED_NAMES, Settings
from gateway.settings.routing import CanarySettings, PolicyChoice, PolicySettings, RouterSettings
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
    "AdminSettings",
    "BaseUrl",
    "CacheSettings",
    "CanarySettings",
    "ExpertSettings",
    "FeedbackSettings",
    "GeneralistSettings",
    "HealthSettings",
    "KeySettings",
    "KeyStoreSettings",
    "KeyTerms",
    "LimitSettings",
    "MissingSecret",
    "Name",
    "PassThroughSettings",
    "PolicyChoice",
    "PolicySettings",
    "PriceSettings",
    "QuotaSettings",
    "QuotaTerms",
    "RecordSettings",
    "RewriteSettings",
    "RouterSettings",
    "Seconds",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "Share",
    "StoredTerms",
    "StrategyChoice",
    "StrategySettings",
    "Strict",
    "TimeoutOverrides",
    "TimeoutSettings",
    "ValkeySettings",
    "secret",
]
