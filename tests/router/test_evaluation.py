"""A whole evaluation with the keyword scorer: groups, baselines, JSON, and the schema as documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from router import DataError
from router.evaluation import Evaluation, Options, measure
from router.evaluation.baselines import MAJORITY, RANDOM
from router.prompts import Prompt
from router.scores import FloatArray
from tests.router.keyword_scorer import LABELS, KeywordScorer

README = Path(__file__).parents[2] / "router" / "evaluation" / "README.md"
PROMPTS = [
    Prompt("tenant deposit", "law", source="law", language="en", style="terse"),
    Prompt("landlord visit", "law", source="law", language="en"),
    Prompt("the triangle again", "law", source="law", language="de"),
    Prompt("strange integral noise", "general", source="odd", language="en", kind="noise", style="odd"),
    Prompt("hello there", "general", source="odd", conversation=True),
    Prompt("what is this star", "astronomy", source="sky"),
]


def answer_law(texts: Sequence[str]) -> FloatArray:
    return np.tile(np.array([0, 0, 0, 1, 0], dtype=np.float32), (len(texts), 1))


def evaluation(**options: object) -> Evaluation:
    return measure(KeywordScorer(), PROMPTS, options=Options(**{"perturbed": 3, **options}))  # type: ignore[arg-type]


def test_measure_pools_groups_and_averages_over_sources() -> None:
    result = evaluation()
    assert (result.overall.count, result.skipped, result.artifact) == (5, 1, "keywords-1")
    assert result.overall.accuracy == 0.6
    assert {name: figures.accuracy for name, figures in result.sources.items()} == {"law": 0.6667, "odd": 0.5}
    assert result.source_mean.accuracy == pytest.approx((0.6667 + 0.5) / 2, abs=1e-4)
    assert {name: part.count for name, part in result.quality.languages.items()} == {"de": 1, "en": 3, "unknown": 1}
    assert result.quality.sets["not_english"].accuracy == 0.0
    assert set(result.quality.kinds) == {"noise"}


def test_measure_five_domains_forgive_mistakes_within_other() -> None:
    result = measure(KeywordScorer(), [Prompt("tenant", "general", source="s")], options=Options(perturbed=0))
    assert result.overall.accuracy == 0.0
    assert (result.five.overall.accuracy, result.source_mean_five.accuracy) == (1.0, 1.0)


def test_measure_odd_file_reads_as_share_sent_to_the_generalist() -> None:
    result = evaluation()
    assert result.decisions.sources["odd"].to_generalist == 1.0
    assert result.decisions.sources["law"].to_generalist == 0.0
    assert result.decisions.sets["not_english"].wrong_specialist == 1.0
    assert result.decisions.overall.abstentions["out_of_domain"] == 1


def test_measure_baselines_stand_beside_the_scorer() -> None:
    result = evaluation(baselines={"always law": answer_law})
    assert list(result.baselines) == [MAJORITY, RANDOM, "always law"]
    assert result.baselines[MAJORITY].overall.accuracy == result.majority_accuracy == 0.6
    assert result.baselines["always law"].overall.accuracy == 0.6
    assert result.baselines["always law"].source_mean.accuracy == 0.5
    assert result.baselines["always law"].five.accuracy == 1.0


def test_measure_random_baseline_hits_one_in_k_and_knows_it() -> None:
    prompts = [Prompt(f"hello {number}", "law") for number in range(4000)]
    figures = measure(KeywordScorer(), prompts, options=Options(perturbed=0)).baselines[RANDOM].overall
    assert figures.accuracy == pytest.approx(1 / len(LABELS), abs=0.03)
    assert figures.ece < 0.03


def test_measure_baseline_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="'short' answers"):
        evaluation(baselines={"short": lambda texts: np.zeros((1, 2), dtype=np.float32)})


def test_measure_labels_all_unknown_is_refused() -> None:
    with pytest.raises(DataError, match="no prompt has a label"):
        measure(KeywordScorer(), [Prompt("star", "astronomy")])


def test_measure_consistency_can_be_left_out() -> None:
    assert evaluation(perturbed=0).consistency is None
    assert (found := evaluation().consistency) is not None
    assert found.count == 3


def test_measure_same_seed_gives_the_same_figures() -> None:
    first, second = evaluation(), evaluation()
    assert (first.quality, first.decisions, first.consistency) == (second.quality, second.decisions, second.consistency)
    assert first.baselines == second.baselines


def test_as_dict_is_plain_json_without_nan() -> None:
    content = evaluation().as_dict()
    assert content["schema"] == 1
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def keys_of(value: object) -> Iterator[str]:
    """Every key whose name is part of the schema; names of groups, labels and numbers are not."""
    free = {"sets", "sources", "languages", "kinds", "styles", "domains", "by_words", "sweep", "tiers", "baselines"}
    free |= {"confidence", "perturbations", "abstentions"}
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            if key in free and isinstance(part, dict):
                for inner in part.values():
                    yield from keys_of(inner)
            else:
                yield from keys_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from keys_of(part)


def test_readme_describes_every_field_of_the_schema() -> None:
    named = set(re.findall(r"`([a-z_0-9.]+)`", README.read_text(encoding="utf-8")))
    missing = {key for key in keys_of(evaluation().as_dict()) if key not in named}
    assert not missing
