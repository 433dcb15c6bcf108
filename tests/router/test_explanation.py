"""Which words moved a score: found by leaving them out of a prompt that a real keyword scorer reads."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.abstention import Abstention, Thresholds
from router.explanation import Explanation, Topics, explain
from router.features import MAX_TEXT_CHARS, extract_text
from router.scores import ScoreBatch

KEYWORDS = {
    "coding": ("python", "traceback", "compiler", "プログラム"),
    "health": ("knee", "fever", "doctor", "発熱", "ปวดหัว"),
    "law": ("landlord", "evict", "court", "裁判所"),
}
FILLER = "so then we talked about the other thing and nobody was really sure what to think of it"


class KeywordScorer:
    """Counts words of each domain; remembers how large its batches were."""

    labels = tuple(KEYWORDS)
    version = "keywords-1"

    def __init__(self, thresholds: Thresholds | None = None, out_of_domain: float = 0.0) -> None:
        self.thresholds = thresholds or Thresholds()
        self.batches: list[int] = []
        self._out_of_domain = out_of_domain

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        self.batches.append(len(texts))
        hits = np.array(
            [[sum(text.lower().count(word) for word in words) for words in KEYWORDS.values()] for text in texts]
        )
        shares = np.exp(1.5 * np.minimum(hits, 4))
        probabilities = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        strange = np.full(len(texts), self._out_of_domain, dtype=np.float32)
        return ScoreBatch(self.labels, probabilities, strange, strange, ("small",) * len(texts))


def best_word(explanation: Explanation) -> str:
    return explanation.words[0].word


def test_explain_short_prompt_finds_the_keyword_in_one_batch() -> None:
    scorer = KeywordScorer()
    explanation = explain(scorer, "Hello there, can my landlord do this?")
    assert best_word(explanation) == "landlord"
    assert explanation.words[0].influence == pytest.approx(1.5, abs=1e-4)
    assert [word.influence for word in explanation.words[1:]] == [0.0] * 6
    assert scorer.batches == [8]
    (span,) = explanation.words[0].spans
    assert explanation.text[slice(*span)] == "landlord"


def test_explain_word_against_the_top_domain_has_negative_influence() -> None:
    explanation = explain(KeywordScorer(), "My landlord went to court without a doctor")
    found = {word.word: word.influence for word in explanation.words}
    assert explanation.scores.top()[0] == "law"
    assert found["landlord"] > 0.5
    assert found["doctor"] < -0.1
    assert set(list(found)[:3]) == {"landlord", "court", "doctor"}


def test_explain_repeated_word_is_left_out_everywhere() -> None:
    explanation = explain(KeywordScorer(), "Court! COURT? the court, again.")
    assert best_word(explanation) == "Court"
    assert [explanation.text[slice(*span)] for span in explanation.words[0].spans] == ["Court", "COURT", "court"]
    assert explanation.words[0].influence == pytest.approx(4.5, abs=1e-4)


def long_text(words: int, keyword: str, position: int) -> str:
    parts = [f"{word}{index}" for index, word in enumerate((FILLER.split() * words)[:words])]
    return " ".join([*parts[:position], keyword, *parts[position:]])


@pytest.mark.parametrize("position", [0, 57, 200])
def test_explain_long_prompt_finds_the_keyword_in_two_rounds(position: int) -> None:
    scorer = KeywordScorer()
    explanation = explain(scorer, long_text(200, "traceback", position))
    assert best_word(explanation) == "traceback"
    assert len(scorer.batches) == 2
    assert max(scorer.batches) <= 41
    assert len(explanation.words) == 12


@pytest.mark.parametrize("max_units", [2, 3, 7])
def test_explain_few_units_a_round_takes_more_rounds_and_still_finds_it(max_units: int) -> None:
    scorer = KeywordScorer()
    explanation = explain(scorer, long_text(150, "evict", 99), max_units=max_units)
    assert best_word(explanation) == "evict"
    assert max(scorer.batches) <= max_units + 1
    assert len(scorer.batches) <= 9


@pytest.mark.parametrize(
    ("text", "keyword", "domain"),
    [
        ("昨日から発熱が続いていて、とても心配です。", "発熱", "health"),
        ("大家さんに追い出されそうです。裁判所に行くべきでしょうか。", "裁判所", "law"),
        ("ฉันปวดหัวมาก ควรทำอย่างไร", "ปวดหัว", "health"),
        ("このプログラムが動かないのですが", "プログラム", "coding"),
    ],
)
def test_explain_languages_without_blanks_are_read_in_pieces(text: str, keyword: str, domain: str) -> None:
    explanation = explain(KeywordScorer(), text)
    assert explanation.scores.top()[0] == domain
    assert set(best_word(explanation)) <= set(keyword)
    assert explanation.words[0].influence > 0.5
    assert all(1 <= len(word.word) <= 4 for word in explanation.words)


def test_explain_long_japanese_prompt_finds_the_keyword() -> None:
    filler = "".join(chr(0x4E00 + number) for number in range(900))
    explanation = explain(KeywordScorer(), f"{filler[:500]}裁判所{filler[500:]}")
    assert set("裁判所") & set(best_word(explanation))
    assert len(best_word(explanation)) <= 4


@pytest.mark.parametrize(
    "text", ["landlord " * 120_000, "発熱" * 500_000, "a" * 1_000_000, long_text(150_000, "knee", 3)]
)
def test_explain_a_million_characters_costs_two_rounds(text: str) -> None:
    scorer = KeywordScorer()
    explanation = explain(scorer, text)
    assert len(explanation.text) <= MAX_TEXT_CHARS
    assert len(scorer.batches) <= 2
    assert max(scorer.batches) <= 41


@pytest.mark.parametrize("text", ["", "   ", "?!", "🙂", "\x00"])
def test_explain_prompt_without_words_has_scores_and_no_words(text: str) -> None:
    explanation = explain(KeywordScorer(), text)
    assert explanation.words == ()
    assert explanation.abstention == Abstention.LOW_CONFIDENCE
    json.dumps(explanation.as_dict())


@given(text=st.text(max_size=400), max_units=st.integers(2, 50))
@settings(max_examples=80, deadline=None)
def test_explain_any_text_is_explained_within_its_own_bounds(text: str, max_units: int) -> None:
    scorer = KeywordScorer()
    explanation = explain(scorer, text, max_units=max_units)
    assert max(scorer.batches) <= max_units + 1
    assert explanation.text == extract_text(text).text
    spans = [span for word in explanation.words for span in word.spans]
    assert len(set(spans)) == len(spans)
    assert all(0 <= start < end <= len(explanation.text) for start, end in spans)
    strengths = [abs(word.influence) for word in explanation.words]
    assert strengths == sorted(strengths, reverse=True)
    json.dumps(explanation.as_dict(), ensure_ascii=True)


def test_explain_one_unit_a_round_is_refused() -> None:
    with pytest.raises(ValueError, match="below 2"):
        explain(KeywordScorer(), "text", max_units=1)


@pytest.mark.parametrize(
    ("thresholds", "strange", "abstention", "limit"),
    [
        (Thresholds({"law": 0.6}, 0.9), 0.0, None, 0.6),
        (Thresholds({"law": 0.99}), 0.0, Abstention.LOW_CONFIDENCE, 0.99),
        (Thresholds(margin=0.95), 0.0, Abstention.SMALL_MARGIN, 0.95),
        (Thresholds(out_of_domain=0.7), 0.8, Abstention.OUT_OF_DOMAIN, 0.7),
        (Thresholds(disagreement=0.4), 0.8, Abstention.DISAGREEMENT, 0.4),
    ],
)
def test_explain_names_the_threshold_that_applied(
    thresholds: Thresholds, strange: float, abstention: Abstention | None, limit: float
) -> None:
    explanation = explain(KeywordScorer(thresholds, strange), "landlord, court")
    assert explanation.abstention == abstention
    assert explanation.threshold == limit
    assert explanation.as_dict()["abstention"] == (abstention and abstention.value)


TOPICS = Topics(("torts", "orthopaedics", "parsing"), ("law", "health", "coding"), np.eye(3, 4, dtype=np.float32))


def test_topics_nearest_are_ordered_by_cosine() -> None:
    first, second = TOPICS.nearest([0.0, 8.0, 6.0, 0.0], 2)
    assert (first.name, first.domain) == ("orthopaedics", "health")
    assert first.similarity == pytest.approx(0.8)
    assert second.name == "parsing"
    assert len(TOPICS.nearest([1.0, 0, 0, 0], 9)) == 3
    assert [topic.similarity for topic in TOPICS.nearest(np.zeros(4))] == [0.0, 0.0, 0.0]


def test_topics_survive_arrays_and_refuse_what_does_not_fit() -> None:
    loaded = Topics.from_arrays(TOPICS.as_arrays("topics_"), "topics_")
    assert (loaded.names, loaded.domains) == (TOPICS.names, TOPICS.domains)
    np.testing.assert_array_equal(loaded.vectors, TOPICS.vectors)
    with pytest.raises(ValueError, match="do not fit"):
        Topics(("one",), (), TOPICS.vectors)


def test_explanation_as_dict_is_plain_json_with_every_figure() -> None:
    explanation = explain(
        KeywordScorer(out_of_domain=0.25), "my knee hurts", topics=TOPICS, embedding=[0.0, 1.0, 0.0, 0.0]
    )
    plain = json.loads(json.dumps(explanation.as_dict()))
    assert plain["domain"] == "health"
    assert plain["probabilities"] == pytest.approx(explanation.scores.as_dict())
    assert plain["margin"] == pytest.approx(explanation.scores.margin())
    assert (plain["out_of_domain"], plain["disagreement"], plain["tier"]) == (0.25, 0.25, "small")
    assert plain["words"][0] == {"word": "knee", "influence": pytest.approx(1.5, abs=1e-4), "spans": [[3, 7]]}
    assert plain["topics"][0] == {"name": "orthopaedics", "domain": "health", "similarity": 1.0}


def test_explanation_as_text_says_verdict_words_and_topics() -> None:
    acting = explain(KeywordScorer(), "knee, doctor", topics=TOPICS, embedding=[0.0, 1.0, 0.0, 0.0], words=1).as_text()
    assert acting.startswith("acts on health (limit 0.55)")
    assert "knee" in acting
    assert "orthopaedics (health)" in acting
    assert "abstains: low_confidence" in explain(KeywordScorer(), "hello").as_text()
