"""Reading outcome files, and the tables that come of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router import DataError, OutcomeTable, join_outcomes, outcomes_from_scores, read_outcomes

SHARED = Path(__file__).parents[3] / "shared" / "data" / "outcomes"


def written(folder: Path, content: str, name: str = "outcomes.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def test_wide_file_has_an_expert_for_each_column_of_numbers(tmp_path: Path) -> None:
    content = 'Task,Question,Big-Model,small,note\nsums,"What is\n1 + 1?",1,0.5,x\nsums,Hello,,0,\n'
    table = read_outcomes(written(tmp_path, content))
    assert table.experts == ("Big-Model", "small")
    assert table.prompts == ("What is\n1 + 1?", "Hello")
    assert table.groups == ("sums", "sums")
    assert table.domains == (None, None)
    np.testing.assert_array_equal(table.scores, [[1, 0.5], [np.nan, 0]])
    assert table.cost is None
    assert table.output_tokens is None


def test_wide_lengths_belong_to_the_expert_whose_name_begins_so(tmp_path: Path) -> None:
    content = "prompt,domain,mixtral-8x7b,gpt-4-1106,mixtral_response_chars,gpt4_response_chars,mixtral_cost\n"
    table = read_outcomes(written(tmp_path, content + "hi,general,1,0,400,80,0.25\n"))
    assert table.experts == ("mixtral-8x7b", "gpt-4-1106")
    assert table.domains == ("general",)
    np.testing.assert_array_equal(table.output_tokens, [[100, 20]])
    np.testing.assert_array_equal(table.cost, [[0.25, np.nan]])


def test_long_file_gathers_the_rows_of_one_prompt(tmp_path: Path) -> None:
    content = (
        "global_index,model,question,score,metric,inference_cost_usd,output_tokens\n"
        "Sums_1,a,one,1,exact,0.1,5\nSums_1,b,one,0,exact,,7\nOther_2,b,two,0.25,,0.3,\n"
    )
    table = read_outcomes(written(tmp_path, content))
    assert table.experts == ("a", "b")
    assert table.groups == ("Sums", "Other")
    np.testing.assert_array_equal(table.scores, [[1, 0], [np.nan, 0.25]])
    np.testing.assert_array_equal(table.cost, [[0.1, np.nan], [np.nan, 0.3]])
    np.testing.assert_array_equal(table.output_tokens, [[5, 7], [np.nan, np.nan]])


def test_long_file_of_domains_alone_keeps_every_row_apart(tmp_path: Path) -> None:
    table = read_outcomes(written(tmp_path, "domain,expert,score\nlaw,a,1\nlaw,a,0\nmath,b,0.5\n"))
    assert table.prompts == ("", "", "")
    assert table.domains == ("law", "law", "math")
    np.testing.assert_array_equal(table.scores, [[1, np.nan], [0, np.nan], [np.nan, 0.5]])


def test_jsonl_gzipped_with_missing_fields_is_read(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "x": True, "y": 0.5, "tags": ["n"]}, {"prompt": "b", "x": None}, {"prompt": "c", "y": 1}]
    path = tmp_path / "outcomes.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode(), mtime=0))
    table = read_outcomes(path)
    assert table.experts == ("x", "y")
    np.testing.assert_array_equal(table.scores, [[1, 0.5], [np.nan, np.nan], [np.nan, 1]])


def test_very_long_prompt_is_read_and_the_csv_limit_put_back(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    table = read_outcomes(written(tmp_path, "prompt,a\n" + "x" * 300_000 + ",1\n"))
    assert len(table.prompts[0]) == 300_000
    assert csv.field_size_limit() == limit


def test_byte_order_mark_and_score_just_outside_are_forgiven(tmp_path: Path) -> None:
    table = read_outcomes(written(tmp_path, "\ufeffprompt,a\nx,-0.03\ny,1.02\n"))
    np.testing.assert_array_equal(table.scores, [[0], [1]])


SECRET = "my secret prompt"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("prompt,a\nx,1.5\n", ":2: scores: a number outside 0 to 1"),
        ("prompt,a\nx,1\ny,nan\n", ":3: scores: a number outside 0 to 1"),
        ("prompt,a\nx,1\ny,abc\n", ":3: scores: not a number"),
        (f"prompt,a\nx,1\n{SECRET},1,1\n", ":3: 3 cells, but 2 columns"),
        (f'prompt,a\n"{SECRET},1\n', "unexpected end of data"),
        (f"prompt,note\n{SECRET},fine\n", ":1: no column of scores"),
        ("a,b\n1,0\n", ":1: needs a column prompt"),
        ("prompt,a,a\nx,1,0\n", "two with the same"),
        ("prompt,a,\nx,1,0\n", "without a name"),
        ("prompt,a\n,1\n", ":2: neither a prompt nor a domain"),
        ("prompt,a\nx,\n", "no column of scores"),
        ("prompt,a,b,c_response_chars\nx,1,0,5\n", "'c'...: belongs to none"),
        ("prompt,ab,ac,a_response_chars\nx,1,0,5\n", "'a'...: belongs to 2"),
        ("prompt,a,a_cost\nx,1,-2\n", ":2: cost: a number outside"),
        (f"model,score,prompt\na,1,{SECRET}\na,0,{SECRET}\n", ":3: a second score of the same expert"),
        ("model,score,prompt\n,1,x\n", ":2: an expert without a name"),
        ("model,score,prompt\na,,x\n", "no scores"),
        ("model,score\na,1\n", ":2: neither a prompt nor a domain"),
        ("prompt,a\n", "no rows"),
        ("", "must name the columns"),
    ],
)
def test_bad_file_is_named_with_its_line_and_without_its_text(tmp_path: Path, content: str, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_outcomes(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("o.txt", b"prompt,a\nx,1\n", "expected a file named"),
        ("o.csv.gz", b"prompt,a\nx,1\n", "damaged gzip file"),
        ("o.csv.gz", gzip.compress(b"prompt,a\nx,1\n" * 99, mtime=0)[:-20], "damaged gzip file"),
        ("o.csv", b"prompt,a\n\xff\xfe,1\n", "not UTF-8"),
        ("o.jsonl", b'{"prompt": "x", "a": 1}\n[1]\n', ":2: expected an object"),
        ("o.jsonl", b'{"prompt": "x", "a": 1}\n{"prompt"\n', ":2: not valid JSON"),
        ("o.jsonl", b"[" * 100_000 + b"\n", ":1: not valid JSON"),
        ("o.jsonl", b'{"prompt": "x", "a": 1, " a": 0}\n', ":1: two fields of the same name"),
        ("o.jsonl", b'{"prompt": "x", "a": 1}\n{"prompt": "y", "a": NaN}\n', ":2: scores: a number outside"),
        ("o.jsonl", b'{"prompt": "x", "a": 1' + b"0" * 400 + b"}\n", ":1: scores: not a number"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_outcomes(tmp_path / name)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_outcomes(tmp_path / "none.csv")


def test_small_packed_file_that_unpacks_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"prompt,a\n" + b"x,1\n" * 100_000))
    assert path.stat().st_size < 2_000
    with pytest.raises(DataError, match="more than 1,000 characters"):
        read_outcomes(path, most_chars=1_000)


@given(content=st.binary(max_size=300), name=st.sampled_from(["o.csv", "o.jsonl", "o.csv.gz"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    try:
        table = read_outcomes(tmp_path / name)
    except DataError:
        return
    assert table.scores.shape == (len(table.prompts), len(table.experts))


CELLS = st.none() | st.sampled_from([0.0, 0.25, 1.0])


@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1), CELLS, CELLS),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wide_and_long_files_of_the_same_scores_agree(
    tmp_path: Path, rows: list[tuple[str, float | None, float | None]]
) -> None:
    rows = [row for row in rows if row[0].strip()] + [("last", 1.0, 0.0)]
    wide, long = io.StringIO(), io.StringIO()
    csv.writer(wide).writerows([("prompt", "a", "b"), *rows])
    pairs = [(name, prompt, cell) for prompt, *cells in rows for name, cell in zip("ab", cells, strict=True)]
    csv.writer(long).writerows([("expert", "id", "prompt", "score")])
    csv.writer(long).writerows((name, f"i{rows_of(rows, prompt)}", prompt, cell) for name, prompt, cell in pairs)
    first = read_outcomes(written(tmp_path, wide.getvalue(), "wide.csv"))
    second = read_outcomes(written(tmp_path, long.getvalue(), "long.csv"))
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.prompts == second.prompts == tuple(row[0] for row in rows)


def rows_of(rows: list[tuple[str, float | None, float | None]], prompt: str) -> int:
    return [row[0] for row in rows].index(prompt)


def small_table() -> OutcomeTable:
    scores = np.array([[1, 0], [np.nan, 1], [0, 0]])
    return OutcomeTable(("x" * 40, "b", "c"), (None, "law", None), ("g", "", "h"), ("a", "b"), scores)


def test_rows_keep_order_and_all_columns() -> None:
    table = small_table().priced({"a": (1.0, 1.0)}).rows([2, 0])
    assert table.prompts == ("c", "x" * 40)
    assert table.groups == ("h", "g")
    assert table.cost is not None
    assert table.cost.shape == (2, 2)
    assert len(small_table().rows(np.array([False, True, False]))) == 1


def test_priced_estimates_tokens_and_keeps_recorded_costs() -> None:
    table = small_table()
    priced = table.priced({"a": (2.0, 4.0)}, completion_tokens=100)
    assert priced.cost is not None
    assert priced.cost[0, 0] == pytest.approx((10 * 2 + 100 * 4) / 1e6)
    assert np.isnan(priced.cost[:, 1]).all()
    again = priced.priced({"a": (9.0, 9.0), "b": (1.0, 1.0)})
    assert again.cost is not None
    assert again.cost[0, 0] == priced.cost[0, 0]
    assert np.isfinite(again.cost).all()


def test_renamed_refuses_unknown_and_equal_names() -> None:
    assert small_table().renamed({"a": "math"}).experts == ("math", "b")
    with pytest.raises(DataError, match="no expert 'z'"):
        small_table().renamed({"z": "math"})
    with pytest.raises(DataError, match="same name"):
        small_table().renamed({"a": "b"})


def test_join_covers_the_experts_of_all_tables() -> None:
    other = outcomes_from_scores([("law", "c", 0.5), ("law", "a", 1.0)])
    joined = join_outcomes([small_table(), other])
    assert joined.experts == ("a", "b", "c")
    np.testing.assert_array_equal(joined.scores[3:], [[np.nan, np.nan, 0.5], [1, np.nan, np.nan]])
    assert joined.cost is None
    with pytest.raises(DataError, match="no outcomes"):
        join_outcomes([])
    with pytest.raises(DataError, match="needs scores"):
        outcomes_from_scores([("law", "a", float("nan"))])


@pytest.mark.parametrize(
    ("name", "rows", "experts", "groups", "first"),
    [
        ("routellm_mmlu", 14042, 2, 57, 0.6808),
        ("routellm_gsm8k", 1319, 2, 1, 0.6384),
        ("llmrouter_9models", 5610, 9, 13, 0.32),
        ("routerarena_cached", 811, 3, 78, 0.6901),
    ],
)
def test_published_tables_are_read_directly(name: str, rows: int, experts: int, groups: int, first: float) -> None:
    path = SHARED / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip("../shared/data/outcomes is not there")
    table = read_outcomes(path)
    assert (len(table), len(table.experts), len(set(table.groups))) == (rows, experts, groups)
    assert np.nanmean(table.scores[:, 0]) == pytest.approx(first, abs=1e-4)
