"""`pointsman data build` from the command line: file, report and messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli_data import data_app


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [
        {"text": f"{word} {n * 7919} about {word} {n}", "label": word} for n in range(20) for word in ("law", "math")
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_build_writes_rows_and_says_where(prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl.gz"
    result = CliRunner().invoke(data_app, ["build", str(prompts), "--output", str(output), "--no-corpus"])
    assert result.exit_code == 0, result.output
    assert output.is_file()
    assert "40 train" in result.stdout


def test_build_report_is_json(prompts: Path, tmp_path: Path) -> None:
    arguments = ["build", str(prompts), "-o", str(tmp_path / "out.jsonl"), "--no-corpus", "--report"]
    report = json.loads(CliRunner().invoke(data_app, arguments).stdout)
    assert report["rows"]["train"] == 40
    assert report == json.loads((tmp_path / "out.report.json").read_text())


def test_build_without_prompts_fails_with_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(data_app, ["build", str(tmp_path), "-o", str(tmp_path / "out.jsonl"), "--no-corpus"])
    assert result.exit_code == 1
    assert result.stderr.startswith("pointsman: ")
