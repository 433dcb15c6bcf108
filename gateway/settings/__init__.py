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
    TimeoutOverrides,
)
from gateway.settings.root import RESERVED_NAMES, Settings
from gateway.settings.routing import PolicySettings, RouterSettings
from gateway.settings.secrets import MissingSecret, secret
from gateway.settings.serving import (
    DENIED_FIELDS,
    HealthSettings,
    LimitSettings,
    PassThroughSettings,
    ServerSettings,
    TimeoutSettings,
)

__all__ = [
    "DENIED_FIELDS",
    "NAME",
    "RESERVED_NAMES",
    "TEXT_ENDPOINTS",
    "BaseUrl",
    "ExpertSettings",
    "GeneralistSettings",
    "HealthSettings",
    "LimitSettings",
    "MissingSecret",
    "Name",
    "PassThroughSettings",
    "PolicySettings",
    "PriceSettings",
    "RouterSettings",
    "Seconds",
    "ServerSettings",
    "Settings",
    "Share",
    "Strict",
    "TimeoutOverrides",
    "TimeoutSettings",
    "secret",
]
