"""What the demo's dashboard needs: a port, a token, and stores in a temporary folder. Starts and serves nothing."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.demo_history import Past, write_history
from gateway.grants import needs_keys
from gateway.reload import ConfigSource
from gateway.settings import AdminSettings, FeedbackSettings, RecordSettings, Settings
from gateway.settings.prompts import PromptSettings
from gateway.settings.secrets import hand_over
from gateway.settings_file import ConfigError, load
from gateway.sim.callers import what_is_said

PORT = 8081
HOST = "127.0.0.1"
VARIABLE = "POINTSMAN_DEMO_ADMIN_TOKEN"
NOTICE = "A demo: all traffic here is simulated, and the past week is made up. No model runs."
# The made-up past ends a little before the live requests begin.
GAP = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Site:
    """A dashboard of the demo.

    Attributes:
        settings: the configuration, with what it lacks for a dashboard.
        source: a copy of the file, which may be changed through the dashboard; None where it cannot be copied.
        token: an administrator's, made for this run; None where the configuration has its own.
        may_be_filled: records go to the demo's own store, and callers need no key.
    """

    settings: Settings
    source: ConfigSource | None
    token: str | None
    may_be_filled: bool

    @property
    def url(self) -> str:
        """Return where its first page is."""
        admin = self.settings.admin
        return f"http://{admin.host}:{admin.port}{admin.base_path}/admin/"

    def make_up_the_past(self) -> None:
        """Write the week before; see `write_history`."""
        write_history(self.settings, what_is_said(), Past(datetime.now(UTC) - GAP))


def site_for(config: Path, settings: Settings, folder: Path) -> Site:
    """Return the dashboard for a configuration, and put its token into this process's environment.

    Args:
        config: the file.
        settings: what is in it, with the changes of the command line.
        folder: for the demo's stores; goes with the demo.
    """
    added = dict(_added(settings, folder))
    token = None
    if "admin" in added:
        token = secrets.token_urlsafe(18)
        hand_over(VARIABLE, token)
    server = settings.server

    def completed(found: Settings) -> Settings:
        listening = found.server.model_copy(update={"host": server.host, "port": server.port})
        return quiet(found.model_copy(update={**added, "server": listening}))

    filled = "records" in added and not needs_keys(settings)
    return Site(completed(settings), _copied(config, folder, completed), token, filled)


def quiet(settings: Settings) -> Settings:
    """Return the same settings for a terminal that should show the demo's own words only."""
    changed = {"log_requests": False, "log_level": "warning", "drain_grace_s": 0.0}
    return settings.model_copy(update={"server": settings.server.model_copy(update=changed)})


def _added(settings: Settings, folder: Path) -> Iterator[tuple[str, object]]:
    """Yield the sections that a dashboard needs and the configuration does not have."""
    if settings.admin.port is None:
        admin = AdminSettings(host=HOST, port=_free_port(), token_env=VARIABLE, notice=NOTICE)
        yield "admin", admin.model_copy(update={"database": str(folder / "admin.db")})
    if not settings.records.wanted:
        prompts = PromptSettings(enabled=True, share=0.05)
        yield "records", RecordSettings(database=str(folder / "records.db"), prompts=prompts)
    if settings.feedback.database is None:
        yield "feedback", FeedbackSettings(database=str(folder / "feedback.db"), per_minute=600)


def _copied(config: Path, folder: Path, adjust: Callable[[Settings], Settings]) -> ConfigSource | None:
    """Return a copy of the file that means the same where it is; None: it names other files by where it is."""
    copy = folder / "experts.yaml"
    shutil.copyfile(config, copy)
    with suppress(ConfigError):
        if load(copy) == load(config):
            return ConfigSource(copy, adjust)
    return None


def _free_port() -> int:
    """Return `PORT`, or another one where that is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    return PORT
