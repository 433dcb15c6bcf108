"""Reading labelled prompts: what a row may hold, and what is refused with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from router import DataError
from router.prompts import data_hash, read_prompts, share_of


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_read_prompts_row_fields_are_kept(tmp_path: Path) -> None:
    row = {"text": "Tort law?", "label": "law", "alt": ["humanities"], "source": "s", "lang": "en", "h": "k1"}
    write(tmp_path / "mine.jsonl", {**row, "stem": "Tort", "confidence": "low", "unknown": 1})
    (prompt,) = read_prompts([tmp_path])
    assert (prompt.text, prompt.label, prompt.alternatives) == ("Tort law?", "law", ("humanities",))
    assert (prompt.source, prompt.language, prompt.key) == ("s", "en", "k1")
    assert (prompt.stem, prompt.confidence, prompt.conversation) == ("Tort", "low", False)
    assert (prompt.style, prompt.kind, prompt.words) == ("", "", 2)


def test_read_prompts_style_and_kind_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "hm?", "label": "general", "style": "terse", "kind": "noise"})
    (prompt,) = read_prompts([tmp_path])
    assert (prompt.style, prompt.kind) == ("terse", "noise")


def test_read_prompts_words_count_what_extract_cuts(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Read this"}, {"role": "assistant", "content": "all " * 3000}]
    write(tmp_path / "a.jsonl", {"text": "word " * 9000, "label": "law"}, {"messages": messages, "label": "law"})
    assert [prompt.words for prompt in read_prompts([tmp_path])] == [9000, 3002]


def test_read_prompts_source_defaults_to_the_file_name(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "tickets.jsonl", {"text": "refund?", "label": "finance"})
    assert read_prompts([tmp_path])[0].source == "tickets"


def test_read_prompts_gzip_and_single_file_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write('{"text": "añil", "label": "general"}\n\n')
    assert [prompt.text for prompt in read_prompts([tmp_path / "a.jsonl.gz"])] == ["añil"]


def test_read_prompts_conversation_goes_through_extract(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Integrate x"},
        {"role": "assistant", "content": "x^2/2"},
        {"role": "user", "content": "and x^2?"},
    ]
    write(tmp_path / "chat.jsonl", {"messages": messages, "label": "math"})
    (prompt,) = read_prompts([tmp_path])
    assert prompt.conversation
    assert prompt.text.startswith("and x^2?")
    assert "Integrate x" in prompt.text


def test_read_prompts_repeated_question_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "hi  there", "label": "general"}, {"text": "hi there", "label": "general"})
    assert len(read_prompts([tmp_path])) == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "a"}',
        '{"label": "a"}',
        '{"text": 3, "label": "a"}',
        '{"text": "a", "label": null}',
        '{"messages": 3, "label": "a"}',
        "[]",
        "{",
        "3",
    ],
)
def test_read_prompts_malformed_row_is_refused_with_file_and_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "fine", "label": "law"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:2: "):
        read_prompts([tmp_path])


def test_read_prompts_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.jsonl"):
        read_prompts([tmp_path])


def test_read_prompts_empty_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="no prompts"):
        read_prompts([tmp_path])


def test_data_hash_follows_content(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "a", "label": "x"})
    before = data_hash([tmp_path])
    assert data_hash([tmp_path]) == before
    write(tmp_path / "a.jsonl", {"text": "b", "label": "x"})
    assert data_hash([tmp_path]) != before


def test_share_of_is_stable_and_spread() -> None:
    shares = [share_of(f"key-{index}", seed=7) for index in range(4000)]
    assert shares == [share_of(f"key-{index}", seed=7) for index in range(4000)]
    assert 0.08 < sum(share < 0.1 for share in shares) / 4000 < 0.12
    assert shares[:50] != [share_of(f"key-{index}", seed=8) for index in range(50)]
