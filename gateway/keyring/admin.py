"""Finds an admin token. Knows nothing of callers' keys but which digests are theirs, and those open nothing here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hmac import compare_digest

from gateway.grants import digest as digest_of
from gateway.keyring.access import NEVER, Access, AdminEntry, Principal, Role, Unauthorized, seconds_now

_NOBODY = AdminEntry(bytes(32), Principal("", Role.VIEWER), NEVER)


class AdminTokens:
    """The tokens that open the admin side, from the environment and from a store. For the event loop only.

    Without any token nobody comes in, on loopback neither.

    Args:
        fixed: whose tokens the environment holds, by digest.
        clock: seconds since the epoch.
    """

    def __init__(self, fixed: Mapping[bytes, Principal], clock: Callable[[], float] = seconds_now) -> None:
        self._clock = clock
        self._fixed = dict(fixed)
        self._stored: Access | None = None
        self._entries: dict[bytes, AdminEntry] = {}
        self._by_id: dict[str, AdminEntry] = {}
        self._used: dict[str, float] = {}
        self._merge()

    def change_fixed(self, fixed: Mapping[bytes, Principal]) -> None:
        """Take these tokens of the environment from now on, and no others of its."""
        self._fixed = dict(fixed)
        self._merge()

    def change_stored(self, stored: Access | None) -> None:
        """Take these tokens of the store from now on, and no others of its."""
        self._stored = stored
        self._merge()

    def find(self, token: str | bytes) -> Principal:
        """Return who has this token.

        Raises:
            Unauthorized: it is none, or over; which, is not said.
        """
        digest = digest_of(token)
        entry = self._entries.get(digest, _NOBODY)
        if not compare_digest(entry.digest, digest):
            raise _unauthorized()
        return self._live(entry)

    def current(self, principal_id: str) -> Principal:
        """Return who had a token that was found before, as its role is now.

        Raises:
            Unauthorized: the token is over.
        """
        return self._live(self._by_id.get(principal_id, _NOBODY))

    def take_used(self) -> dict[str, float]:
        """Return when tokens of the store were last used, by id, since the last call."""
        used, self._used = self._used, {}
        return used

    def _live(self, entry: AdminEntry) -> Principal:
        now = self._clock()
        if not now < entry.until:
            raise _unauthorized()
        if entry.id is not None:
            self._used[entry.id] = now
        return entry.principal

    def _merge(self) -> None:
        entries = {
            digest: AdminEntry(digest, replace(principal, id=principal.id or principal.name))
            for digest, principal in self._fixed.items()
        }
        if self._stored is not None:
            entries |= self._stored.admins
            for digest in self._stored.keys:
                entries.pop(digest, None)
        self._entries = entries
        self._by_id = {entry.principal.id: entry for entry in entries.values()}


def _unauthorized() -> Unauthorized:
    return Unauthorized("Missing or unknown admin token.", headers=(("www-authenticate", "Bearer"),))
