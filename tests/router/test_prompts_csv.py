"""Labelled prompts as CSV files: columns, quoting, spreadsheets' habits, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from router import DataError
from router.prompts import read_examples, read_prompts


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


def test_read_prompts_csv_row_fields_are_kept(tmp_path: Path) -> None:
    write(
        tmp_path / "mine.csv",
        "text,label,alt,lang,source,style,kind,topic\n"
        "Tort law?,law,humanities|general,en,s,terse,neighbour,torts\n"
        "refund?,finance,,,,,,\n",
    )
    law, finance = read_prompts([tmp_path])
    assert (law.text, law.label, law.alternatives) == ("Tort law?", "law", ("humanities", "general"))
    assert (law.language, law.source, law.style, law.kind, law.topic) == ("en", "s", "terse", "neighbour", "torts")
    assert (finance.alternatives, finance.source, finance.language, finance.words) == ((), "mine", "", 1)


def test_read_prompts_csv_and_jsonl_give_the_same_prompt(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 'label,text\nlaw,"One, two\nthree ""four"""\n')
    write(tmp_path / "a.jsonl", '{"label": "law", "text": "One, two\\nthree \\"four\\""}\n')
    assert read_prompts([tmp_path / "a.csv"]) == read_prompts([tmp_path / "a.jsonl"])


def test_read_prompts_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.CSV", "Label, Text ,Notes\r\n law ,añil,x\r\n\r\nmath,1+1,\r\n", "utf-8-sig")
    prompts = read_prompts([tmp_path / "a.CSV"])
    assert [(prompt.label, prompt.text) for prompt in prompts] == [("law", "añil"), ("math", "1+1")]


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ("", 1, "name the columns"),
        ("prompt,label\na,law\n", 1, "name the columns"),
        ("text;label\na;law\n", 1, "name the columns"),
        ("text,text,label\na,b,law\n", 1, "each once"),
        ("text\na\n", 2, "lacks 'label'"),
        ('text,label\n"two\nlines",law\na, b,law\n', 4, "3 cells, but 2 columns"),
        ("text,label\na,law\nb\n", 3, "1 cells"),
        ("text,label\na,law\nb,\n", 3, "label is empty"),
        ('text,label\n"a,law\n', 2, "unexpected end of data"),
    ],
)
def test_read_prompts_csv_problem_is_named_with_file_and_line(
    tmp_path: Path, content: str, place: int, problem: str
) -> None:
    write(tmp_path / "bad.csv", content)
    with pytest.raises(DataError, match=rf"bad\.csv:{place}: .*{problem}"):
        read_prompts([tmp_path])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_read_prompts_other_encoding_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "text,label\nañil,law\n" if name == "a.csv" else '{"text": "ñ", "label": "a"}', "latin-1")
    with pytest.raises(DataError, match=f"{name}: not UTF-8 text"):
        read_prompts([tmp_path])


def test_read_prompts_damaged_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00not gzip at all")
    with pytest.raises(DataError, match=r"a\.jsonl\.gz"):
        read_prompts([tmp_path])


def test_read_examples_labels_decide_when_there_are_any(tmp_path: Path) -> None:
    labelled = write(tmp_path / "a.csv", "text,label\nprune roses,gardening\ntort,law\nsow peas, gardening \n")
    assert read_examples(labelled, "gardening") == ["prune roses", "sow peas"]
    bare = write(tmp_path / "b.csv", "text\nprune roses\nsow peas\n")
    assert read_examples(bare, "gardening") == ["prune roses", "sow peas"]


def test_read_examples_conversations_go_through_extract(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"messages": [{"role": "user", "content": "prune roses"}]}\n{"text": "peas"}\n')
    assert read_examples(file, "gardening") == ["prune roses", "peas"]


def test_read_examples_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: No such file"):
        read_examples(tmp_path / "none.csv", "gardening")
