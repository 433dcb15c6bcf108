"""Fixtures for all tests: simulated experts and a real gateway, each on its own socket."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog

from gateway.settings import Settings
from gateway.sim.experts import SimExpert
from gateway.sim.server import SimServer
from router import Scorer
from tests.harness import RunningGateway, run_gateway

pytest_plugins = ["tests.fixtures_sim", "tests.fixtures_admin"]

StartGateway = Callable[..., Awaitable[RunningGateway]]


def quick_expert(model: str, domain: str = "general", **options: Any) -> SimExpert:
    """A simulated expert that answers at once."""
    return SimExpert(model, domain, time_to_first_token_s=0, tokens_per_second=0, **options)


# A busy test machine must not look like a late classifier.
DEFAULTS: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "log_requests": False},
    "health": {"interval_s": 0.2},
    "router": {"deadline_s": 5},
    "breaker": {"busy_s": 0.001},
}


def settings_for(experts: dict[str, Any], **sections: Any) -> Settings:
    """Settings with these experts (`generalist` among them), short probes and a patient classifier deadline."""
    specialists = {name: expert for name, expert in experts.items() if name != "generalist"}
    merged = {name: {**DEFAULTS.get(name, {}), **section} for name, section in {**DEFAULTS, **sections}.items()}
    return Settings.model_validate({"generalist": experts["generalist"], "experts": specialists, **merged})


@pytest.fixture
async def start_gateway() -> AsyncIterator[StartGateway]:
    """Start gateways: `await start_gateway(settings, scorer=None)`."""
    async with AsyncExitStack() as stack:

        async def start(settings: Settings, scorer: Scorer | None = None) -> RunningGateway:
            return await stack.enter_async_context(run_gateway(settings, scorer))

        yield start


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what `logs.configure` did in this process: loggers would keep writing to a stream of the test before."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        for name, module in list(sys.modules.items()):
            if name.startswith("gateway.") and "log" in vars(module):
                vars(vars(module)["log"]).pop("bind", None)  # where structlog caches a logger on its first use


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI a run that tested nothing, everything skipped, is a failure: exit 5, as for nothing collected."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and not session.config.option.collectonly:
        ran = sum(len(reporter.stats.get(outcome, [])) for outcome in ("passed", "failed", "error"))
        if not ran:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


class Town:
    """A gateway with three simulated experts: generalist, math, coding."""

    def __init__(self, gateway: RunningGateway, servers: dict[str, SimServer]) -> None:
        self.gateway = gateway
        self.servers = servers


@pytest.fixture
def start_town(start_gateway: StartGateway, sim_server: Any) -> Callable[..., Awaitable[Town]]:
    """Start a town: `await start_town(experts={...changes}, **sections)`; the sims answer at once."""

    async def start(
        *, changes: dict[str, dict[str, Any]] | None = None, scorer: Scorer | None = None, **sections: Any
    ) -> Town:
        servers, experts = {}, {}
        for name in ("generalist", "math", "coding"):
            servers[name] = await sim_server(quick_expert(f"sim/{name}", name))
            domains = {} if name == "generalist" else {"domains": [name]}
            price = {"input": 1.0, "output": 2.0}
            experts[name] = {"model": f"sim/{name}", "upstreams": [servers[name].url], "price": price, **domains}
            experts[name] |= (changes or {}).get(name, {})
        return Town(await start_gateway(settings_for(experts, **sections), scorer), servers)

    return start


@pytest.fixture
async def town(start_town: Callable[..., Awaitable[Town]]) -> Town:
    """A town with default settings."""
    return await start_town()
