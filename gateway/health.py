"""What is known about every upstream: up or down, open requests, model lengths. Probes, but never decides.

Probes ask vLLM's `/health`, which costs no tokens, and read `/v1/models` for context lengths. State lives on the
event loop only, so there are no locks; policies see a snapshot.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import orjson
import structlog

from gateway.errors import UpstreamError
from gateway.metrics import Metrics
from gateway.settings import HealthSettings, TimeoutSettings
from gateway.types import Catalog, Expert
from gateway.upstream import UpstreamClient, UpstreamResponse

log = structlog.get_logger(__name__)

MODELS_EVERY = 12  # probes; adapters come and go, so lengths are read again now and then
MODELS_LIMIT_BYTES = 2**20


@dataclass(slots=True)
class UpstreamState:
    """One server as we see it now."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    up: bool = True
    inflight: int = 0
    failures: int = 0
    probes: int = 0
    lengths: dict[str, int] = field(default_factory=dict)


class Lease:
    """One request open at an upstream: counted from its making to its `close`, which also closes the answer.

    Attributes:
        response: the answer, once there is one.
    """

    __slots__ = ("_state", "response")

    def __init__(self, state: UpstreamState) -> None:
        self._state: UpstreamState | None = state
        self.response: UpstreamResponse | None = None
        state.inflight += 1

    def close(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._state is not None:
            self._state.inflight -= 1
            self._state = None
            if self.response is not None:
                self.response.close()


class Fleet:
    """All upstreams of one catalog; an async context manager that probes while it is open."""

    def __init__(
        self,
        catalog: Catalog,
        client: UpstreamClient,
        metrics: Metrics,
        health: HealthSettings,
        timeouts: TimeoutSettings,
    ) -> None:
        self._client = client
        self._health = health
        self._timeouts = timeouts
        self._probing: list[asyncio.Task[None]] = []
        self.states = {
            upstream.url: UpstreamState(upstream.url, expert.authorization)
            for expert in catalog.experts.values()
            for upstream in expert.upstreams
        }
        for state in self.states.values():
            metrics.watch_upstream(state.url, partial(getattr, state, "inflight"), partial(getattr, state, "up"))

    async def __aenter__(self) -> Self:
        """Probe all once, so that the first request already knows who is up, then keep probing."""
        await asyncio.gather(*(self._probe(state) for state in self.states.values()))
        self._probing = [asyncio.create_task(self._keep_probing(state)) for state in self.states.values()]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop probing."""
        for task in self._probing:
            task.cancel()
        await asyncio.gather(*self._probing, return_exceptions=True)

    def usable(self, expert: Expert) -> bool:
        """Tell whether at least one server of the expert is up."""
        return any(self.states[upstream.url].up for upstream in expert.upstreams)

    def candidates(self, expert: Expert) -> list[UpstreamState]:
        """Return the expert's servers, those that are up and least loaded first; ties in random order.

        Servers that are down come last: when all are, trying one beats refusing.
        """
        states = [self.states[upstream.url] for upstream in expert.upstreams]
        if len(states) > 1:
            random.shuffle(states)
            states.sort(key=lambda state: (not state.up, state.inflight))
        return states

    def context_length(self, expert: Expert) -> int | None:
        """Return the context limit as configured, else the shortest any of its servers told."""
        if expert.context_length is not None:
            return expert.context_length
        known = [self.states[u.url].lengths.get(expert.model) for u in expert.upstreams]
        return min((length for length in known if length is not None), default=None)

    def failed(self, state: UpstreamState, why: str) -> None:
        """Note a failed probe or connection; enough of them in a row and the server counts as down."""
        state.failures += 1
        if state.up and state.failures >= self._health.failures:
            log.warning("upstream_down", upstream=state.url, why=why)
            state.up = False

    def succeeded(self, state: UpstreamState) -> None:
        """Note that the server answered."""
        state.failures = 0
        if not state.up:
            log.info("upstream_up", upstream=state.url)
            state.up = True

    async def _keep_probing(self, state: UpstreamState) -> None:
        while True:
            # Spread, so that replicas are not all probed in the same instant.
            await asyncio.sleep(self._health.interval_s * random.uniform(0.8, 1.2))
            await self._probe(state)

    async def _probe(self, state: UpstreamState) -> None:
        try:
            async with asyncio.timeout(self._timeouts.health_s):
                status = (await self._get(state, "/health"))[0]
                if status == 200 and state.probes % MODELS_EVERY == 0:
                    state.lengths = _lengths(*await self._get(state, "/v1/models"))
        except (UpstreamError, TimeoutError) as error:
            # One failed first probe is enough: nothing is known in the server's favour yet.
            state.failures += self._health.failures if not state.probes else 0
            self.failed(state, type(error).__name__)
        else:
            self.succeeded(state) if status == 200 else self.failed(state, f"health {status}")
            state.probes += 1

    async def _get(self, state: UpstreamState, path: str) -> tuple[int, bytes]:
        headers = {"authorization": state.authorization} if state.authorization else {}
        response: UpstreamResponse = await self._client.get(state.url + path, headers, self._timeouts.connect_s)
        try:
            return response.status, await response.read_all(MODELS_LIMIT_BYTES)
        finally:
            response.close()


def _lengths(status: int, body: bytes) -> dict[str, int]:
    """Read `max_model_len` per served name; an adapter has its parent's (vLLM lists it without one)."""
    try:
        cards: Any = orjson.loads(body)["data"] if status == 200 else []
        own = {card["id"]: card.get("max_model_len") for card in cards}
        found = {card["id"]: own[card["id"]] or own.get(card.get("parent")) for card in cards}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return {}
    return {name: length for name, length in found.items() if isinstance(length, int)}
