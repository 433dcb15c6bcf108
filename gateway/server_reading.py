"""What a server says of itself: health, models and their context lengths, load. Judges nothing and has no deadline."""

from __future__ import annotations

import time
from contextlib import suppress

import structlog

from gateway.errors import UpstreamBadResponse
from gateway.leases import UpstreamState
from gateway.load import from_metrics
from gateway.model_list import listed
from gateway.upstream import UpstreamClient, UpstreamResponse

log = structlog.get_logger(__name__)

MODELS_LIMIT_BYTES = 2**21  # some 4,500 adapters


class ServerReader:
    """Reads servers' own pages.

    Args:
        client: the way to them.
        connect_s: longest wait for a connection; the rest is the caller's.
    """

    def __init__(self, client: UpstreamClient, connect_s: float) -> None:
        self._client = client
        self._connect_s = connect_s

    async def health(self, state: UpstreamState) -> int:
        """Return the status of the server's `/health`, which costs no tokens.

        Raises:
            UpstreamError: there was no answer.
        """
        return (await self._get(state, "/health"))[0]

    async def models(self, state: UpstreamState) -> None:
        """Note which models the server lists.

        Raises:
            UpstreamError: there was no answer.
        """
        try:
            status, body = await self._get(state, "/v1/models")
        except UpstreamBadResponse:
            # Longer than we read: nothing is known then, but nothing is wrong with the server.
            status, body = 0, b""
        note_models(state, *listed(status, body))

    async def load(self, state: UpstreamState) -> None:
        """Note how busy the server says it is; what cannot be read changes nothing.

        Raises:
            UpstreamError: there was no answer.
        """
        with suppress(UpstreamBadResponse):
            status, page = await self._get(state, "/metrics")
            load = from_metrics(page, time.monotonic()) if status == 200 else None
            state.load = load or state.load

    async def _get(self, state: UpstreamState, path: str) -> tuple[int, bytes]:
        headers = {"authorization": state.authorization} if state.authorization else {}
        response: UpstreamResponse = await self._client.get(state.url + path, headers, self._connect_s)
        try:
            return response.status, await response.read_all(MODELS_LIMIT_BYTES)
        finally:
            response.close()


def note_models(state: UpstreamState, models: frozenset[str] | None, lengths: dict[str, int]) -> None:
    """Note what a server lists, and log what is gone or back.

    Args:
        state: the server.
        models: served model names; None: not known.
        lengths: context limits in tokens by name.
    """
    before = state.missing
    state.models, state.lengths = models, lengths
    for model in sorted(state.missing - before):
        log.warning("model_missing", upstream=state.url, model=model)
    for model in sorted(before - state.missing):
        log.info("model_listed", upstream=state.url, model=model)
