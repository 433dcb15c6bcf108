"""Who may come in: callers' keys, admin tokens, sessions of the dashboard. Keeps digests only; serves no request."""

from __future__ import annotations

from gateway.keyring.access import Access, AdminEntry, KeyEntry, Principal, Role, Unauthorized, read_access
from gateway.keyring.admin import AdminTokens
from gateway.keyring.making import Made, make
from gateway.keyring.ring import Keyring
from gateway.keyring.sessions import AdminSessions
from gateway.keyring.throttle import LoginThrottle
from gateway.keyring.watch import KeyWatch

__all__ = [
    "Access",
    "AdminEntry",
    "AdminSessions",
    "AdminTokens",
    "KeyEntry",
    "KeyWatch",
    "Keyring",
    "LoginThrottle",
    "Made",
    "Principal",
    "Role",
    "Unauthorized",
    "make",
    "read_access",
]
