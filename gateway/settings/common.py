"""What all settings are made of: the strict base model and the types of names, addresses and limits."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
VARIABLE = r"^[A-Z_][A-Z0-9_]*$"


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address like http://vllm-math:8000")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials; name an environment variable in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("must not carry a query or fragment")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError("must be the server's root, without /v1")
    _ = parts.port  # raises ValueError when out of range
    return url.rstrip("/")


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


Name = Annotated[str, Field(pattern=NAME)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Network = Annotated[str, AfterValidator(_network)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Base of all models here: unknown keys and NaN are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
