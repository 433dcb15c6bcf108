"""What a strategy is given and what it gives back: the job, the calls it may make, the result. Makes no call itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import orjson

from gateway.answers import Opened, Usage
from gateway.types import Decision, Expert, RoutingInput


class Skip(StrEnum):
    """Why a strategy did not apply and the request was answered the plain way."""

    TOOLS = "tools"
    """Tools are offered, or the last message is a tool's result."""
    SEVERAL_ANSWERS = "several_answers"
    """The request wants more than one answer (`n`)."""
    NOT_ROUTED = "not_routed"
    """The client named the expert."""
    CAPABILITY = "capability"
    """The expert cannot do what the strategy needs (`cascade`: `logprobs`)."""
    SAME_EXPERT = "same_expert"
    """The request is already decided for the expert that it would be escalated to."""
    INELIGIBLE = "ineligible"
    """An expert that the strategy needs cannot take the request."""
    PRICE_CAP = "price_cap"
    """All calls together may cost more than the request may, or than is left of the budget."""
    CLEAR = "clear"
    """No close call: the best domain leads by more than the strategy's margin."""
    NO_SCORES = "no_scores"
    """Nothing was scored."""
    NO_SPECIALIST = "no_specialist"
    """No specialist is near the prompt's domain."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request that wants one answer.

    Attributes:
        body: the client's body; read only.
        stream: the client wants a stream.
        decision: who answers the plain way.
        routing: what was known when it was decided.
    """

    body: Mapping[str, Any]
    stream: bool
    decision: Decision
    routing: RoutingInput

    def candidate(self, name: str) -> Expert | None:
        """Return the expert of that name if it may be called for this request."""
        expert = self.routing.catalog.experts.get(name)
        return expert if expert is not None and self.routing.candidate(expert) is not None else None

    @property
    def chain(self) -> tuple[Expert, ...]:
        """Who answers the plain way, in order: the chosen expert and its fallbacks."""
        return (self.decision.expert, *self.decision.fallbacks)


@dataclass(slots=True, eq=False)
class Call:
    """One call of an expert.

    Attributes:
        expert: who was asked first; who answered, once it has.
        usage: tokens it cost; a strategy fills in an estimate where it drops a call before it says so itself.
        spare: tokens of an answering call that are not in the answer.
        opened: the answer.
    """

    expert: Expert
    usage: Usage = field(default_factory=Usage)
    spare: Usage = field(default_factory=Usage)
    opened: Opened | None = None

    @property
    def answer(self) -> Opened:
        """The answer of a call that was answered."""
        assert self.opened is not None, "not answered"
        return self.opened

    @property
    def answered(self) -> bool:
        """It was answered, and not by an error."""
        return self.opened is not None and self.opened.status == 200

    @property
    def refused(self) -> bool:
        """The expert blames the request: it would be refused everywhere, so it goes back to the client."""
        return self.opened is not None and 400 <= self.opened.status < 500 and self.opened.status != 429

    def body(self) -> dict[str, Any]:
        """Return a plain answer's JSON; empty when it is not an object."""
        try:
            body = orjson.loads(self.answer.first)
        except orjson.JSONDecodeError:
            return {}
        return body if isinstance(body, dict) else {}

    def drop(self) -> None:
        """Close a stream that nobody reads on: that is how its server learns to stop."""
        if self.opened is not None:
            self.opened.lease.close()


class Result(NamedTuple):
    """What a strategy answers.

    Attributes:
        call: the call that answered; all others were extra.
        opened: what is sent to the client.
        outcome: what happened, one word of a closed set.
    """

    call: Call
    opened: Opened
    outcome: str


class Calls(Protocol):
    """What a strategy may do."""

    event_limit_bytes: int
    """Longest single event of a stream."""

    async def open(self, body: Mapping[str, Any], experts: Sequence[Expert]) -> Call:
        """Ask in the client's own mode, plain or streamed; the first expert that answers does. One at a time.

        Raises:
            UpstreamError: none of them did.
            ClientLeft: nobody waits any more.
        """
        ...

    async def ask(self, body: Mapping[str, Any], experts: Sequence[Expert], limit_s: float | None = None) -> Call:
        """Ask for a plain answer. Several tasks may do so at once; a cancelled one stops its expert.

        Args:
            body: what to ask; `stream` and its options are taken out.
            experts: the first one that answers does.
            limit_s: longest wait; None: the expert's own limit.

        Raises:
            UpstreamError: none of them did, or not in time.
        """
        ...

    async def read(self, call: Call) -> bytes:
        """Read on in a stream that is not yet being sent to the client; empty at the end.

        Raises:
            UpstreamError: it broke, or fell silent.
        """
        ...
