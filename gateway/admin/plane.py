"""The one object that owns what the admin API needs, beside the gateway itself. Serves no request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from gateway.admin.config_file import ConfigFile
from gateway.admin.errors import NotThere, explained
from gateway.admin.principals import Tokens
from gateway.admin.tail import Tail
from gateway.admin.threads import Threads
from gateway.keyring import AdminSessions, LoginThrottle
from gateway.reload import Reloader
from gateway.shared_switches import SharedSwitches
from gateway.state import Gateway
from gateway.stores.config_history import ConfigHistory
from gateway.stores.records.queries import Queries

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """What routes work with.

    Attributes:
        gateway: the running gateway; its live state is read on the event loop.
        tokens: who may come in.
        sessions: who has come in at the dashboard.
        tail: finished requests as they happen.
        reloader: takes over a changed file; None: the configuration comes from no file.
        config: changes that file; None as well then.
        history: configurations that were applied; None: none are kept.
        workers: how many processes serve; live state is this one's.
        switches: has the other workers switch servers; None: there are none.
        throttle: slows down who tries tokens.
        threads: for whatever would hold up the event loop.
        started: when, by the monotonic clock.
        started_at: when, in UTC.
    """

    gateway: Gateway
    tokens: Tokens
    sessions: AdminSessions
    tail: Tail
    reloader: Reloader | None = None
    config: ConfigFile | None = None
    history: ConfigHistory | None = None
    workers: int = 1
    switches: SharedSwitches | None = None
    throttle: LoginThrottle = field(default_factory=LoginThrottle)
    threads: Threads = field(default_factory=Threads)
    started: float = field(default_factory=time.monotonic)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def queries(self) -> Queries:
        """What can be asked of the store of records.

        Raises:
            NotThere: no records are kept.
        """
        records = self.gateway.records
        if records is None:
            raise NotThere(
                "No records are kept: set records.database or records.postgres_env.", code="records_disabled"
            )
        return records.queries

    async def ask(self, work: Callable[[Queries], Found]) -> Found:
        """Ask the store of records, in a thread and for some seconds at most.

        Raises:
            NotThere, StoreDown, QueryTooSlowError: there are no records, or they cannot be asked.
        """
        queries = self.queries

        def run() -> Found:
            with explained():
                return work(queries)

        return await self.threads.query(run)


def plane_of(
    gateway: Gateway,
    tokens: Tokens,
    reloader: Reloader | None = None,
    *,
    workers: int = 1,
    switches: SharedSwitches | None = None,
) -> Plane:
    """Put a plane together for a gateway and its configuration's file.

    Raises:
        gateway.stores.sqlite.StoreError: the file for the history cannot be used.
    """
    settings = gateway.settings
    path = settings.admin.database
    if path is None and settings.records.database is not None:
        path = f"{settings.records.database}.admin"
    history = None if path is None else ConfigHistory(path)
    if history is not None:
        history.check()
    threads = Threads()
    config = None
    if reloader is not None:
        config = ConfigFile(gateway, reloader, history, threads)
    sessions, tail = AdminSessions(tokens), Tail(lambda: gateway.recorder)
    return Plane(gateway, tokens, sessions, tail, reloader, config, history, workers, switches, threads=threads)
