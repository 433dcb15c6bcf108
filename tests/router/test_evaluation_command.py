"""`pointsman evaluate` as a user types it, on the shipped artifact and on folders it must refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROWS = [
    {"text": "Solve 3x + 4 = 19 for x", "label": "math", "lang": "en", "source": "sums"},
    {"text": "Fix this Python traceback: KeyError 'id'", "label": "coding", "lang": "en", "kind": "plain"},
    {"messages": [{"role": "user", "content": "Find the derivative of x^3"}], "label": "math", "lang": "en"},
    {"text": "unknown label", "label": "astrology"},
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "gateway.cli", "evaluate", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "prompts"
    path.mkdir()
    (path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_evaluate_json_alone_is_on_standard_output(folder: Path) -> None:
    done = run(str(folder), "--json")
    content = json.loads(done.stdout)
    assert (done.returncode, content["skipped"]) == (0, 1)
    assert content["quality"]["overall"]["accuracy"] == 1.0
    assert set(content["quality"]["sources"]) == {"mine", "sums"}
    assert content["quality"]["sets"]["conversations"]["count"] == 1
    assert content["consistency"]["count"] == 3
    assert len(content["data_sha256"]) == 64


def test_evaluate_without_options_prints_the_report(folder: Path) -> None:
    done = run(str(folder))
    assert done.returncode == 0
    assert done.stdout.startswith("# Evaluation of default-")
    assert "## Decisions at the classifier's own thresholds" in done.stdout
    assert "3 prompts, 1 with labels unknown" in done.stderr


def test_evaluate_output_writes_files_and_says_what_is_left_out(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "figures"
    done = run(str(folder), "--output", str(output))
    assert done.returncode == 0
    assert json.loads((output / "evaluation.json").read_text())["schema"] == 1
    assert (output / "report.md").read_text().startswith("# Evaluation of default-")
    assert (output / "report.html").exists() or "report.html is left out: matplotlib" in done.stderr


def test_evaluate_output_that_cannot_be_written_is_an_error(folder: Path) -> None:
    done = run(str(folder), "--output", str(folder / "mine.jsonl"))
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluate_folder_without_rows_is_refused(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no .jsonl" in done.stderr
