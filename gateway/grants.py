"""Builds what the callers' keys may do from settings and the environment. Checks no request."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping

from gateway.settings import KeySettings, Settings, secret
from gateway.types import Grant


class SameKey(ValueError):
    """Two names have the same key, so a request could not be told to be either's."""


class OpenDoor(ValueError):
    """Everybody who reaches a public address could use the gateway, and the settings do not say that this is meant."""


def refuse_open_door(settings: Settings) -> None:
    """Refuse to listen on a public address without keys.

    Raises:
        OpenDoor: the settings name no keys, no loopback address, and not `server.open`.
    """
    server = settings.server
    if server.api_keys_env is None and not settings.keys and not server.open and not is_loopback(server.host):
        raise OpenDoor(
            f"refusing to listen on {server.host} without keys: set server.api_keys_env, or server.open: true "
            "to let everybody in"
        )


def build(settings: Settings) -> Mapping[str, Grant]:
    """Return the keys, secrets, and what each may do; empty when the gateway is open.

    Raises:
        MissingSecret: a variable that the settings name is not set.
        SameKey: two names have the same key.
    """
    grants = {key: Grant(name=_anonymous(key)) for key in _split(secret(settings.server.api_keys_env))}
    for name, key in settings.keys.items():
        value = secret(key.key_env) or ""
        if value in grants:
            raise SameKey(f"keys.{name}: the key in {key.key_env} is given twice")
        grants[value] = _grant(name, key)
    return grants


def _grant(name: str, key: KeySettings) -> Grant:
    return Grant(
        name=name,
        experts=None if key.experts is None else frozenset(key.experts),
        policies=None if key.policies is None else frozenset(key.policies),
        policy=key.policy,
        price_cap=key.price_cap,
        daily_budget=key.daily_budget,
    )


def _anonymous(key: str) -> str:
    """Name a key without a name by the beginning of its digest, which says nothing about the key."""
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(keys: str | None) -> tuple[str, ...]:
    return tuple(key.strip() for key in (keys or "").split(",") if key.strip())
