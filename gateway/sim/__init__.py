"""Simulated vLLM experts: the demo's upstreams and the other side of every gateway test.

They speak vLLM's protocol, answer visibly as simulated, and fail on request. Nothing here imports the rest of the
gateway, so that a misreading of the protocol there meets an independent opposite.
"""

from gateway.sim.command import run, serve_forever
from gateway.sim.experts import EMBEDDING_SERVICES, TEXT_SERVICES, Service, SimExpert
from gateway.sim.handler import ReceivedRequest
from gateway.sim.server import SimServer

__all__ = [
    "EMBEDDING_SERVICES",
    "TEXT_SERVICES",
    "ReceivedRequest",
    "Service",
    "SimExpert",
    "SimServer",
    "run",
    "serve_forever",
]
