"""`pointsman quality` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import router
from gateway.cli import app
from tests.router.domain_prompts import BASE

pytestmark = pytest.mark.slow

LAW, MATH = BASE["law"], BASE["math"]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["quality", *(str(argument) for argument in arguments)])


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """Return a long file: the big model is right in law, the small one in math."""
    file = tmp_path / "outcomes.jsonl"
    rows = [
        {"prompt": prompt, "model": model, "score": float(model == good), "output_tokens": 40}
        for good, prompts in (("big-model", LAW), ("small-model", MATH))
        for prompt in prompts
        for model in ("big-model", "small-model")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_fit_writes_a_table_that_the_policies_can_load(outcomes: Path, tmp_path: Path) -> None:
    output = tmp_path / "quality.csv"
    names = ("--experts", "big-model=generalist", "--experts", "small-model=math")
    result = invoke("fit", outcomes, "-o", output, *names, "--prior", "2", "--confidence", "0.7")
    assert result.exit_code == 0, result.output
    assert f"written to {output}" in result.stdout
    table = router.QualityTable.load(output, experts=("generalist", "math"), scorer=router.load_scorer())
    assert (table.generalist, table.prior, table.confidence) == ("generalist", 2, 0.7)
    winner = {row.domain: row.winner for row in router.winners(table)}
    assert winner["math"] == "math"
    assert winner["law"] == winner["writing"] == "generalist"
    assert table.completion_tokens is not None
    assert set(table.completion_tokens.round(6).tolist()) == {40}


def test_show_prints_every_cell_and_the_winners(tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    path.write_text("domain,expert,score,count\nlaw,generalist,0.5,400\nlaw,lawyer,0.75,400\nmath,generalist,0.5,10\n")
    result = invoke("show", path)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["domain", "expert", "score", "count", "mean", "lower", "bound"]
    assert lines[2][:4] == ["law", "lawyer", "0.750", "400.0"]
    assert len(lines) == 8
    assert lines[-2][:2] == ["law", "lawyer"]
    assert lines[-1][:2] == ["math", "generalist"]
    low, high = float(lines[-2][3]), float(lines[-2][5])
    assert 0.65 < low < float(lines[-2][2]) < high < 0.8


def test_show_json_has_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    path.write_text("domain,expert,score,count\nlaw,generalist,0.5,400\nlaw,lawyer,0.75,400\n")
    content = json.loads(invoke("show", path, "--json").stdout)
    assert [cell["expert"] for cell in content["table"]] == ["generalist", "lawyer"]
    assert content["winners"][0]["winner"] == "lawyer"
    assert (content["generalist"], content["prior"], content["cells"]) == ("generalist", 20, 0)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("fit", "none.csv"), "none.csv: No such file"),
        (("fit",), "no outcomes"),
        (("fit", "OUTCOMES", "--experts", "big-model"), "expected OLD=NEW"),
        (("fit", "OUTCOMES", "--experts", "big=a"), "no expert 'big'"),
        (("fit", "OUTCOMES", "--generalist", "big-modell"), "did you mean 'big-model'?"),
        (("fit", "OUTCOMES", "--artifact", "nowhere"), "no card.json"),
        (("fit", "OUTCOMES", "--confidence", "2"), "confidence 2.0"),
        (("fit", "OUTCOMES", "--prior", "0"), "prior 0.0"),
        (("fit", "--from-feedback", "none.db"), "none.db"),
        (("show", "none.csv"), "none.csv: No such file"),
    ],
)
def test_problem_is_one_line(outcomes: Path, tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    given = [str(outcomes) if argument == "OUTCOMES" else argument for argument in arguments]
    output = ["-o", str(tmp_path / "q.csv")] if given[0] == "fit" else []
    result = invoke(*given, *output)
    assert result.exit_code == 1
    assert result.stderr.startswith("pointsman: ")
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "q.csv").exists()
