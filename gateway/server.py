"""Runs the application under uvicorn: socket, limits, signals. Knows nothing of requests."""

from __future__ import annotations

import gc
import ipaddress
import signal
import socket
from collections.abc import Callable

import structlog
import uvicorn
from fastapi import FastAPI

from gateway import logs
from gateway.app import create_app
from gateway.grants import SameKey
from gateway.protocol import GuardedProtocol
from gateway.settings import MissingSecret, Settings
from gateway.stores.sqlite import StoreError
from gateway.thresholds import UnknownDomain
from router import RouterError, load_scorer

log = structlog.get_logger(__name__)

# Longer than the idle timeout of the load balancers in front (ALB 60 s), or they answer 502 now and then.
KEEP_ALIVE_S = 75
BACKLOG = 2048


class CannotServe(RuntimeError):
    """The gateway cannot start; the message says why."""


def run(settings: Settings, *, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve until a signal says stop.

    Args:
        settings: a checked configuration.
        on_listening: called with the base address once the gateway is about to listen.

    Raises:
        CannotServe: no key on a public address, a missing secret or one given twice, a bad artifact or quality table,
            a threshold for a domain the classifier does not have, a file for feedback that cannot be used, or a taken
            port.
    """
    _refuse_open_door(settings)
    logs.configure(settings.server.log_level)
    try:
        scorer = load_scorer(settings.router.artifact, threads=settings.router.threads)
        app = create_app(settings, scorer=scorer)
    except (RouterError, MissingSecret, SameKey, UnknownDomain, StoreError) as error:
        raise CannotServe(str(error)) from error
    listening = listen(settings.server.host, settings.server.port)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    log.info("listening", address=address)
    if on_listening is not None:
        on_listening(address)
    # What exists now lives as long as the process: without it in every collection, requests cost a tenth less CPU.
    gc.collect()
    gc.freeze()
    # uvicorn raises a caught signal once more when it is done; a clean stop should exit with 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(uvicorn_config(app, settings)).run(sockets=[listening])


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn is to run the application; tests run it the same way."""
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        interface="asgi3",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.server.drain_s),
        proxy_headers=False,
    )


def _refuse_open_door(settings: Settings) -> None:
    server = settings.server
    if server.api_keys_env is None and not settings.keys and not server.open and not _is_loopback(server.host):
        raise CannotServe(
            f"refusing to listen on {server.host} without keys: set server.api_keys_env, or server.open: true "
            "to let everybody in"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
