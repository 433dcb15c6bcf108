"""Asks a server that one caller's failing requests had ejected for one token of our own. Decides nothing else.

Five 500s that one client provokes, with a prompt that the server cannot take, must not cost all others an expert for
half a minute; yet a server that fails everybody may have one caller only. No count tells the two apart, but the server
does: it is left alone at once, asked something harmless, and taken back when it answers that. The price is one token,
and milliseconds without the server, for each five of such failures. Waiting for failures of two callers was rejected:
where all have one key, a dead server would be asked for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from gateway.errors import UpstreamError
from gateway.leases import UpstreamState
from gateway.settings import TimeoutSettings
from gateway.types import Endpoint, Expert
from gateway.upstream import UpstreamClient, UpstreamResponse

ANSWER_S = 10.0
ANSWER_BYTES = 2**20
_PROMPT = "Hello"
_BODIES: tuple[tuple[Endpoint, dict[str, object]], ...] = (
    (Endpoint.CHAT, {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 1}),
    (Endpoint.COMPLETIONS, {"prompt": _PROMPT, "max_tokens": 1}),
    (Endpoint.RESPONSES, {"input": _PROMPT, "max_output_tokens": 1}),
    (Endpoint.MESSAGES, {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 1}),
    (Endpoint.EMBEDDINGS, {"input": _PROMPT}),
)


class SecondLook:
    """Looks, in tasks of its own, until `stop`.

    Args:
        client: the way to the servers.
        timeouts: limits in seconds.
    """

    def __init__(self, client: UpstreamClient, timeouts: TimeoutSettings) -> None:
        self._client = client
        self._timeouts = timeouts
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, state: UpstreamState, experts: Sequence[Expert], epoch: int) -> None:
        """Look at a server whose ejection is in doubt; it ends when the server answers.

        Args:
            state: the server.
            experts: those that are there; the first is asked.
            epoch: of the breaker, so that a late answer says nothing of a later ejection.
        """
        task = asyncio.get_running_loop().create_task(self._look(state, experts[0], epoch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End all looks."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, state: UpstreamState, expert: Expert, epoch: int) -> None:
        endpoint, body = next((each for each in _BODIES if each[0] in expert.serves), _BODIES[0])
        headers = {"content-type": "application/json", "user-agent": "pointsman"}
        if expert.authorization is not None:
            headers["authorization"] = expert.authorization
        sent = orjson.dumps({"model": expert.model, **body})
        try:
            async with asyncio.timeout(min(ANSWER_S, self._timeouts.first_token_s)):
                url, connect_s = state.url + endpoint.path, self._timeouts.connect_s
                well = await _is_well(await self._client.post(url, sent, headers, connect_s))
        except (UpstreamError, TimeoutError):
            return
        if well:
            state.breaker.cleared(epoch)


async def _is_well(response: UpstreamResponse) -> bool:
    """Tell whether it is an answer, or a refusal by a server that is busy; a 4xx comes from a dead engine as well."""
    try:
        if response.status in (429, 503):
            return True
        body = await response.read_all(ANSWER_BYTES)
    finally:
        response.close()
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return response.status == 200 and isinstance(answer, dict) and not answer.get("error")
