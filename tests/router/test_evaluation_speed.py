"""CPU time by length, tiers and memory, measured on the keyword scorer."""

from __future__ import annotations

import numpy as np

from router.evaluation.speed import WORD_LIMITS, cpu_time, memory, score_prompts, speed
from router.prompts import Prompt
from tests.router.keyword_scorer import KeywordScorer

PROMPTS = [
    Prompt("tenant", "law"),
    Prompt("one two three four five", "general"),
    Prompt("word " * 17, "general"),
    Prompt("cut by extract", "general", words=9_000),
]


def test_score_prompts_gives_one_row_and_one_time_per_prompt() -> None:
    lines: list[str] = []
    scores, seconds = score_prompts(KeywordScorer(), PROMPTS * 125, lines.append)
    assert scores.is_sound(500)
    assert seconds.shape == (500,)
    assert lines == ["scored 500 of 500"]
    assert [row.top()[0] for row in scores][:2] == ["law", "general"]


def test_score_prompts_of_nothing_keep_their_shape() -> None:
    scores, seconds = score_prompts(KeywordScorer(), [])
    assert scores.is_sound(0)
    assert len(seconds) == 0


def test_speed_buckets_by_words_before_extraction() -> None:
    scorer = KeywordScorer()
    scores, _ = score_prompts(scorer, PROMPTS)
    figures = speed(scorer, PROMPTS, scores, np.array([0.001, 0.002, 0.004, 0.008]))
    assert {name: part.count for name, part in figures.by_words.items()} == {"16": 2, "32": 1, "more": 1}
    assert figures.by_words["16"].mean_ms == 1.5
    assert list(figures.sweep) == [str(limit) for limit in WORD_LIMITS]
    assert figures.tiers == {"deep": 0.5, "fast": 0.5}


def test_cpu_time_percentiles_are_in_milliseconds() -> None:
    figures = cpu_time(np.arange(1, 102) / 1000)
    assert (figures.count, figures.mean_ms, figures.p50_ms, figures.p95_ms) == (101, 51.0, 51.0, 96.0)
    assert cpu_time(np.zeros(0)).mean_ms == 0.0


def test_memory_peak_is_at_least_what_is_held_now() -> None:
    figures = memory()
    assert figures.peak_rss_bytes is not None
    assert figures.rss_bytes is None or 10 * 2**20 < figures.rss_bytes <= figures.peak_rss_bytes * 1.1
