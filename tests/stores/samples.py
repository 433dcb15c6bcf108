"""Records for tests: made up, by number, the same every time. Stores nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.context import Attempt, RouteRecord
from gateway.stores.records import RecordRow
from gateway.stores.records.tables import row_of

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
START_S = int(START.timestamp())
DOMAINS = {"math": "math", "coding": "coding", "law": "generalist", "general": "generalist", "health": "health"}

PLAIN = RouteRecord(
    request_id="r-0",
    timestamp=START,
    endpoint="chat",
    stream=False,
    request_model="auto",
    decided="math",
    chosen="math",
    response_model="sim/math",
    domain="math",
    confidence=0.91,
    margin=0.8,
    threshold=0.5,
    out_of_domain=0.1,
    disagreement=None,
    tier="fast",
    reason="confident",
    policy="balanced",
    key="team-a",
    variant="live",
    session=None,
    excluded={},
    expected_quality=0.7,
    expected_cost=0.0001,
    shadow_chosen=None,
    shadow_reason=None,
    status=200,
    error=None,
    attempts=1,
    strategy=None,
    strategy_outcome=None,
    calls=1,
    rewritten=False,
    rewrite=None,
    duration_s=0.5,
    overhead_s=0.002,
    classify_s=0.001,
    time_to_first_byte_s=0.1,
    input_tokens=100,
    output_tokens=50,
    cached_tokens=None,
    extra_input_tokens=0,
    extra_output_tokens=0,
    extra_cost=0.0,
    cost=0.00002,
    baseline_cost=None,
    saving=None,
    unpriced=None,
    currency="USD",
    price_version="2026-11",
    cache=None,
    cached=False,
    prompt_token_estimate=99,
    catalog_version="0123456789ab",
)


def record(number: int = 0, **changes: Any) -> RouteRecord:
    """The plain record, `number` seconds later."""
    later = {"request_id": f"r-{number}", "timestamp": START + timedelta(seconds=number)}
    return replace(PLAIN, **{**later, **changes})


def row(number: int = 0, **changes: Any) -> RecordRow:
    return row_of(record(number, **changes), [Attempt("math", "http://math:8000", "ok", 200)])


def mixed(count: int, *, seed: int = 7, step_s: float = 0.01) -> list[RouteRecord]:
    """Traffic as a gateway sees it: a few domains, mostly their experts, some errors."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        domain = chance.choice(list(DOMAINS))
        sure = chance.random() < 0.8
        found.append(
            replace(
                PLAIN,
                request_id=f"{chance.getrandbits(128):032x}",
                timestamp=START + timedelta(seconds=number * step_s),
                domain=domain,
                chosen=DOMAINS[domain] if sure else "generalist",
                reason="confident" if sure else "low_confidence",
                key=f"team-{number % 7}",
                confidence=round(chance.uniform(0.5, 1) if sure else chance.random() / 2, 4),
                margin=round(chance.random(), 4),
                status=200 if chance.random() < 0.97 else 503,
                duration_s=round(chance.lognormvariate(0, 1), 6),
                time_to_first_byte_s=round(chance.lognormvariate(-2, 0.7), 6),
                input_tokens=chance.randrange(2_000),
                output_tokens=chance.randrange(500),
            )
        )
    return found
