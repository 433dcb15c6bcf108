"""What `experts.yaml` says of failing and busy servers: breaker, retries, concurrency, overload, balancing.

The defaults are those of Envoy where it has the same limit (OPERATIONS 1.1); where language models need another,
the field's owner says why. Nothing here counts or waits.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import Field, model_validator

from gateway.settings.common import Seconds, Share, Strict


class BreakerSettings(Strict):
    """When a server that fails is left alone, and how it comes back."""

    local_failures: int = Field(
        5, ge=1, description="Failed connections, resets and timeouts in a row after which a server is ejected."
    )
    server_failures: int = Field(
        5, ge=1, description="5xx answers and broken bodies or streams in a row after which a server is ejected."
    )
    failure_share: Share = Field(
        0.5, gt=0, description="Share of failures from which a server is ejected when another can take its work."
    )
    window_s: Seconds = Field(30, description="Time over which `failure_share` is counted.")
    minimum_requests: int = Field(20, ge=1, description="Fewest requests in that time for `failure_share` to count.")
    ejection_s: Seconds = Field(30, description="First ejection; the second in a row lasts twice as long, and so on.")
    longest_ejection_s: Seconds = Field(300, description="Longest ejection.")
    forget_s: Seconds = Field(60, description="After so long in service one earlier ejection is forgotten.")
    ramp_s: Seconds = Field(10, description="Time in which a server that comes back gets its full share again.")
    busy_s: Seconds = Field(
        0.1,
        description="Rest of a server that is busy (429, 503) and does not say how long; doubles up to five times.",
    )
    longest_busy_s: Seconds = Field(60, description="Longest rest, whatever `retry-after` says.")

    @model_validator(mode="after")
    def _limits_hold(self) -> Self:
        if self.ejection_s > self.longest_ejection_s:
            raise ValueError("ejection_s must not be above longest_ejection_s")
        if self.busy_s > self.longest_busy_s:
            raise ValueError("busy_s must not be above longest_busy_s")
        return self


class RetrySettings(Strict):
    """How many requests may be at a further try at once; a failed connection costs nobody anything and is free."""

    share: Share = Field(0.2, description="Most of the running requests that may be at a further try at once.")
    minimum: int = Field(3, ge=0, description="So many may in any case.")
    wait_s: Seconds = Field(2, description="Longest wait of a further try for one that is under way.")


class ConcurrencySettings(Strict):
    """How much one server gets at once, and what waits for it."""

    requests: int = Field(1_024, ge=1, le=1_000_000, description="Most requests open at one server.")
    queue: int = Field(256, ge=0, le=1_000_000, description="Most requests that wait for one server.")
    queue_s: Seconds = Field(1, description="Longest wait for a place at a server.")


class OverloadSettings(Strict):
    """When the gateway itself takes no more."""

    requests: int = Field(4_096, ge=1, le=1_000_000, description="Most requests in one process.")
    pressure: Share = Field(
        0.8, description="From this share of the limit on, a key gets no more than its fair share of it."
    )
    loop_lag_s: Seconds = Field(0.2, description="Lag of the event loop that lowers the limit.")
    queue_age_s: Seconds = Field(1, description="Wait for what all requests share that lowers the limit.")
    retry_after_s: Seconds = Field(1, description="What `retry-after` tells those who are refused.")


class BalancingSettings(Strict):
    """Which of an expert's servers gets a request."""

    affinity: bool = Field(
        True, description="Requests of one conversation go to one server, which has its prefix cached."
    )
    affinity_excess: float = Field(
        0.5,
        ge=0,
        le=100,
        description="How far above the average load it may be for that; beyond, the next one gets it.",
    )
    affinity_slack: int = Field(4, ge=1, description="So many requests at a server never count as too many.")
    server_load: bool = Field(
        False, description="Read servers' queues and caches from their `/metrics` with every probe."
    )
    load_fresh_s: Seconds = Field(5, description="How long what a server said of its load counts.")


class Reliability(NamedTuple):
    """The settings that a fleet takes besides those of health."""

    breaker: BreakerSettings = BreakerSettings()
    concurrency: ConcurrencySettings = ConcurrencySettings()
    balancing: BalancingSettings = BalancingSettings()


DEFAULTS = Reliability()
