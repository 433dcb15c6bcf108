"""Which admin tokens the environment holds, and that there are any. Checks no request: `keyring` knows all tokens.

A token is found or an error is raised: there is no answer "nobody" that a caller could forget to look at.
"""

from __future__ import annotations

from typing import Protocol

from gateway.grants import digest
from gateway.keyring import Principal, Role, Unauthorized
from gateway.settings import Settings, secret

SHORTEST_TOKEN = 16


class Tokens(Protocol):
    """Knows the tokens; `keyring.AdminTokens` is one."""

    def find(self, token: str) -> Principal:
        """Return whose token it is.

        Raises:
            Unauthenticated: nobody's, or no longer valid; it takes as long for one wrong token as for another.
        """

    def current(self, principal_id: str) -> Principal:
        """Return who had a token that was found before, as its role is now.

        Raises:
            Unauthenticated: the token is over.
        """


class NoAdminToken(ValueError):
    """The admin API is to be opened and nobody could use it, or anybody; the message says what to set."""


def named_tokens(settings: Settings) -> dict[bytes, Principal]:
    """Return whose tokens the environment holds, by digest. That none is a caller's key, `grants.build` looks to.

    Raises:
        NoAdminToken: the settings name no token and no store of keys, or one is short or given twice.
        MissingSecret: a variable that they name is not set.
    """
    admin = settings.admin
    found: dict[bytes, Principal] = {}
    for variable, role in ((admin.token_env, Role.ADMIN), (admin.viewer_token_env, Role.VIEWER)):
        token = secret(variable)
        if token is None:
            continue
        if len(token) < SHORTEST_TOKEN:
            raise NoAdminToken(f"the token in {variable} is shorter than {SHORTEST_TOKEN} characters")
        if digest(token) in found:
            raise NoAdminToken(f"the token in {variable} is given twice")
        found[digest(token)] = Principal(role.value, role)
    if not found and not settings.key_store.wanted:
        raise NoAdminToken("refusing to open the admin API without a token: set admin.token_env, or key_store")
    return found


def wrong_token() -> Unauthorized:
    """Return the one error for every token that does not let in."""
    return Unauthorized(
        "Missing or unknown admin token. Send it as `Authorization: Bearer TOKEN`.",
        headers=(("www-authenticate", "Bearer"),),
    )
