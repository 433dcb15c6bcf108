"""Remembers which expert answered a conversation last. Recognises no conversation and decides nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.conversation import Conversation
from gateway.types import Decision, Reason

_STAYED = frozenset({Reason.SESSION, Reason.TOOL_LOCK})


class Session(NamedTuple):
    """What is known of a conversation after its last answer.

    Attributes:
        expert: name of the expert that answered.
        domain: what the conversation is about, as scored when its expert was chosen; None when nothing was scored.
        tokens: tokens of prompt and answer, which the expert's server may have cached.
        turns: answers so far of this expert in a row.
        conversation: what records call it.
    """

    expert: str
    domain: str | None = None
    tokens: int = 0
    turns: int = 1
    conversation: str = ""


class SessionStore(Protocol):
    """Where sessions are kept.

    Replicas of the gateway will share a store over the network; its lookups will be awaited, and bound by a deadline
    after which a request is decided as if it were a conversation's first.
    """

    def recall(self, conversation: Conversation) -> Session | None:
        """Return what is known of a conversation, None when it is new, forgotten or idle for too long."""
        ...

    def remember(self, conversation: Conversation, session: Session) -> None:
        """Keep a session until it has been idle for too long, or room is needed."""
        ...


class SessionTable:
    """Sessions in this process's memory; for the event loop only.

    Every turn has its own entry, so that a conversation continued from an earlier turn finds that turn's expert. All
    is O(1): an entry is idle since its last use, and the least recently used is always the first.

    Args:
        capacity: most turns.
        idle_s: how long an unused one is kept.
        clock: seconds, monotonic.
    """

    def __init__(self, capacity: int, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._idle_s = idle_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, Session]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def resize(self, capacity: int, idle_s: float) -> None:
        """Keep other limits from now on; what is over the capacity is forgotten at once."""
        self._capacity, self._idle_s = capacity, idle_s
        while len(self._entries) > capacity:
            self._entries.popitem(last=False)

    def recall(self, conversation: Conversation) -> Session | None:
        """Return the session of the longest prefix that is known; see `SessionStore`."""
        now = self._clock()
        for key in conversation.earlier:
            used_at, session = self._entries.get(key, (now, None))
            if session is None:
                continue
            if now - used_at > self._idle_s:
                del self._entries[key]
                continue
            self._put(key, now, session)
            return session
        return None

    def remember(self, conversation: Conversation, session: Session) -> None:
        """Keep a turn's session; see `SessionStore`."""
        if not conversation.own:
            return
        now = self._clock()
        self._put(conversation.own, now, session)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        self._drop_idle(now)

    def _put(self, key: bytes, now: float, session: Session) -> None:
        self._entries[key] = (now, session)
        self._entries.move_to_end(key)

    def _drop_idle(self, now: float) -> None:
        # Two for every one that comes: the idle are gone before long, and no request pays for many.
        for _ in range(2):
            oldest = next(iter(self._entries.values()))
            if now - oldest[0] <= self._idle_s:
                return
            self._entries.popitem(last=False)


def continued(session: Session | None, decision: Decision, expert: str, tokens: int, conversation: str = "") -> Session:
    """Return a conversation's session after an answer.

    Args:
        session: before it; None for a conversation's first answer.
        decision: what was decided.
        expert: name of the expert that answered, another than the decided one after a failure.
        tokens: tokens of prompt and answer.
        conversation: what records call it.
    """
    same = session is not None and session.expert == expert
    # A turn that stayed was not about what it scored as: that would move the conversation's subject bit by bit.
    domain = session.domain if session is not None and decision.reason in _STAYED else decision.domain
    turns = session.turns + 1 if same and session is not None else 1
    return Session(expert, domain, tokens, turns, conversation)
