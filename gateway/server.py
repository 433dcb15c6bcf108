"""Runs the application under uvicorn: socket, limits, signals. Knows nothing of requests."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable
from functools import partial

import structlog
import uvicorn
from fastapi import FastAPI

from gateway import logs
from gateway.admin.plane import plane_of
from gateway.admin.principals import NoAdminToken, named_tokens
from gateway.admin.server import AdminServer
from gateway.app import create_app
from gateway.connections import ConnectionLimits, Connections, fitting
from gateway.dashboard.app import dashboard
from gateway.draining import DrainingServer
from gateway.generation import UNUSABLE
from gateway.grants import OpenDoor, refuse_open_door
from gateway.protocol import GuardedProtocol
from gateway.record_keeping import ALONE, Share
from gateway.reload import ConfigSource
from gateway.settings import MissingSecret, Settings
from gateway.shared_metrics import SharedMetrics
from gateway.shared_switches import SharedSwitches
from gateway.state import Gateway
from gateway.workers import Command, Place, supervise

log = structlog.get_logger(__name__)

BACKLOG = 2048


class CannotServe(RuntimeError):
    """The gateway cannot start; the message says why."""


def run(
    settings: Settings,
    *,
    source: ConfigSource | None = None,
    on_listening: Callable[[str], None] | None = None,
    place: Place | None = None,
) -> int:
    """Serve until a signal says stop.

    Args:
        settings: a checked configuration.
        source: where it comes from; it is watched. None: the configuration stays as it is.
        on_listening: called with the base address once the gateway is about to listen.
        place: this process is a worker, and this is its place.

    Returns:
        What the process should exit with; see `DrainingServer`.

    Raises:
        CannotServe: no key on a public address, no token for the admin API, a missing secret or one given twice, a bad
            artifact or quality table, a threshold for a domain the classifier does not have, a file for feedback or a
            store of records that cannot be used, or a taken port.
    """
    if source is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    logs.configure(settings.server.log_level)
    try:
        share = ALONE if place is None else Share(str(place.folder), tidies=place.number == 0)
        app = create_app(settings, source=source, share=share)
        if place is not None:
            app.state.switches = _switches(app.state.gateway, place)
        if settings.admin.port is not None and (place is None or place.number == 0):
            app.state.admin = _admin(app, settings, workers=1 if place is None else settings.server.workers)
    except (*UNUSABLE, NoAdminToken) as error:
        raise CannotServe(str(error)) from error
    if place is None:
        control, listening = None, listen(settings.server.host, settings.server.port)
        address = _tell(listening)
        if on_listening is not None:
            on_listening(address)
    else:
        control, listening = socket.socket(fileno=place.control), socket.socket(fileno=place.listening)
        control.setblocking(False)
        app.state.shared_metrics = SharedMetrics(app.state.gateway.metrics, place.folder, place.number)
    # What exists now lives as long as the process: without it in every collection, requests cost a tenth less CPU.
    gc.collect()
    gc.freeze()
    reloader = app.state.reloader
    server = DrainingServer(
        uvicorn_config(app, settings),
        app.state.gateway,
        on_hangup=reloader.ask if reloader else None,
        control=control,
    )
    server.run(sockets=[listening])
    return server.exit_code


def run_workers(settings: Settings, count: int, command: Command) -> int:
    """Serve with several processes until a signal says stop.

    Args:
        settings: a checked configuration.
        count: how many.
        command: makes the command line of a worker, which is to call `run` with its place.

    Returns:
        What the process should exit with; see `workers.supervise`.

    Raises:
        CannotServe: no key on a public address, or a taken port; the rest is told by the workers.
    """
    logs.configure(settings.server.log_level)
    try:
        refuse_open_door(settings)
        if settings.admin.port is not None:
            named_tokens(settings)
    except (OpenDoor, NoAdminToken, MissingSecret) as error:
        raise CannotServe(str(error)) from error
    with listen(settings.server.host, settings.server.port) as listening:
        _tell(listening)
        return supervise(count, listening, command)


def _admin(app: FastAPI, settings: Settings, *, workers: int) -> AdminServer:
    """Open the admin API's port; it is served while the application is.

    Raises:
        CannotServe: a taken port.
        NoAdminToken, MissingSecret, StoreError: see `named_tokens` and `plane_of`.
    """
    tokens = app.state.admin_tokens
    tokens.change_fixed(named_tokens(settings))
    plane = plane_of(app.state.gateway, tokens, app.state.reloader, workers=workers, switches=app.state.switches)
    part = dashboard if settings.admin.dashboard else None
    return AdminServer(plane, listen(settings.admin.host, settings.admin.port or 0), part)


def _switches(gateway: Gateway, place: Place) -> SharedSwitches:
    return SharedSwitches(lambda url, on: gateway.current.fleet.switch(url, on=on), place.folder)


def _tell(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("listening", address=address)
    return address


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn is to run the application; tests run it the same way."""
    return uvicorn.Config(
        app,
        http=partial(GuardedProtocol, connections=_connections(app.state.gateway)),  # type: ignore[arg-type]  # a factory
        ws="none",
        interface="asgi3",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=int(settings.server.drain_s),
        proxy_headers=False,
    )


def _connections(gateway: Gateway) -> Connections:
    def limits() -> ConnectionLimits:
        server, timeouts = gateway.settings.server, gateway.settings.timeouts
        return ConnectionLimits(
            most=fitting(server.connections),
            keep_alive_s=timeouts.keep_alive_s,
            head_s=timeouts.head_read_s,
            rest_s=timeouts.body_read_s,
            write_s=timeouts.client_write_s,
        )

    refused = gateway.metrics.refused_connections
    connections = Connections(limits, lambda code: refused.labels(code).inc())
    gateway.metrics.connections.set_function(lambda: len(connections))
    return connections


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one.

    Raises:
        CannotServe: the address is taken or not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening
