"""Sessions of people at the dashboard, in this process. Sets no cookie and checks no password.

A session is good only while the token it was opened with is: it has no rights of its own. In one process, so that
ending one needs no messages; with several workers the admin side has to be in one of them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.grants import digest
from gateway.keyring.access import Principal, Unauthorized

COOKIE_BYTES = 32
PER_TOKEN = 20
MOST = 1_000


class Holders(Protocol):
    """Knows whose tokens are good now; `AdminTokens` is one."""

    def current(self, principal_id: str) -> Principal:
        """Return who had a token that was found before, as its role is now.

        Raises:
            Unauthenticated: the token is over.
        """


@dataclass(slots=True)
class _Session:
    principal_id: str
    opened_at: float
    used_at: float = field(kw_only=True)


class AdminSessions:
    """Opens, finds and closes sessions. For the event loop only.

    Args:
        tokens: which tokens are good now; a change there counts at the next `find`.
        idle_s: a session unused for so long is over.
        absolute_s: so is one that is so old.
        per_token: most sessions of one token; one more ends its longest unused.
        most: most sessions in all; the same.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        tokens: Holders,
        *,
        idle_s: float = 1_800,
        absolute_s: float = 43_200,
        per_token: int = PER_TOKEN,
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._idle_s = idle_s
        self._absolute_s = absolute_s
        self._per_token = per_token
        self._most = most
        self._clock = clock
        # By digest of the cookie, longest unused first.
        self._sessions: dict[bytes, _Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, principal: Principal) -> str:
        """Open a session for who has just shown a token. Returns the cookie's value, 256 random bits."""
        now = self._clock()
        self._drop_old(now)
        own = [key for key, session in self._sessions.items() if session.principal_id == principal.id]
        if len(own) >= self._per_token:
            del self._sessions[own[0]]
        elif len(self._sessions) >= self._most:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        self._sessions[digest(cookie)] = _Session(principal.id, now, used_at=now)
        return cookie

    def find(self, cookie: str) -> Principal:
        """Return whose session this is, with the role the token has now. To be asked again on a stream that stays open.

        Raises:
            Unauthorized: there is no such session, or it or its token is over.
        """
        key, now = digest(cookie), self._clock()
        session = self._sessions.pop(key, None)
        if session is None or self._is_over(session, now):
            raise Unauthorized("The session is over. Log in again.")
        principal = self._tokens.current(session.principal_id)
        session.used_at = now
        self._sessions[key] = session
        return principal

    def close(self, cookie: str) -> None:
        """End a session; nothing happens when there is none."""
        self._sessions.pop(digest(cookie), None)

    def close_all(self, principal_id: str) -> None:
        """End all sessions of a token."""
        self._sessions = {
            key: session for key, session in self._sessions.items() if session.principal_id != principal_id
        }

    def _is_over(self, session: _Session, now: float) -> bool:
        return now - session.used_at >= self._idle_s or now - session.opened_at >= self._absolute_s

    def _drop_old(self, now: float) -> None:
        self._sessions = {key: session for key, session in self._sessions.items() if not self._is_over(session, now)}
