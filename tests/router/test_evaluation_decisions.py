"""Decisions at the scorer's thresholds, telling odd prompts apart, and the groups they are measured in."""

from __future__ import annotations

import numpy as np
import pytest

from router.abstention import Abstention, Thresholds
from router.evaluation.decisions import decisions, route_of, routes_of
from router.evaluation.outcomes import outcomes_of
from router.evaluation.separation import Separation, out_of_domain, separation
from router.evaluation.sets import grouped
from router.prompts import Prompt
from router.scores import DomainScores
from tests.router.keyword_scorer import KeywordScorer

PROMPTS = [
    Prompt("landlord keeps deposit", "law"),  # right specialist
    Prompt("tenant with fever", "health"),  # wrong specialist: law comes first
    Prompt("triangle maybe", "math"),  # 0.4: low confidence
    Prompt("strange integral", "general"),  # out of domain
    Prompt("good morning", "general"),  # decided, for the generalist
    Prompt("fever dream poem", "general", alternatives=("health",)),  # a fair specialist
]


def test_decisions_shares_are_those_counted_by_hand() -> None:
    scorer = KeywordScorer()
    scores = scorer.score([prompt.text for prompt in PROMPTS])
    routes = routes_of(scores, scorer.thresholds)
    assert [route.expert for route in routes] == ["law", "law", "generalist", "generalist", "generalist", "health"]
    outcomes = outcomes_of(PROMPTS, scores.probabilities, scorer.labels)
    figures = decisions(routes, outcomes, list(range(6)))
    assert (figures.count, figures.specialist_prompts) == (6, 4)
    assert (figures.decided, figures.to_generalist) == (0.6667, 0.5)
    assert (figures.specialist_precision, figures.wrong_specialist) == (0.6667, 0.1667)
    assert (figures.specialist_recall, figures.right_specialist) == (0.75, 0.5)
    assert figures.abstentions == {"out_of_domain": 1, "low_confidence": 1, "small_margin": 0, "disagreement": 0}


def test_decisions_of_no_rows_are_zero() -> None:
    scorer = KeywordScorer()
    scores = scorer.score(["hello"])
    outcomes = outcomes_of([Prompt("hello", "general")], scores.probabilities, scorer.labels)
    assert decisions(routes_of(scores, scorer.thresholds), outcomes, []).to_generalist == 0.0


def test_route_confident_general_is_decided_and_goes_to_the_generalist() -> None:
    route = route_of(DomainScores(("general", "law"), np.array([0.9, 0.1], dtype=np.float32)), Thresholds())
    assert (route.expert, route.abstention, route.to_specialist) == ("generalist", None, False)


def test_route_small_margin_is_named() -> None:
    scores = DomainScores(("health", "law"), np.array([0.56, 0.44], dtype=np.float32))
    assert route_of(scores, Thresholds(margin=0.2)).abstention is Abstention.SMALL_MARGIN


def test_separation_counts_pairs_and_ties() -> None:
    values = np.array([0.9, 0.5, 0.5, 0.1])
    positive = np.array([True, True, False, False])
    # Pairs: 0.9 beats both, 0.5 ties once and wins once; all of the 0.5s are caught with the second positive.
    assert separation(values, positive) == Separation(auroc=0.875, fpr_at_95_tpr=0.5)
    assert separation(values, ~positive).auroc == 0.125


def test_separation_threshold_lets_one_in_twenty_slip() -> None:
    values = np.array([*np.linspace(0.5, 0.9, 19), 0.0, 0.1, 0.2, 0.6, 0.7])
    positive = np.array([True] * 20 + [False] * 4)
    assert separation(values, positive).fpr_at_95_tpr == 0.5


def test_separation_of_one_group_alone_is_unknown() -> None:
    assert separation(np.array([0.1]), np.array([True])) == Separation(None, None)


def test_out_of_domain_odd_sources_belong_to_the_generalist_whatever_their_label() -> None:
    prompts = [
        Prompt("strange tenant", "law", source="steering_v2"),
        Prompt("strange words", "math", source="odd"),
        Prompt("good morning", "general", source="chat"),
        Prompt("tenant deposit", "law", source="oddments"),
    ]
    figures = out_of_domain(prompts, KeywordScorer().score([prompt.text for prompt in prompts]))
    assert (figures.generalist_prompts, figures.other_prompts) == (3, 1)
    assert figures.out_of_domain.auroc == pytest.approx((1 + 1 + 0.5) / 3, abs=1e-4)
    assert figures.low_confidence.auroc == pytest.approx((0.5 + 1 + 1) / 3, abs=1e-4)


def test_grouped_rows_fall_into_every_group_they_name() -> None:
    prompts = [
        Prompt("a", "law", source="s1", language="en", style="terse"),
        Prompt("b", "law", source="s2", language="de", conversation=True, kind="context"),
        Prompt("c", "law", source="s2"),
        Prompt("d", "law", source="s2", language="en-GB"),
    ]
    groups = grouped(prompts, lambda rows: tuple(rows))
    assert groups.overall == (0, 1, 2, 3)
    assert groups.sets == {"english": (0, 3), "not_english": (1,), "conversations": (1,), "single_prompts": (0, 2, 3)}
    assert groups.sources == {"s1": (0,), "s2": (1, 2, 3)}
    assert groups.languages == {"de": (1,), "en": (0,), "en-GB": (3,), "unknown": (2,)}
    assert groups.kinds == {"context": (1,)}


def test_grouped_rare_styles_are_left_out() -> None:
    prompts = [Prompt("a", "law", style="terse")] * 20 + [Prompt("b", "law", style="as a limerick")] * 19
    assert grouped(prompts, len).styles == {"terse": 20}


def test_grouped_empty_sets_are_left_out() -> None:
    assert set(grouped([Prompt("a", "law", language="en")], len).sets) == {"english", "single_prompts"}
