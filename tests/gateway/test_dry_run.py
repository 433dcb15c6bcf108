"""The decision for one prompt without a server, and the words behind it, which no endpoint ever tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gateway.dry_run import decide_offline, describe
from gateway.settings import Settings
from gateway.thresholds import UnknownDomain
from router.explanation import Topics
from tests.conftest import settings_for
from tests.harness import FaultyScorer, KeywordScorer


class TopicScorer(KeywordScorer):
    """Knows two topics; a text's embedding points to the one it names."""

    topics = Topics(("fractions", "syntax errors"), ("math", "coding"), np.eye(2, dtype=np.float32))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1, 0] if "math" in text else [0, 1] for text in texts], dtype=np.float32)


@pytest.fixture
def settings() -> Settings:
    return settings_for(
        {
            "generalist": {"model": "g", "upstreams": ["http://127.0.0.1:9"]},
            "math": {"model": "m", "domains": ["math"], "upstreams": ["http://127.0.0.1:9"]},
        }
    )


def explained(settings: Settings, prompt: str, scorer: KeywordScorer, *, words: bool = True) -> dict[str, Any]:
    return decide_offline(settings, prompt, words=words, scorer=scorer)


def test_words_names_the_word_that_decided_and_the_nearest_topics(settings: Settings) -> None:
    found = explained(settings, "please do my math homework", TopicScorer())
    assert (found["expert"], found["reason"]) == ("math", "confident")
    assert found["words"][0]["word"] == "math"
    assert found["words"][0]["influence"] > 5
    assert [(topic["name"], topic["similarity"]) for topic in found["topics"]] == [
        ("fractions", 1),
        ("syntax errors", 0),
    ]
    lines = describe(found, as_json=False).splitlines()
    assert "disagreement  0.000, limit 1.000" in lines
    assert lines.index("words for (+) and against (-) math, in log-odds") < lines.index(
        "nearest training topics, by cosine"
    )
    assert "    1.00  fractions (math)" in lines


def test_words_scorer_without_embeddings_leaves_topics_out(settings: Settings) -> None:
    found = explained(settings, "please do my math homework", KeywordScorer())
    assert found["words"][0]["word"] == "math"
    assert found["topics"] == []
    assert "topics" not in describe(found, as_json=False)


@pytest.mark.parametrize(
    ("prompt", "scorer"), [("", KeywordScorer()), ("math", FaultyScorer("raises")), ("math", FaultyScorer("nothing"))]
)
def test_words_unscored_prompt_has_none(settings: Settings, prompt: str, scorer: KeywordScorer) -> None:
    found = explained(settings, prompt, scorer)
    assert (found["expert"], found["scores"]) == ("generalist", None)
    assert not {"words", "topics"} & set(found)
    assert describe(found, as_json=False).startswith("generalist  (g)\nreason ")


def test_words_not_asked_for_are_not_there(settings: Settings) -> None:
    assert not {"words", "topics"} & set(explained(settings, "math", TopicScorer(), words=False))


def test_threshold_for_an_unknown_domain_is_refused(settings: Settings) -> None:
    router = settings.router.model_copy(update={"thresholds": {"maths": 0.5}})
    with pytest.raises(UnknownDomain, match="maths"):
        explained(settings.model_copy(update={"router": router}), "math", KeywordScorer())


def test_excluded_expert_is_shown_with_what_it_would_cost() -> None:
    price = {"input": 1.0, "output": 2.0}
    experts: dict[str, Any] = {
        "generalist": {"model": "g", "upstreams": ["http://127.0.0.1:9"], "price": price},
        "math": {
            "model": "m",
            "domains": ["math"],
            "upstreams": ["http://127.0.0.1:9"],
            "price": {**price, "output": 90},
        },
    }
    settings = settings_for(experts, policy={"price_cap": 0.001})
    found = explained(settings, "please do my math homework", KeywordScorer(), words=False)
    assert (found["expert"], found["reason"]) == ("generalist", "price_cap")
    math = found["experts"]["math"]
    assert (math["eligible"], math["excluded"], math["utility"]) == (False, "price_cap", None)
    assert math["expected_cost"] > 0.001 > found["experts"]["generalist"]["expected_cost"]
    shown = f"  math               - {math['expected_cost'] * 1000:>10.4f}  not eligible: price_cap"
    assert shown in describe(found, as_json=False).splitlines()
