"""A town whose configuration lies in a file, and ways to change the file. Asserts only that a good change is taken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.reload import ConfigSource, Outcome, Reload, Reloader
from gateway.settings_file import dump
from gateway.state import Gateway
from tests.conftest import Town

StartTown = Callable[..., Awaitable[Town]]
LOOK_S = 0.03


@dataclass
class Configured:
    """A town with its configuration in a file."""

    town: Town
    path: Path
    reloader: Reloader

    @property
    def gateway(self) -> Gateway:
        gateway: Gateway = self.town.gateway.app.state.gateway
        return gateway

    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(self.path.read_text())
        return content

    def write(self, **sections: Any) -> None:
        """Replace sections of the file the way a careful editor does."""
        replace(self.path, json.dumps({**self.content(), **sections}))  # JSON is YAML

    async def change(self, **sections: Any) -> Reload:
        """Write and reload, and expect that all is well."""
        self.write(**sections)
        result = await self.reloader.reload("test")
        assert result.outcome is Outcome.APPLIED, result.problems
        return result

    def without(self, expert: str) -> dict[str, Any]:
        """The section `experts` less one."""
        return {name: value for name, value in self.content()["experts"].items() if name != expert}


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


@asynccontextmanager
async def configured(town: Town, path: Path) -> AsyncIterator[Configured]:
    gateway: Gateway = town.gateway.app.state.gateway
    replace(path, dump(gateway.settings))
    async with Reloader(gateway, ConfigSource(path), every_s=LOOK_S) as reloader:
        yield Configured(town, path, reloader)
