"""The hand-written corpus: every row valid, no prompt twice, none that the public data sets also hold."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from router.data import CORPUS, DuplicateIndex
from router.features import extract, extract_text

pytestmark = pytest.mark.slow

LABELS = {"math", "coding", "health", "science", "law", "finance", "humanities", "writing", "general"}
MIXED = {"conversations", "odd", "steering"}
FIELDS = ["text", "messages", "label", "alt", "lang", "topic", "style", "kind"]
SHARED = Path(__file__).parents[3] / "shared" / "data"
# Below this many characters two people write the same words by chance ("good morning").
CHANCE_CHARS = 24
SAMPLE_PER_SET = 150

Row = dict[str, Any]


def routing_text(row: Row) -> str:
    return extract(row["messages"]).text if "messages" in row else extract_text(row["text"]).text


@pytest.fixture(scope="module")
def files() -> dict[str, list[Row]]:
    return {
        file.stem: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in sorted(CORPUS.glob("*.jsonl"))
    }


@pytest.fixture(scope="module")
def texts(files: dict[str, list[Row]]) -> list[str]:
    return [routing_text(row) for rows in files.values() for row in rows]


@pytest.fixture(scope="module")
def repeats_and_index(texts: list[str]) -> tuple[list[str], DuplicateIndex]:
    index = DuplicateIndex()
    return [text for text in texts if index.find_or_add(text) is not None], index


def test_corpus_has_a_file_per_label_and_three_mixed_ones(files: dict[str, list[Row]]) -> None:
    assert set(files) == LABELS | MIXED
    assert sum(map(len, files.values())) > 25_000


def test_corpus_rows_are_valid(files: dict[str, list[Row]], texts: list[str]) -> None:
    assert all(texts)
    for name, rows in files.items():
        for row in rows:
            assert list(row) == [field for field in FIELDS if field in row]
            assert ("text" in row) != ("messages" in row)
            assert ("messages" in row) == (name == "conversations")
            assert row["label"] == name if name in LABELS else row["label"] in LABELS
            assert LABELS.issuperset(row.get("alt", ()))
            assert row["label"] not in row.get("alt", ())
            assert row.get("alt") != []
            assert re.fullmatch(r"[a-z]{2,3}", row["lang"])
            assert row["style"]
            assert row.get("kind") != ""


def test_corpus_odd_and_steering_rows_say_so(files: dict[str, list[Row]]) -> None:
    for kind in ("odd", "steering"):
        assert {row["kind"] for row in files[kind]} == {kind}


def test_corpus_conversations_end_in_something_to_route(files: dict[str, list[Row]]) -> None:
    for row in files["conversations"]:
        assert all(set(message) >= {"role"} for message in row["messages"])
        assert any(message["role"] == "user" for message in row["messages"])


def test_corpus_holds_no_prompt_twice(repeats_and_index: tuple[list[str], DuplicateIndex]) -> None:
    assert repeats_and_index[0] == []


def test_corpus_covers_every_label_in_many_languages(files: dict[str, list[Row]]) -> None:
    counts = Counter((row["label"], row["lang"]) for rows in files.values() for row in rows)
    for label in LABELS:
        assert counts[label, "en"] >= 1_000
        assert sum(count >= 20 for (other, _), count in counts.items() if other == label) >= 15


@pytest.mark.parametrize("name", ["dev", "train"])
def test_corpus_repeats_no_public_data_set(name: str, repeats_and_index: tuple[list[str], DuplicateIndex]) -> None:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"the public data sets are not here ({folder})")
    _, index = repeats_and_index
    dice = random.Random(0)
    found = []
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            lines = stream.readlines()
        for line in dice.sample(lines, min(SAMPLE_PER_SET, len(lines))):
            text = extract_text(json.loads(line)["text"]).text
            if len(text) >= CHANCE_CHARS and index.find(text) is not None:
                found.append(text)
    assert found == []


def test_card_counts_every_row(files: dict[str, list[Row]]) -> None:
    card = (CORPUS / "README.md").read_text(encoding="utf-8")
    assert f"{sum(map(len, files.values())):,} labelled prompts" in card
    assert "Apache-2.0" in card


def test_ontology_describes_topics_of_every_domain() -> None:
    ontology = json.loads((CORPUS.parent / "ontology.json").read_text(encoding="utf-8"))
    assert set(ontology) == LABELS
    for topics in ontology.values():
        assert len(topics) >= 50
        assert all(set(topic) == {"topic", "description"} and topic["topic"] for topic in topics)
