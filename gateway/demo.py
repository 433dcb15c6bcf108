"""Starts simulated experts for a configuration, alone or with the gateway in front. Simulated things say so."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import typer

from gateway import server
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

API documentation: {address}/docs    Metrics: {address}/metrics    Stop with Ctrl-C.
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


def run_demo(config: Path, settings: Settings) -> None:
    """Run simulated experts in a process of their own, and the gateway in this one.

    Raises:
        CannotSimulate: see `run_simulation`.
        gateway.server.CannotServe: see `server.run`.
    """
    expected = len(_servers(settings))
    with _simulation(config, expected):
        quiet = settings.server.model_copy(update={"log_requests": False, "log_level": "warning", "drain_grace_s": 0.0})
        server.run(
            settings.model_copy(update={"server": quiet}),
            on_listening=lambda address: typer.echo(BANNER.format(address=address)),
        )


@contextmanager
def _simulation(config: Path, expected: int) -> Iterator[None]:
    """Run `pointsman sim` as a child and wait until its experts listen: it prints a line for each."""
    command = [sys.executable, "-m", "gateway.cli", "sim", "--config", str(config)]
    # Its own session: Ctrl-C reaches the gateway first, which then stops the child in order.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert child.stdout is not None
        if not all(child.stdout.readline() for _ in range(expected)):
            raise CannotSimulate("the simulated experts did not start; what they said stands above")
        yield
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
