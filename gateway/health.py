"""What is known about every upstream: up or down, open requests, models and their lengths. Probes, but never decides.

Probes ask vLLM's `/health`, which costs no tokens, and read `/v1/models` for names and context lengths: a server can
be well and lack one expert's LoRA adapter. State lives on the event loop only, so there are no locks; policies see a
snapshot.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Self

import structlog

from gateway.adapters import AdapterLoader
from gateway.breaker import BreakerState, Rank, Why
from gateway.errors import UpstreamError
from gateway.leases import UpstreamState as UpstreamState
from gateway.metrics import Metrics
from gateway.second_look import SecondLook
from gateway.server_reading import ServerReader, note_models
from gateway.settings import HealthSettings, TimeoutSettings
from gateway.settings.reliability import DEFAULTS
from gateway.settings.reliability import Reliability as Reliability
from gateway.spread import Spread
from gateway.types import Catalog, Expert, Reason
from gateway.upstream import UpstreamClient

log = structlog.get_logger(__name__)

_MILDEST_FIRST = (None, Reason.SATURATED, Reason.ADAPTER_MISSING, Reason.UNHEALTHY)
MODELS_EVERY = 12  # probes; while something is missing, and after a failure, the list is read with every one


class Fleet:
    """All upstreams of one catalog; an async context manager that probes while it is open.

    Args:
        catalog: the experts.
        client: the way to their servers.
        metrics: where the servers are shown.
        health: when a server counts as down.
        timeouts: limits of probes.
        known: servers of a fleet before this one by address; those that stay keep all that is known of them, so that
            requests open there, failures and models go on being counted across a change of the configuration.
        reliability: when a server is left alone, how much it gets, and which of them gets a request.
        tell: called with the kind and the details of what happens to servers.
    """

    def __init__(
        self,
        catalog: Catalog,
        client: UpstreamClient,
        metrics: Metrics,
        health: HealthSettings,
        timeouts: TimeoutSettings,
        known: Mapping[str, UpstreamState] | None = None,
        reliability: Reliability = DEFAULTS,
        tell: Callable[..., None] = lambda kind, **detail: None,
    ) -> None:
        self._tell = tell
        self._catalog = catalog
        self._reader = ServerReader(client, timeouts.connect_s)
        self._metrics = metrics
        self._health = health
        self._timeouts = timeouts
        self._loader = AdapterLoader(client, metrics, timeouts.connect_s, health.interval_s)
        self._second_look = SecondLook(client, timeouts)
        self._tasks: list[asyncio.Task[None]] = []
        self._sharing = _sharing(catalog)
        self._known = known or {}
        self.states = {url: self._known.get(url) or _state(url, experts) for url, experts in self._sharing.items()}
        self._reads_load = reliability.balancing.server_load
        self._spread = Spread(reliability.balancing, random.Random())
        for state in self.states.values():
            state.breaker.configure(
                reliability.breaker,
                partial(self._spare, state),
                partial(self._announce, state.url),
                partial(self._second_look.take, state, self._sharing[state.url]),
            )
            limits = reliability.concurrency
            most = max(expert.max_open or limits.requests for expert in self._sharing[state.url])
            state.limiter.configure(most, limits.queue, limits.queue_s)
            if self._known and state.url not in self._known:
                state.breaker.ramp()

    def publish(self) -> None:
        """Show the servers and experts in the metrics, from now on as this fleet knows them."""
        for state in self.states.values():
            self._metrics.reliability.watch_upstream(state)
        for expert in self._catalog.experts.values():
            self._metrics.watch_expert(expert.name, partial(self.usable, expert))

    async def __aenter__(self) -> Self:
        """Probe all that is not known, so that the first request knows who is up, then keep probing and loading."""
        unknown = [state for state in self.states.values() if self._adopt(state)]
        await asyncio.gather(*(self._probe(state) for state in unknown))
        self._tasks = [asyncio.create_task(self._keep_probing(state)) for state in self.states.values()]
        for state in self.states.values():
            # Of experts that share server and model, the first one that names an adapter says where it lies.
            loadable = {e.model: e for e in reversed(self._sharing[state.url]) if e.adapter is not None}
            if loadable:
                reread = partial(self._reread_models, state)
                self._tasks.append(asyncio.create_task(self._loader.tend(state, tuple(loadable.values()), reread)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop probing and loading."""
        await self.stop()

    async def stop(self) -> None:
        """Stop probing and loading; requests may go on. A second call does nothing."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._second_look.stop()

    def _adopt(self, state: UpstreamState) -> bool:
        """Bring a server that is known already up to this catalog. Returns whether it has to be probed now."""
        fresh = _state(state.url, self._sharing[state.url])
        same = (state.authorization, state.expected) == (fresh.authorization, fresh.expected)
        state.authorization, state.expected = fresh.authorization, fresh.expected
        if not same and state.probes:
            state.probes = MODELS_EVERY  # The list is to be read with the next probe, and is not the first one's.
        return not same or state.url not in self._known

    def state_of(self, expert: Expert) -> Reason | None:
        """Return why the expert cannot answer now: no server is up, or none that is has its model; None if it can."""
        reasons = set()
        for upstream in expert.upstreams:
            reason = self._state_of(self.states[upstream.url], expert.model)
            if reason is None:
                return None
            reasons.add(reason)
        return next((reason for reason in _MILDEST_FIRST if reason in reasons), Reason.UNHEALTHY)

    def _state_of(self, state: UpstreamState, model: str) -> Reason | None:
        rank = state.breaker.rank
        if state.disabled or not state.up or rank is Rank.EJECTED:
            return Reason.UNHEALTHY
        if not state.has(model):
            return Reason.ADAPTER_MISSING
        return Reason.SATURATED if rank is Rank.SATURATED or state.limiter.refuses else None

    def takes(self, state: UpstreamState, expert: Expert) -> bool:
        """Tell whether a request may be sent there before the last resort."""
        return self._state_of(state, expert.model) in (None, Reason.SATURATED)

    def _rank(self, state: UpstreamState, model: str) -> int:
        reason = self._state_of(state, model)
        if reason is None:
            return state.breaker.rank
        return Rank.SATURATED + _MILDEST_FIRST.index(reason)

    def _spare(self, state: UpstreamState) -> bool:
        """Tell whether all experts of a server have another that takes requests."""
        return all(
            any(u.url != state.url and self.takes(self.states[u.url], expert) for u in expert.upstreams)
            for expert in self._sharing[state.url]
        )

    def _announce(self, url: str, state: BreakerState, why: Why | None) -> None:
        if why is not None:
            self._metrics.reliability.ejected(url, why)
            log.warning("upstream_ejected", upstream=url, why=why.value)
            self._tell("upstream_ejected", upstream=url, why=why.value)
        elif state is BreakerState.CLOSED:
            log.info("upstream_back", upstream=url)
            self._tell("upstream_back", upstream=url)

    def switch(self, url: str, *, on: bool) -> None:
        """Switch a server off or on, until the process ends. Requests that are open there go on.

        Raises:
            KeyError: no expert has such a server.
        """
        state = self.states[url]
        if state.disabled == on:
            state.disabled = not on
            state.breaker.ramp()
            log.info("upstream_switched", upstream=url, on=on)
            self._tell("upstream_on" if on else "upstream_off", upstream=url)

    def usable(self, expert: Expert) -> bool:
        """Tell whether at least one server of the expert is up and has its model."""
        return self.state_of(expert) is None

    def candidates(self, expert: Expert, key: bytes | None = None) -> list[UpstreamState]:
        """Return the expert's servers: first those that are up, have its model, and are least loaded; ties at random.

        Servers that are down or lack the model come last: when all are like that, trying one beats refusing. Those that
        are switched off are left out.
        """
        states = [state for state in (self.states[upstream.url] for upstream in expert.upstreams) if not state.disabled]
        return self._spread.order(states, lambda state: self._rank(state, expert.model), key)

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
            self._tell("upstream_down", upstream=state.url, why=state.last_error.code if state.last_error else why)
            state.up = False

    def succeeded(self, state: UpstreamState) -> None:
        """Note that the server answered."""
        state.failures = 0
        if not state.up:
            log.info("upstream_up", upstream=state.url)
            self._tell("upstream_up", upstream=state.url)
            state.up = True
            state.breaker.ramp()

    def lost(self, state: UpstreamState, model: str) -> None:
        """Note that a server said it has no such model; the next probe reads its list again."""
        known = state.expected if state.models is None else state.models
        note_models(state, known - {model}, state.lengths)

    async def _keep_probing(self, state: UpstreamState) -> None:
        while True:
            # Spread, so that replicas are not all probed in the same instant.
            pause_s = self._health.interval_s * random.uniform(0.8, 1.2)
            state.next_probe_at = time.monotonic() + pause_s
            await asyncio.sleep(pause_s)
            await self._probe(state)

    async def _probe(self, state: UpstreamState) -> None:
        try:
            async with asyncio.timeout(self._timeouts.health_s):
                status = await self._reader.health(state)
                if status == 200 and (state.probes % MODELS_EVERY == 0 or state.failures or state.missing):
                    await self._reader.models(state)
                if status == 200 and self._reads_load:
                    await self._reader.load(state)
        except (UpstreamError, TimeoutError) as error:
            # One failed first probe is enough: nothing is known in the server's favour yet.
            state.failures += self._health.failures if not state.probes else 0
            state.went_wrong(error.code if isinstance(error, UpstreamError) else "health_timeout", by_probe=True)
            self.failed(state, type(error).__name__)
            state.breaker.checked(False)
        else:
            state.breaker.checked(status == 200)
            if status == 200:
                self.succeeded(state)
            else:
                state.went_wrong(f"health_status_{status}", by_probe=True)
                self.failed(state, f"health {status}")
            state.probes += 1
        state.probed_at = time.monotonic()

    async def _reread_models(self, state: UpstreamState) -> None:
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(self._timeouts.health_s):
                await self._reader.models(state)


def _sharing(catalog: Catalog) -> dict[str, list[Expert]]:
    """Return the experts of every server address, in the catalog's order."""
    sharing: dict[str, list[Expert]] = {}
    for expert in catalog.experts.values():
        for upstream in expert.upstreams:
            sharing.setdefault(upstream.url, []).append(expert)
    return sharing


def _state(url: str, experts: list[Expert]) -> UpstreamState:
    key = next((expert.authorization for expert in experts if expert.authorization is not None), None)
    return UpstreamState(url, key, expected=frozenset(expert.model for expert in experts))
