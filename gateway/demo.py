"""Starts simulated experts for a configuration, alone or with the gateway in front. Simulated things say so.

The demo with the gateway shows the dashboard too, with requests of simulated callers and a made-up week before them:
in stores of its own in a temporary folder, which goes with it. What a configuration names is never written to.
"""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import typer

from gateway import server
from gateway.demo_site import Site, quiet, site_for
from gateway.settings import ExpertSettings, Settings
from gateway.sim.command import run as run_servers
from gateway.sim.experts import SimExpert
from gateway.sim.server import SimServer

STOP_S = 5

BANNER = """
Pointsman listens on {address}. The experts behind it are SIMULATED: no model runs, answers say who would answer.

  curl -si {address}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the derivative of x^2 * sin(x)?"}}]}}'

  curl -sN {address}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "stream": true,
         "messages": [{{"role": "user", "content": "Why does my React list render twice?"}}]}}'

  curl -s {address}/v1/route -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Can my landlord keep my deposit?"}}]}}'

API documentation: {address}/docs    Metrics: {address}/metrics
{dashboard}
Stop with Ctrl-C.
"""


class CannotSimulate(RuntimeError):
    """The configuration's upstreams are not ours to imitate, or their ports are taken."""


def run_simulation(settings: Settings) -> None:
    """Serve simulated experts at the addresses the configuration names, until a signal says stop.

    Raises:
        CannotSimulate: an upstream is not on this machine, or its port is taken.
    """
    try:
        run_servers(_servers(settings))
    except OSError as error:
        raise CannotSimulate(f"a simulated expert cannot listen: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Extras:
    """What the demo has besides gateway and experts.

    Attributes:
        dashboard: pages about it, on a port of their own.
        per_second: how many requests simulated callers send, on average; 0: none, and no week before.
    """

    dashboard: bool = True
    per_second: float = 3.0


def run_demo(config: Path, settings: Settings, extras: Extras) -> None:
    """Run simulated experts in a process of their own, and the gateway in this one.

    Raises:
        CannotSimulate: see `run_simulation`.
        gateway.server.CannotServe: see `server.run`.
    """
    expected = len(_servers(settings))
    # Until the gateway takes signals itself: a demo that is ended early leaves no child and no folder behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with ExitStack() as stack:
        stack.enter_context(_simulation(config, expected))
        site: Site | None = None
        if extras.dashboard:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-demo-")))
            site = site_for(config, settings, folder)
            if extras.per_second and site.may_be_filled:
                typer.echo("Making up a week of requests, some seconds ...")
                site.make_up_the_past()

        def listening(address: str) -> None:
            typer.echo(BANNER.format(address=address, dashboard=_about(site, extras.per_second)))
            if site is not None and site.may_be_filled and extras.per_second:
                stack.enter_context(_callers(address, extras.per_second, site.settings))

        shown = quiet(settings) if site is None else site.settings
        server.run(shown, source=None if site is None else site.source, on_listening=listening)


def _about(site: Site | None, per_second: float) -> str:
    """Return the banner's lines on the dashboard."""
    if site is None:
        return ""
    told = f"\nDashboard: {site.url}"
    told += f"\n  Log in with {site.token}" if site.token else "\n  Log in with a token of your configuration."
    if not site.may_be_filled:
        return f"{told}\n  No simulated callers: your configuration has records of its own, or wants keys."
    if not per_second:
        return told
    return f"{told}\n  Simulated callers send {per_second:g} requests a second, and the week before is made up."


@contextmanager
def _callers(address: str, per_second: float, settings: Settings) -> Iterator[None]:
    """Run simulated callers as a child."""
    upstreams = sorted({url for expert in settings.named_experts().values() for url in expert.upstreams})
    options = [part for url in upstreams for part in ("--upstream", url)]
    with _child("gateway.sim.callers", address, "--per-second", str(per_second), *options):
        yield


@contextmanager
def _simulation(config: Path, expected: int) -> Iterator[None]:
    """Run `pointsman sim` as a child and wait until its experts listen: it prints a line for each."""
    with _child("gateway.cli", "sim", "--config", str(config)) as child:
        assert child.stdout is not None
        if not all(child.stdout.readline() for _ in range(expected)):
            raise CannotSimulate("the simulated experts did not start; what they said stands above")
        yield


@contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ours until the end of the block."""
    command = [sys.executable, "-m", module, *arguments]
    # Its own session: Ctrl-C reaches the gateway first, which then stops the child in order.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _servers(settings: Settings) -> list[SimServer]:
    """Return one simulated server per address; experts that share an address share the server."""
    experts: dict[str, list[SimExpert]] = {}
    for name, expert in settings.named_experts().items():
        for url in expert.upstreams:
            experts.setdefault(url, []).append(_sim_expert(name, expert))
    return [_server(url, tuple(served)) for url, served in experts.items()]


def _sim_expert(name: str, expert: ExpertSettings) -> SimExpert:
    return SimExpert(
        model=expert.model,
        domain=expert.domains[0] if expert.domains else name,
        serves=frozenset(endpoint.value for endpoint in expert.serves),
    )


def _server(url: str, experts: tuple[SimExpert, ...]) -> SimServer:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local or parts.port is None or parts.scheme != "http":
        raise CannotSimulate(f"{url} is not a loopback address with a port, so it cannot be simulated here")
    return SimServer(*experts, host=host, port=parts.port)
