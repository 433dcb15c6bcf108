"""Finds a caller's key. Reads no store and answers no request.

A key is looked up by its digest: who does not know a key cannot choose a digest, so how long the look-up takes says
nothing of any key. Wrong prefix, wrong secret, expired and revoked all take one digest, one look-up, one compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hmac import compare_digest

import structlog

from gateway.grants import digest as digest_of
from gateway.keyring.access import NEVER, Access, KeyEntry, seconds_now
from gateway.types import Grant

log = structlog.get_logger(__name__)

_NOBODY = KeyEntry(bytes(32), Grant(), NEVER)


class Keyring:
    """The keys that open the data plane, from settings and from a store. For the event loop only.

    A secret that the store knows counts as the store says, even if the settings have it too: what was revoked there is
    over, and an admin token is no key. A stored key with the name of one in the settings opens nothing, because the
    two would share records and budgets.

    Args:
        named: what the keys of the settings may do, by digest.
        clock: seconds since the epoch.
    """

    def __init__(self, named: Mapping[bytes, Grant], clock: Callable[[], float] = seconds_now) -> None:
        self._clock = clock
        self._named = dict(named)
        self._stored: Access | None = None
        self._locked = False
        self._entries: dict[bytes, KeyEntry] = {}
        self._used: dict[str, float] = {}
        self._merge()

    def __len__(self) -> int:
        """Return how many secrets open something now."""
        now = self._clock()
        return sum(now < entry.until for entry in self._entries.values())

    @property
    def required(self) -> bool:
        """Whether callers need a key: there are some, or there is a store for them."""
        return self._locked or bool(self._named)

    def lock(self, locked: bool = True) -> None:
        """Say whether there is a store, read or not: from then on nobody comes in without a key."""
        self._locked = locked

    def change_named(self, named: Mapping[bytes, Grant]) -> None:
        """Take these keys of the settings from now on, and no others of theirs."""
        self._named = dict(named)
        self._merge()

    def change_stored(self, stored: Access | None) -> None:
        """Take these keys of the store from now on, and no others of its."""
        self._stored = stored
        self._merge()

    def find(self, token: str | bytes) -> Grant | None:
        """Return what a key may do; None when it is none, or over."""
        digest = digest_of(token)
        entry = self._entries.get(digest, _NOBODY)
        now = self._clock()
        # `not <`: a time that is no number ends the key.
        if not compare_digest(entry.digest, digest) or not now < entry.until:
            return None
        if entry.id is not None:
            self._used[entry.id] = now
        return entry.grant

    def take_used(self) -> Mapping[str, float]:
        """Return when keys of the store were last used, by id, since the last call."""
        used, self._used = self._used, {}
        return used

    def _merge(self) -> None:
        entries = {digest: KeyEntry(digest, grant) for digest, grant in self._named.items()}
        if self._stored is not None:
            names = {grant.name for grant in self._named.values()}
            taken = {entry.grant.name for entry in self._stored.keys.values() if entry.grant.name in names}
            for name in sorted(taken):
                log.error("key_name_taken", key=name)
            for digest, entry in self._stored.keys.items():
                entries[digest] = replace(entry, until=NEVER) if entry.grant.name in taken else entry
            entries |= {digest: replace(_NOBODY, digest=digest) for digest in self._stored.admins}
        self._entries = entries
