"""Builds what the callers' keys may do from settings and the environment. Checks no request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from gateway.settings import KeySettings, Settings, secret
from gateway.types import Grant


class SameKey(ValueError):
    """Two names have the same key, so a request could not be told to be either's."""


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


def _split(keys: str | None) -> tuple[str, ...]:
    return tuple(key.strip() for key in (keys or "").split(",") if key.strip())
