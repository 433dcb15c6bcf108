"""When a conversation stays with its expert and when it follows the policy; pure values, no gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import policies
from gateway.policies import balanced, fixed, modem, quality, weighted
from gateway.sessions import Session
from gateway.settings import SessionSettings
from gateway.stay import BY_DEFAULT, NO_EVIDENCE, stay
from gateway.types import LAST_RESORT, REFUSING, Decision, Reason, RoutingInput
from router import Thresholds
from tests.gateway.routing import CATALOG, catalog_of, expert, routing_of, scores_of
from tests.gateway.test_policies import OPTIONS, routings

SETTINGS = SessionSettings(margin=0.1, margin_per_1000_tokens=0.01, margin_limit=0.3)
MATH = Session("a", "math")
CODING = Session("b", "coding")
GENERAL = Session("generalist", "general")
SOFT = frozenset({Reason.LATENCY, Reason.LANGUAGE})
UNSURE = Thresholds(default_confidence=0.5)
EASY = Thresholds(default_confidence=0.3)


def decided(
    routing: RoutingInput, session: Session, policy: Any = None, *, tool_loop: bool = False, settings: Any = SETTINGS
) -> Decision:
    policy = policy or modem.Policy()
    return stay(policy.choose(routing), routing, policy, session, tool_loop=tool_loop, settings=settings)


def told(decision: Decision) -> tuple[str, Reason]:
    return decision.expert.name, decision.reason


def test_same_expert_keeps_the_policys_reason() -> None:
    assert told(decided(routing_of(scores_of(0.9, 0.05, 0.05)), MATH)) == ("a", Reason.CONFIDENT)


def test_small_gain_stays_and_a_great_one_is_followed() -> None:
    assert told(decided(routing_of(scores_of(0.46, 0.52, 0.02), thresholds=EASY), MATH)) == ("a", Reason.SESSION)
    assert told(decided(routing_of(scores_of(0.3, 0.6, 0.1)), MATH)) == ("b", Reason.CONFIDENT)


def test_new_task_is_followed_however_much_is_cached() -> None:
    routing = routing_of(scores_of(0.3, 0.55, 0.15), thresholds=EASY)
    assert told(decided(routing, MATH)) == ("b", Reason.CONFIDENT)
    assert told(decided(routing, replace_tokens(MATH, 16_000))) == ("a", Reason.SESSION)
    clear = routing_of(scores_of(0.1, 0.8, 0.1))
    assert told(decided(clear, replace_tokens(MATH, 10_000_000))) == ("b", Reason.CONFIDENT)


def replace_tokens(session: Session, tokens: int) -> Session:
    return session._replace(tokens=tokens)


def test_task_of_no_specialist_goes_to_the_generalist() -> None:
    routing = routing_of(scores_of(0.05, 0.05, 0.9))
    assert told(decided(routing, MATH)) == ("generalist", Reason.CONFIDENT)
    uncovered = catalog_of(expert("a", "math"))
    routing = routing_of(scores_of(0.05, 0.9, 0.05), catalog=uncovered)
    assert told(decided(routing, MATH)) == ("generalist", Reason.UNCOVERED_DOMAIN)
    assert told(decided(routing_of(scores_of(0.46, 0.5, 0.04), catalog=uncovered, thresholds=EASY), MATH)) == (
        "a",
        Reason.SESSION,
    )


@pytest.mark.parametrize("reason", [Reason.NO_TEXT, Reason.SCORER_ERROR, Reason.SCORER_TIMEOUT])
def test_nothing_scored_stays(reason: Reason) -> None:
    assert told(decided(replace(routing_of(None), unscored=reason), MATH)) == ("a", Reason.SESSION)


@pytest.mark.parametrize("figures", [{"strange": 0.9}, {"moved": 0.9}])
def test_scores_that_mean_nothing_stay_whatever_they_say(figures: dict[str, float]) -> None:
    limits = Thresholds(out_of_domain=0.5, disagreement=0.5)
    routing = routing_of(scores_of(0.01, 0.98, 0.01, **figures), thresholds=limits)
    assert told(decided(routing, MATH)) == ("a", Reason.SESSION)


def test_unsure_scores_stay_while_the_expert_is_among_the_likely_ones() -> None:
    assert told(decided(routing_of(scores_of(0.3, 0.3, 0.4), thresholds=UNSURE), MATH)) == ("a", Reason.SESSION)
    close = routing_of(scores_of(0.45, 0.47, 0.08), thresholds=Thresholds(margin=0.1))
    assert told(decided(close, MATH)) == ("a", Reason.SESSION)
    elsewhere = routing_of(scores_of(0.02, 0.49, 0.49), thresholds=UNSURE)
    assert told(decided(elsewhere, MATH)) == ("generalist", Reason.LOW_CONFIDENCE)


def test_excluded_wish_does_not_bind_a_new_task_to_the_old_expert() -> None:
    routing = routing_of(scores_of(0.05, 0.92, 0.03), excluded={"b": Reason.UNHEALTHY})
    assert told(decided(routing, MATH)) == ("generalist", Reason.UNHEALTHY)
    routing = routing_of(scores_of(0.48, 0.5, 0.02), excluded={"b": Reason.UNHEALTHY})
    assert told(decided(routing, MATH)) == ("a", Reason.SESSION)


def test_conversation_of_a_measured_policy_stays_with_the_generalist_until_the_task_changes() -> None:
    # The table knows better than the declared domains: the generalist is best at math.
    table = {"generalist": 0.70, "a": 0.60, "b": 0.72}
    session = Session("generalist", "math")
    hardly = routing_of(scores_of(0.5, 0.45, 0.05), quality=table)
    assert told(decided(hardly, session, quality.Policy())) == ("generalist", Reason.SESSION)
    changed = routing_of(scores_of(0.05, 0.9, 0.05), quality=table)
    assert told(decided(changed, session, quality.Policy())) == ("b", Reason.EXPECTED_QUALITY)


def test_expert_of_two_domains_is_not_left_for_less_than_both_of_them() -> None:
    both = catalog_of(expert("a", "math", "coding"))
    routing = routing_of(scores_of(0.15, 0.4, 0.45), catalog=both, thresholds=EASY)
    assert told(decided(routing, Session("a", "math"))) == ("a", Reason.SESSION)


def test_dearer_expert_is_left_when_the_caller_asks_for_economy() -> None:
    routing = routing_of(
        scores_of(0.9, 0.05, 0.05),
        quality={"generalist": 0.7, "a": 0.71, "b": 0.7},
        cost={"generalist": 1.0, "a": 5.0, "b": 0.2},
    )
    decision = decided(routing, MATH, policies.load("economy", {"quality_floor": 0.9}))
    assert told(decision) == ("b", Reason.QUALITY_FLOOR)
    saved = decided(routing, MATH, balanced.Policy(cost_weight=0.05, abstain="never"))
    assert told(saved) == ("b", Reason.EXPECTED_QUALITY)


def test_fixed_and_weighted_policies_win_over_the_session() -> None:
    routing = routing_of(scores_of(0.9, 0.05, 0.05), draw=0.9)
    assert told(decided(routing, MATH, fixed.Policy(expert="b"))) == ("b", Reason.FIXED)
    assert told(decided(routing, MATH, weighted.Policy(shares={"b": 1}))) == ("b", Reason.SPLIT)


def test_expert_that_left_the_catalog_is_forgotten() -> None:
    routing = routing_of(None)
    for tool_loop in (False, True):
        assert told(decided(routing, Session("gone"), tool_loop=tool_loop)) == ("generalist", Reason.NO_TEXT)


@pytest.mark.parametrize("reason", sorted(REFUSING.union(*LAST_RESORT)))
def test_excluded_expert_loses_its_conversation(reason: Reason) -> None:
    routing = routing_of(None, excluded={"a": reason})
    assert told(decided(routing, MATH)) == ("generalist", Reason.NO_TEXT)
    in_loop = decided(routing, MATH, tool_loop=True)
    assert told(in_loop) == (("a", Reason.TOOL_LOCK) if reason in SOFT else ("generalist", Reason.NO_TEXT))


@pytest.mark.parametrize("session", [MATH, CODING, GENERAL])
def test_open_tool_loop_locks_whatever_the_text_is_about(session: Session) -> None:
    for scores in (scores_of(0.98, 0.01, 0.01), scores_of(0.01, 0.98, 0.01), scores_of(0.01, 0.01, 0.98), None):
        assert told(decided(routing_of(scores), session, tool_loop=True)) == (session.expert, Reason.TOOL_LOCK)


def test_whoever_was_chosen_anew_is_the_first_fallback_and_the_generalist_the_last() -> None:
    routing = routing_of(scores_of(0.46, 0.52, 0.02), thresholds=EASY)
    assert [e.name for e in decided(routing, MATH).fallbacks] == ["b", "generalist"]
    assert [e.name for e in decided(routing_of(None), MATH).fallbacks] == ["generalist"]
    assert [e.name for e in decided(routing, GENERAL, tool_loop=True).fallbacks] == ["b"]


def test_reasons_of_evidence_are_apart() -> None:
    assert not NO_EVIDENCE & BY_DEFAULT
    assert Reason.UNCOVERED_DOMAIN not in NO_EVIDENCE | BY_DEFAULT


sessions = st.builds(
    Session, st.sampled_from([*CATALOG.experts, "gone"]), st.none() | st.sampled_from(["math", "coding", "general"])
)


@pytest.mark.parametrize("name", policies.names())
@given(routing=routings(), session=sessions, tool_loop=st.booleans())
def test_stay_is_the_policys_decision_or_the_sessions_expert(
    name: str, routing: RoutingInput, session: Session, tool_loop: bool
) -> None:
    policy = policies.load(name, OPTIONS.get(name, {}))
    fresh = policy.choose(routing)
    decision = decided(routing, session, policy, tool_loop=tool_loop)
    assert decision == decided(routing, session, policy, tool_loop=tool_loop)
    assert decision == fresh or (decision.expert.name == session.expert and decision.reason in ("session", "tool_lock"))
    assert (decision.domain, decision.confidence) == (fresh.domain, fresh.confidence)
    allowed = routing.candidate(decision.expert) is not None
    assert allowed or (tool_loop and routing.excluded[decision.expert.name] in SOFT)
    assert decision.expert not in decision.fallbacks
    assert len(set(map(id, decision.fallbacks))) == len(decision.fallbacks)
    if CATALOG.generalist in decision.fallbacks:
        assert decision.fallbacks[-1] is CATALOG.generalist


@pytest.mark.parametrize("name", policies.names())
@given(routing=routings(), session=sessions, tokens=st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)))
def test_more_cached_tokens_never_make_a_conversation_change(
    name: str, routing: RoutingInput, session: Session, tokens: tuple[int, int]
) -> None:
    assume(routing.candidate(CATALOG.experts.get(session.expert, CATALOG.generalist)) is not None)
    policy = policies.load(name, OPTIONS.get(name, {}))
    fewer, more = (decided(routing, replace_tokens(session, count), policy) for count in sorted(tokens))
    if fewer.reason is Reason.SESSION:
        assert more == fewer


@given(routing=routings(), session=sessions)
def test_staying_settles(routing: RoutingInput, session: Session) -> None:
    policy = modem.Policy()
    once = decided(routing, session, policy)
    again = decided(routing, session._replace(expert=once.expert.name), policy)
    assert again.expert is once.expert
