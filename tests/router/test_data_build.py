"""A built set: the same bytes each time, no repeats, the corpus first, whole sources held out, labels balanced."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from router import DataError
from router.data import CORPUS_SOURCE, Building, build_data, weights
from router.prompts import read_prompts

LABELS = ("coding", "law", "math")
WORDS = (
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "gravel",
    "harbour",
    "iris",
    "jungle",
    "kettle",
    "pebble",
)


def some_text(source: str, number: int) -> str:
    picked = " ".join(WORDS[(number * step + len(source)) % len(WORDS)] for step in (1, 3, 5, 7, 11))
    return f"{source} asks {number * 7919} about {picked} and {number * 104_729}"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines, encoding="utf-8")


def source_rows(source: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {"text": some_text(source, number), "label": LABELS[number % 3], "source": source, "lang": "en"} | fields
        for number in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(8):
        write(tmp_path / "sets" / f"set{number}.jsonl.gz", source_rows(f"set{number}", 30 * (number + 1)))
    (tmp_path / "sets" / "README.md").write_text("| source | licence |\n|---|---|\n| set1 | CC0 |\n")
    return tmp_path / "sets"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = source_rows("hand", 200, style="question", kind="neighbour", topic="t")
    talk = [{"role": "user", "content": "derivative of x^3"}, {"role": "assistant", "content": "3x^2"}]
    rows.append({"messages": [*talk, {"role": "user", "content": "and the second?"}], "label": "math", "lang": "en"})
    write(tmp_path / "corpus" / "hand.jsonl", rows)
    return tmp_path / "corpus"


def rows_of(building: Building) -> list[dict[str, Any]]:
    with gzip.open(building.output, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def test_build_same_input_gives_same_bytes(folder: Path, corpus: Path, tmp_path: Path) -> None:
    first = build_data([folder], tmp_path / "one.jsonl.gz", corpus=corpus)
    files = sorted(folder.glob("*.jsonl.gz"), reverse=True)
    second = build_data(files, tmp_path / "elsewhere" / "two.jsonl.gz", corpus=corpus)
    assert first.output.read_bytes() == second.output.read_bytes()
    again = build_data([folder], tmp_path / "three.jsonl.gz", corpus=corpus)
    assert first.report_path.read_bytes() == again.report_path.read_bytes()


def test_build_rows_have_every_field_and_can_be_read_for_training(folder: Path, corpus: Path, tmp_path: Path) -> None:
    building = build_data([folder], tmp_path / "out.jsonl.gz", corpus=corpus)
    rows = rows_of(building)
    rest = ["label", "alt", "lang", "source", "style", "kind", "weight", "split", "h"]
    assert all(list(row) in (["text", *rest], ["messages", *rest]) for row in rows)
    assert sum("messages" in row for row in rows) == 1
    assert {row["style"] for row in rows if row["source"] == CORPUS_SOURCE} == {"question", ""}
    prompts = read_prompts([building.output])
    assert len(prompts) == len(rows)
    assert {prompt.key for prompt in prompts} == {row["h"] for row in rows}


def test_build_holds_out_whole_sources_and_splits_the_corpus_by_key(folder: Path, corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(build_data([folder], tmp_path / "out.jsonl.gz", corpus=corpus, held_out_share=0.25))
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row["source"]].add(row["split"])
    assert splits.pop(CORPUS_SOURCE) == {"train", "held-out"}
    assert sorted(map(sorted, splits.values())) == [["held-out"]] * 2 + [["train"]] * 6
    own = [row["split"] for row in rows if row["source"] == CORPUS_SOURCE]
    assert 0.15 < own.count("held-out") / len(own) < 0.35


def test_build_corpus_split_does_not_move_when_data_are_added(folder: Path, corpus: Path, tmp_path: Path) -> None:
    alone = rows_of(build_data([], tmp_path / "alone.jsonl.gz", corpus=corpus))
    beside = rows_of(build_data([folder], tmp_path / "beside.jsonl.gz", corpus=corpus))
    own = {row["h"]: row["split"] for row in beside if row["source"] == CORPUS_SOURCE}
    assert own == {row["h"]: row["split"] for row in alone}


def test_build_keeps_a_source_to_train_on_for_every_label(tmp_path: Path) -> None:
    for label in LABELS:
        rows = [{"text": some_text(label, number), "label": label, "source": label} for number in range(30)]
        write(tmp_path / "sets" / f"{label}.jsonl", rows)
    rows = rows_of(build_data([tmp_path / "sets"], tmp_path / "out.jsonl.gz", corpus=None, held_out_share=0.9))
    assert {row["label"] for row in rows if row["split"] == "train"} == set(LABELS)


def test_build_weights_balance_labels_in_each_split(folder: Path, corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(build_data([folder], tmp_path / "out.jsonl.gz", corpus=corpus))
    for split in ("train", "held-out"):
        sums: Counter[str] = Counter()
        of_split = [row for row in rows if row["split"] == split]
        for row in of_split:
            sums[row["label"]] += row["weight"]
        assert all(total == pytest.approx(len(of_split) / len(sums), rel=1e-3) for total in sums.values())


def test_weights_follow_the_square_root_of_a_source_and_the_confidence() -> None:
    labels = ["law"] * 104 + ["math"]
    sources = ["big"] * 100 + ["small"] * 4 + ["small"]
    found = weights(labels, sources, ["high"] * 105)
    assert sum(found[:100]) == pytest.approx(5 * sum(found[100:104]))
    assert sum(found) == pytest.approx(105)
    assert found[104] == pytest.approx(105 / 2)
    sure, half, unsure = weights(["law"] * 3, ["one"] * 3, ["high", "medium", "low"])
    assert half / sure == pytest.approx(0.7)
    assert unsure / sure == pytest.approx(0.25)


def test_build_corpus_wins_over_other_sources(tmp_path: Path) -> None:
    text = "My landlord wants to keep the whole deposit because of a stained carpet, what can I do about it now"
    write(tmp_path / "corpus" / "law.jsonl", [{"text": text + "?", "label": "law"}])
    near, contradicting = text + " please", text.replace("stained", "stainy")
    write(tmp_path / "a.jsonl", [{"text": f"Question: {near}\nAnswer:", "label": "law"}])
    write(tmp_path / "b.jsonl", [{"text": contradicting, "label": "finance"}])
    building = build_data(
        [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out.jsonl.gz", corpus=tmp_path / "corpus"
    )
    assert [(row["text"], row["source"]) for row in rows_of(building)] == [(text + "?", CORPUS_SOURCE)]
    assert building.report["duplicates_removed"] == {"exact": {}, "near": {"a": 1}}
    assert building.report["conflicts"]["by_labels"] == {f"{CORPUS_SOURCE}/law b/finance": 1}


def test_build_repeats_that_disagree_are_both_dropped_and_reported(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "is a hot dog a sandwich", "label": "general", "source": "a"},
        {"text": "Is a hot dog a sandwich?", "label": "law", "source": "b"},
        {"text": "can I sue my bank over a fee", "label": "law", "alt": ["finance"], "source": "a"},
        {"text": "Can I sue my bank over a fee?", "label": "finance", "source": "b"},
    ]
    write(tmp_path / "in.jsonl", rows)
    building = build_data([tmp_path / "in.jsonl"], tmp_path / "out.jsonl.gz", corpus=None)
    assert [row["text"] for row in rows_of(building)] == ["can I sue my bank over a fee"]
    assert building.report["conflicts"]["count"] == 1
    assert "sandwich" not in building.report_path.read_text()


def test_build_report_counts_and_names_licences(folder: Path, corpus: Path, tmp_path: Path) -> None:
    building = build_data([folder], tmp_path / "out.jsonl.gz", corpus=corpus)
    report = json.loads(building.report_path.read_text())
    rows = rows_of(building)
    assert report["rows_read"] >= len(rows) == sum(report["rows"].values())
    assert sum(sum(counts.values()) for counts in report["labels"].values()) == len(rows)
    licences = {source["source"]: source["licence"] for source in report["sources"]}
    assert licences["set1"] == "CC0"
    assert licences["set2"] == "not stated"
    assert licences[CORPUS_SOURCE] == "Apache-2.0"


def test_build_plain_jsonl_is_written_when_asked_for(corpus: Path, tmp_path: Path) -> None:
    building = build_data([], tmp_path / "out.jsonl", corpus=corpus)
    assert len(building.output.read_text().splitlines()) == sum(building.report["rows"].values())
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("line", "problem"),
    [('{"text": "a"}', "label"), ('{"text": 3, "label": "law"}', "text"), ("{", "in.jsonl:1"), ("[]", "in.jsonl:1")],
)
def test_build_malformed_row_names_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "in.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=problem):
        build_data([tmp_path / "in.jsonl"], tmp_path / "out.jsonl.gz", corpus=None)


def test_build_without_input_or_with_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labelled prompt"):
        build_data([], tmp_path / "out.jsonl.gz", corpus=None)
    with pytest.raises(DataError, match="must end in"):
        build_data([], tmp_path / "out.csv")
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        build_data([tmp_path / "missing.jsonl"], tmp_path / "out.jsonl.gz", corpus=None)
