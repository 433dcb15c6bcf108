"""Builds what the callers' keys may do from settings and the environment. Checks no request, keeps no secret."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Mapping

from gateway.settings import KeyTerms, Settings, secret
from gateway.types import Grant


class SameKey(ValueError):
    """Two names have the same key, so a request could not be told to be either's."""


class OpenDoor(ValueError):
    """Everybody who reaches a public address could use the gateway, and the settings do not say that this is meant."""


def refuse_open_door(settings: Settings) -> None:
    """Refuse to listen on a public address without keys.

    Raises:
        OpenDoor: the settings name no keys, no store of keys, no loopback address, and not `server.open`.
    """
    server = settings.server
    if not needs_keys(settings) and not server.open and not is_loopback(server.host):
        raise OpenDoor(
            f"refusing to listen on {server.host} without keys: set server.api_keys_env or key_store, "
            "or server.open: true to let everybody in"
        )


def needs_keys(settings: Settings) -> bool:
    """Tell whether callers need a key. A store does not have to hold one for that."""
    return settings.server.api_keys_env is not None or bool(settings.keys) or settings.key_store.wanted


def build(settings: Settings) -> Mapping[bytes, Grant]:
    """Return what each key of settings and environment may do, by the key's digest; keys of the store are not here.

    Raises:
        MissingSecret: a variable that the settings name is not set.
        SameKey: two names have the same key, or a key is an admin token as well.
    """
    grants = {digest(key): Grant(name=_anonymous(key)) for key in _split(secret(settings.server.api_keys_env))}
    for name, key in settings.keys.items():
        value = digest(secret(key.key_env) or "")
        if value in grants:
            raise SameKey(f"keys.{name}: the key in {key.key_env} is given twice")
        grants[value] = grant_of(name, key)
    for variable, token in _admin_tokens(settings):
        if token in grants:
            raise SameKey(f"the admin token in {variable} is a caller's key as well")
    return grants


def grant_of(name: str, terms: KeyTerms, expires_at: float | None = None) -> Grant:
    """Return what a key may do.

    Args:
        name: the key's name.
        terms: the same, as settings or the store say it.
        expires_at: when it ends, seconds since the epoch.
    """
    return Grant(
        name=name,
        experts=_set(terms.experts),
        policies=_set(terms.policies),
        policy=terms.policy,
        price_cap=terms.price_cap,
        daily_budget=terms.daily_budget,
        endpoints=_set(terms.endpoints),
        expires_at=expires_at,
        rpm=terms.requests_per_minute,
        tpm=terms.tokens_per_minute,
        concurrent=terms.concurrent_requests,
        monthly_budget=terms.monthly_budget,
        tags=terms.tags,
    )


def digest(key: str | bytes) -> bytes:
    """Return what is kept of a key. It has at least 128 random bits, so one round of SHA-256 cannot be turned back."""
    # Any text has a digest: who sends half a surrogate has a wrong key, no more.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key).digest()


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _admin_tokens(settings: Settings) -> Iterator[tuple[str, bytes]]:
    admin = settings.admin
    for variable in (admin.token_env, admin.viewer_token_env) if admin.port is not None else ():
        if variable is not None:
            yield variable, digest(secret(variable) or "")


def _anonymous(key: str) -> str:
    """Name a key without a name by the beginning of its digest, which says nothing about the key."""
    return f"key-{digest(key).hex()[:8]}"


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _split(keys: str | None) -> tuple[str, ...]:
    return tuple(key.strip() for key in (keys or "").split(",") if key.strip())
