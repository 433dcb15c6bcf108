"""Who may be chosen: each exclusion alone, which one is told, and who is admitted when nobody is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import catalog as catalogs
from gateway.eligibility import Demand, eligible, refusal
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.types import LAST_RESORT, REFUSING, Candidate, Endpoint, Grant, Reason
from gateway.upstream import UpstreamClient
from tests.conftest import settings_for

EXPERTS: dict[str, Any] = {
    "generalist": {"model": "g", "upstreams": ["http://127.0.0.1:1"], "context_length": 4000},
    "math": {"model": "m", "upstreams": ["http://127.0.0.1:2"], "context_length": 1000, "capabilities": ["tools"]},
    "coding": {"model": "c", "upstreams": ["http://127.0.0.1:3"], "context_length": 4000, "serves": ["chat"]},
}
SETTINGS = settings_for(EXPERTS)
CATALOG = catalogs.build(SETTINGS)
NAMES = tuple(CATALOG.experts)


def fleet() -> Fleet:
    """Servers that were never probed, so all count as up."""
    return Fleet(CATALOG, UpstreamClient(), Metrics(), SETTINGS.health, SETTINGS.timeouts)


def everybody(**languages: frozenset[str]) -> tuple[Candidate, ...]:
    """All experts: a tenth of a dollar and a second for the generalist, the half of it for the others."""
    return tuple(
        Candidate(
            replace(expert, languages=languages.get(name, frozenset())),
            cost=0.1 if name == "generalist" else 0.05,
            latency_s=1.0 if name == "generalist" else 0.5,
        )
        for name, expert in CATALOG.experts.items()
    )


def split(demand: Demand, grant: Grant | None = None, down: tuple[str, ...] = (), **languages: Any) -> Any:
    """Return the names that may be chosen, and the excluded ones with their reasons."""
    servers = fleet()
    for name in down:
        servers.states[CATALOG.experts[name].upstreams[0].url].up = False
    able, excluded = eligible(everybody(**languages), demand, grant or Grant(), servers)
    return [candidate.expert.name for candidate in able], excluded


CHAT = Demand(Endpoint.CHAT)


@pytest.mark.parametrize(
    ("demand", "grant", "down", "able", "excluded"),
    [
        (CHAT, None, (), NAMES, {}),
        (Demand(Endpoint.COMPLETIONS), None, (), ("generalist", "math"), {"coding": Reason.CAPABILITY}),
        (
            Demand(Endpoint.CHAT, frozenset({"logprobs"})),
            None,
            (),
            ("generalist", "coding"),
            {"math": Reason.CAPABILITY},
        ),
        (CHAT, Grant("k", experts=frozenset({"math"})), (), ("math",), {n: Reason.FORBIDDEN for n in NAMES[::2]}),
        (replace(CHAT, price_cap=0.06), None, (), ("math", "coding"), {"generalist": Reason.PRICE_CAP}),
        (replace(CHAT, budget_left=0.06), None, (), ("math", "coding"), {"generalist": Reason.BUDGET}),
        (replace(CHAT, latency_s=0.7), None, (), ("math", "coding"), {"generalist": Reason.LATENCY}),
        (replace(CHAT, tokens=1001), None, (), ("generalist", "coding"), {"math": Reason.CONTEXT_LENGTH}),
        (CHAT, None, ("math",), ("generalist", "coding"), {"math": Reason.UNHEALTHY}),
    ],
)
def test_each_demand_excludes_who_does_not_meet_it(
    demand: Any, grant: Any, down: Any, able: Any, excluded: Any
) -> None:
    assert split(demand, grant, down) == (list(able), excluded)


@pytest.mark.parametrize("at", [1000, 1])
def test_what_just_fits_is_eligible(at: int) -> None:
    assert split(replace(CHAT, tokens=at, price_cap=0.1, budget_left=0.1, latency_s=1.0)) == (list(NAMES), {})


def test_language_excludes_experts_that_name_others() -> None:
    english: Any = {"math": frozenset({"en"}), "coding": frozenset({"en", "de"})}
    assert split(replace(CHAT, language="de"), **english) == (["generalist", "coding"], {"math": Reason.LANGUAGE})
    assert split(replace(CHAT, language=None), **english)[1] == {}


@pytest.mark.parametrize(
    ("demand", "down", "able", "reasons"),
    [
        (CHAT, NAMES, NAMES, {Reason.UNHEALTHY}),
        (replace(CHAT, tokens=9999), (), ("generalist", "coding"), {Reason.CONTEXT_LENGTH}),
        (replace(CHAT, tokens=9999), ("generalist",), ("coding",), {Reason.CONTEXT_LENGTH}),
        (replace(CHAT, tokens=9999), ("generalist", "coding"), ("generalist", "coding"), {Reason.CONTEXT_LENGTH}),
        (
            replace(CHAT, tokens=1001),
            ("generalist", "coding"),
            ("generalist", "coding"),
            {Reason.CONTEXT_LENGTH, Reason.UNHEALTHY},
        ),
        (replace(CHAT, tokens=1001), NAMES, ("generalist", "coding"), {Reason.CONTEXT_LENGTH, Reason.UNHEALTHY}),
        (
            replace(CHAT, tokens=1001, full=frozenset(NAMES)),
            (),
            ("generalist", "coding"),
            {Reason.CONTEXT_LENGTH, Reason.SATURATED},
        ),
        (replace(CHAT, latency_s=0.1), ("math",), ("generalist", "coding"), {Reason.LATENCY, Reason.UNHEALTHY}),
        (replace(CHAT, price_cap=0.01), (), (), {Reason.PRICE_CAP}),
        (replace(CHAT, price_cap=0.06), NAMES, ("math", "coding"), {Reason.PRICE_CAP, Reason.UNHEALTHY}),
    ],
)
def test_nobody_left_admits_the_mildest_exclusion_but_never_a_certain_one(
    demand: Any, down: Any, able: Any, reasons: Any
) -> None:
    found, excluded = split(demand, down=down)
    assert (found, set(excluded.values())) == (list(able), reasons)


@given(
    tokens=st.integers(0, 10_000),
    cap=st.none() | st.floats(0, 0.2),
    left=st.none() | st.floats(0, 0.2),
    latency=st.none() | st.floats(0, 2),
    down=st.sets(st.sampled_from(NAMES)),
    allowed=st.none() | st.frozensets(st.sampled_from(NAMES)),
)
def test_certain_exclusions_hold_and_somebody_is_left_otherwise(
    tokens: int, cap: Any, left: Any, latency: Any, down: Any, allowed: Any
) -> None:
    demand = replace(CHAT, tokens=tokens, price_cap=cap, budget_left=left, latency_s=latency)
    able, excluded = split(demand, Grant("k", experts=allowed), tuple(down))
    assert all(excluded.get(name) not in REFUSING for name in able)
    assert bool(able) == any(excluded.get(name) not in REFUSING for name in NAMES)
    if not able:
        assert refusal(excluded) in REFUSING


def test_every_exclusion_is_of_one_kind() -> None:
    soft = [reason for kinds in LAST_RESORT for reason in kinds]
    assert len(soft) == len(set(soft))
    assert not REFUSING & set(soft)
