"""Changes the configuration's file for administrators: check, write, take over; put back what is not taken.

One change at a time, and nothing else here writes files. The file stays the one source: what is applied is what a
restart reads. It is replaced by renaming, so nobody ever reads half of it. Not everything can be changed this way: the
section `admin` cannot, or a token for the API would be worth more than the file's owner meant.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from gateway.admin.addresses import refused_reason
from gateway.admin.errors import ConfigInvalid, Conflict, NotThere, StoreDown, explained, of_config, of_message
from gateway.admin.threads import Threads
from gateway.errors import Forbidden
from gateway.generation import UNUSABLE, Plan
from gateway.reload import Outcome, Reload, Reloader
from gateway.settings import Settings
from gateway.settings_file import MAXIMUM_BYTES, ConfigError, Problem, parse
from gateway.state import Gateway
from gateway.stores.config_history import ConfigHistory, HistoryUnavailable
from gateway.stores.records.contract import microseconds

log = structlog.get_logger(__name__)

FOUND = "found"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a change.

    Attributes:
        outcome: `applied` or `unchanged`.
        version: of the configuration in use now.
        file_version: of the file.
        need_restart: settings that only count after a restart.
        number: of the change in the history; None when it is not kept.
    """

    outcome: str
    version: str
    file_version: str
    need_restart: tuple[str, ...]
    number: int | None


class ConfigFile:
    """The file of one gateway.

    Args:
        gateway: uses it.
        reloader: takes it over.
        history: keeps what was applied; None: nothing is kept.
        threads: for files and checks.
    """

    def __init__(self, gateway: Gateway, reloader: Reloader, history: ConfigHistory | None, threads: Threads) -> None:
        self._gateway = gateway
        self._reloader = reloader
        self._history = history
        self._threads = threads
        self._changing = asyncio.Lock()

    async def read(self) -> tuple[str, str]:
        """Return the file's text and its version.

        Raises:
            StoreDown: it cannot be read.
        """
        content = await self._threads.files(self._read)
        return content.decode("utf-8", "replace"), version_of(content)

    async def validate(self, text: str) -> Settings:
        """Check a configuration as a reload would. Changes nothing that is in use.

        Raises:
            ConfigInvalid: it cannot be used.
        """
        return (await self.plan(text)).settings

    async def plan(self, text: str) -> Plan:
        """Check a configuration and return all that follows from it. Changes nothing that is in use.

        Raises:
            ConfigInvalid: it cannot be used.
        """
        return await self._threads.files(lambda: self._check(text.encode(), trusted=False))

    async def apply(self, text: str, base_version: str | None, who: str, *, trusted: bool = False) -> Change:
        """Write the file and use it.

        Args:
            text: the whole file.
            base_version: the version of the file that the text was made from; None: whatever is there.
            who: for the history.
            trusted: it was in the file before, so its addresses and variables are not looked at.

        Raises:
            Forbidden: `admin.read_only`.
            Conflict: the file has changed meanwhile.
            ConfigInvalid: it cannot be used; the file is as it was.
            StoreDown: the file cannot be read or written.
        """
        if self._gateway.settings.admin.read_only:
            raise Forbidden("The configuration is read-only here (admin.read_only).", code="config_read_only")
        new = text.encode()
        # Who asked may leave: a change that has begun is ended, and put back if need be.
        return await asyncio.shield(asyncio.ensure_future(self._apply(new, base_version, who, trusted=trusted)))

    async def roll_back(self, number: int, who: str) -> Change:
        """Apply an earlier configuration again.

        Raises:
            NotThere: the history has no such entry, or there is no history.
            Forbidden, ConfigInvalid, StoreDown: see `apply`.
        """
        if self._history is None:
            raise NotThere("No history is kept: set admin.database.", code="history_disabled")
        history = self._history

        def find() -> str | None:
            with explained():
                found = history.find(number)
                return None if found is None else found.text

        text = await self._threads.files(find)
        if text is None:
            raise NotThere("The history has no such number.", param="number", code="version_not_found")
        return await self.apply(text, None, who, trusted=True)

    async def _apply(self, new: bytes, base_version: str | None, who: str, *, trusted: bool) -> Change:
        async with self._changing:
            return await self._apply_alone(new, base_version, who, trusted=trusted)

    async def _apply_alone(self, new: bytes, base_version: str | None, who: str, *, trusted: bool) -> Change:
        old = await self._threads.files(self._read)
        if base_version is not None and base_version != version_of(old):
            raise Conflict("The file has changed meanwhile: read it again.", param="base_version")
        await self._threads.files(lambda: self._check(new, trusted=trusted))
        await self._threads.files(lambda: self._write(new, old, version=self._gateway.catalog.version))
        before = self._gateway.catalog.version
        result = await self._reloader.reload("admin")
        if result.outcome is Outcome.UNCHANGED and result.version != before:
            result = replace(result, outcome=Outcome.APPLIED)  # the watcher saw the file first
        number = await self._threads.files(lambda: self._keep(new, who, result.outcome.value, result.version))
        if result.outcome is Outcome.INVALID:
            await self._threads.files(lambda: self._put_back(old, new))
            raise self._refused(result)
        return Change(result.outcome.value, result.version, version_of(new), result.need_restart, number)

    def _refused(self, result: Reload) -> ConfigInvalid:
        path = f"{self._reloader.source.path}"
        return ConfigInvalid([Problem(0, "", text.replace(path, "the file")) for text in result.problems])

    def _check(self, text: bytes, *, trusted: bool) -> Plan:
        source = self._reloader.source
        if len(text) > MAXIMUM_BYTES:
            raise of_message(f"larger than {MAXIMUM_BYTES} bytes")
        try:
            settings = source.adjust(parse(text, source.path.name).anchored(source.path.parent))
            problems = [*self._fixed(settings), *([] if trusted else self._distrusted(settings))]
            if problems:
                raise ConfigInvalid(problems)
            return self._gateway.plan(settings)
        except ConfigError as error:
            raise of_config(error) from error
        except UNUSABLE as error:
            raise of_message(str(error)) from error

    def _fixed(self, settings: Settings) -> list[Problem]:
        source = self._reloader.source
        try:
            before = source.load().admin
        except ConfigError:
            before = self._gateway.settings.admin
        same = settings.admin == before
        return [] if same else [Problem(0, "admin", "can only be changed in the file itself")]

    def _distrusted(self, settings: Settings) -> list[Problem]:
        """Return what somebody with a token may not newly bring in: addresses and variables that give secrets away."""
        used, admin = self._gateway.settings.named_experts().values(), self._gateway.settings.admin
        known_urls = {url for expert in used for url in expert.upstreams}
        variables = {*admin.variables, *(expert.api_key_env for expert in used)}
        problems = []
        for name, expert in settings.named_experts().items():
            if expert.api_key_env is not None and expert.api_key_env not in variables:
                problems.append(Problem(0, f"{name}.api_key_env", "names a variable that is not in admin.variables"))
            denied = (*self._gateway.settings.server.denied_networks, *settings.server.denied_networks)
            for url in expert.upstreams:
                known = url in known_urls
                reason = None if known else refused_reason(url, link_local=admin.allow_link_local, denied=denied)
                if reason is not None:
                    problems.append(Problem(0, f"{name}.upstreams", reason))
        return problems

    def _read(self) -> bytes:
        try:
            return self._reloader.source.path.read_bytes()
        except OSError as error:
            raise _unreadable(error) from error

    def _write(self, new: bytes, old: bytes, version: str) -> None:
        """Keep what is there, in case nobody has, and replace it if nobody else has meanwhile."""
        self._keep_found(old, version)
        if self._read() != old:
            raise Conflict("The file has changed meanwhile: read it again.", param="base_version")
        try:
            replace_file(self._reloader.source.path, new)
        except OSError as error:
            raise _unreadable(error) from error

    def _put_back(self, old: bytes, new: bytes) -> None:
        try:
            if self._read() == new:  # else somebody else has written since, and knows why
                replace_file(self._reloader.source.path, old)
        except (OSError, StoreDown) as error:
            log.error("config_not_put_back", error=type(error).__name__)

    def _keep_found(self, old: bytes, version: str) -> None:
        text = old.decode("utf-8", "replace")
        with suppress(HistoryUnavailable):
            newest = self._history.find() if self._history is not None else None
            if self._history is not None and (newest is None or newest.text != text):
                self._keep(old, "", FOUND, version)

    def _keep(self, text: bytes, who: str, outcome: str, version: str) -> int | None:
        if self._history is None:
            return None
        try:
            now_us = microseconds(datetime.now(UTC))
            return self._history.add(now_us, who, version, outcome, text.decode("utf-8", "replace"))
        except HistoryUnavailable as error:
            # A full disk must not keep anybody from mending the configuration.
            log.error("config_history_failed", error=str(error))
            return None


def version_of(content: bytes) -> str:
    """Return what tells one file from another: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file's content at once: readers see all of the old or all of the new. Mode and owner stay.

    Raises:
        OSError: it could not be written; the old content is there.
    """
    target = path.resolve()  # a link stays one
    before = target.stat()
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unreadable(error: OSError) -> StoreDown:
    return StoreDown(f"The configuration's file: {error.strerror or type(error).__name__}.", code="config_unavailable")
