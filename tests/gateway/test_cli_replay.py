"""`pointsman replay` as a user types it, with the shipped classifier, on small tables and on those it must refuse."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[3] / "shared" / "data" / "outcomes"
TABLES = ("llmrouter_9models", "routellm_gsm8k", "routellm_mmlu", "routerarena_cached")
SUMS = "Solve the equation {0}x + {1} = {2} for x and show each step."
BUGS = "My Python function number {0} raises KeyError: 'user_{1}'. Fix this traceback."


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "gateway.cli", "replay", *map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, timeout=55)


def rows(count: int = 30) -> list[dict[str, object]]:
    """Sums that `solver` gets right and bugs that `coder` gets right; `wide` gets two thirds of both."""
    sums = [
        {"prompt": SUMS.format(n + 2, n, 3 * n), "wide": int(n % 3 > 0), "solver": 1, "coder": 0} for n in range(count)
    ]
    bugs = [{"prompt": BUGS.format(n, n + 1), "wide": int(n % 3 > 0), "solver": 0, "coder": 1} for n in range(count)]
    return [{**row, "task": task} for task, part in (("sums", sums), ("bugs", bugs)) for row in part]


def write(file: Path, content: list[dict[str, object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(content[0]))
        writer.writeheader()
        writer.writerows(content)
    return file


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.csv", rows())


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "prices.csv"
    file.write_text("expert,input,output\nwide,1,1\nsolver,0.2,0.2\ncoder,0.3,0.3\n")
    return file


def test_replay_prints_baselines_policies_and_curves(outcomes: Path, prices: Path) -> None:
    done = run(outcomes, "--prices", prices, "--generalist", "wide", "--bootstrap", 100)
    assert done.returncode == 0, done.stderr
    heads = {"Ways to choose", "Curves", "Share of the prompts per expert", "Router accuracy that is needed"}
    assert heads <= set(done.stdout.splitlines())
    for name in ("wide (generalist, best single)", "random", "domain oracle", "prompt oracle", "balanced 0"):
        assert f"\n{name}" in done.stdout
    curve = next(line for line in done.stdout.splitlines() if line.startswith("balanced over cost_weight"))
    assert float(curve.split()[-2]) > 20
    assert "deciding for" in done.stderr
    assert "Solve the equation" not in done.stdout + done.stderr


def test_replay_json_alone_is_on_standard_output(outcomes: Path, prices: Path) -> None:
    done = run(outcomes, "--prices", prices, "--generalist", "wide", "--all-policies", "--json", "--bootstrap", 50)
    content = json.loads(done.stdout)
    found = {row["name"]: row for row in content["rows"]}
    assert found["prompt oracle"]["quality"] == found["domain oracle"]["quality"] == 1
    assert found["wide"]["quality"] == pytest.approx(2 / 3, abs=1e-3)
    # The classifier finds some prompts strange, and then the generalist answers.
    assert found["quality"]["difference_interval"][0] > 0
    assert found["quality"]["gap_closed"] == pytest.approx(3 * (found["quality"]["quality"] - 2 / 3), abs=1e-3)
    assert min(found["quality"]["shares"]["solver"], found["quality"]["shares"]["coder"]) > 0.1
    assert {"modem", "economy", "balanced"} <= {row["family"] for row in content["rows"]}
    assert (content["prompts"], content["draws"], content["seed"]) == (60, 50, 7)


def test_replay_writes_json_and_report(outcomes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    done = run(outcomes, "--policy", "quality", "--output", folder, "--bootstrap", 20)
    assert done.returncode == 0, done.stderr
    content = json.loads((folder / "replay.json").read_text())
    assert content["title"] == "mine.csv"
    report = (folder / "report.md").read_text()
    assert "# Replay of mine.csv" in report
    assert "| quality | " in report
    assert (folder / "report.html").exists() != ("report.html is left out" in done.stderr)


def test_replay_of_one_policy_with_options_is_one_point(outcomes: Path, prices: Path) -> None:
    done = run(
        outcomes, "--prices", prices, "--policy", "balanced", "--option", "cost_weight=0.2", "--json", "--bootstrap", 20
    )
    content = json.loads(done.stdout)
    assert [row["name"] for row in content["rows"] if row["family"]] == ["balanced"]


def test_replay_joins_files_and_limits_prompts(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv", rows(10)[:10]), write(tmp_path / "b.csv", rows(10)[10:])
    assert json.loads(run(first, second, "--json", "--bootstrap", 5).stdout)["prompts"] == 20
    assert json.loads(run(first, second, "--json", "--bootstrap", 5, "--limit", 12).stdout)["prompts"] == 12


def test_replay_complete_keeps_prompts_that_everybody_was_scored_on(tmp_path: Path) -> None:
    content = rows(10)
    for row in content[::2]:
        row["coder"] = ""
    file = write(tmp_path / "gaps.csv", content)
    found = json.loads(run(file, "--complete", "--json", "--bootstrap", 5).stdout)
    assert found["prompts"] == 10
    assert {row["missing"] for row in found["rows"]} == {0}
    assert max(row["missing"] for row in json.loads(run(file, "--json", "--bootstrap", 5).stdout)["rows"]) == 0.5


def test_replay_with_a_configuration_uses_its_experts_and_policy(outcomes: Path, tmp_path: Path) -> None:
    config = tmp_path / "experts.yaml"
    config.write_text(
        "generalist: {model: wide, upstreams: [http://a:1], price: {input: 1, output: 1}}\n"
        "experts:\n"
        "  math: {model: solver, domains: [math], upstreams: [http://b:1], price: {input: 0.2, output: 0.2}}\n"
        "  coding: {model: coder, domains: [coding], upstreams: [http://c:1], price: {input: 0.2, output: 0.2}}\n"
    )
    content = json.loads(run(outcomes, "--config", config, "--json", "--bootstrap", 20).stdout)
    assert content["experts"] == ["generalist", "math", "coding"]
    found = {row["name"]: row for row in content["rows"]}
    assert found["modem"]["quality"] > 0.9
    assert found["modem"]["saved"] > 0.7
    assert "balanced 0" in found
    assert run(outcomes, "--config", config, "--generalist", "wide").returncode == 2
    config.write_text(config.read_text() + "policies: {economy: {quality_floor: 2, abstain: never}}\n")
    arguments = ("--config", config, "--policy", "economy", "--json", "--bootstrap", 5)
    found = {row["name"]: row for row in json.loads(run(outcomes, *arguments).stdout)["rows"]}
    assert found["economy"]["shares"] != found["economy 0.5"]["shares"], "a floor that nobody reaches is no low one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "best"], "unknown policy 'best'"),
        (["--policy", "balanced", "--option", "weight=1"], "weight"),
        (["--policy", "balanced", "--option", "cost_weight=-1"], "cost_weight"),
        (["--policy", "balanced", "--option", "cost_weight"], "expected NAME=VALUE"),
        (["--option", "cost_weight=1"], "belongs to --policy"),
        (["--policy", "balanced", "--all-policies"], "leave --policy out"),
        (["--generalist", "nobody"], "no expert 'nobody'"),
        (["--artifact", "/nowhere"], "/nowhere"),
        (["--quality-table", "/nowhere.csv"], "/nowhere.csv"),
        (["--prices", "/nowhere.csv"], "/nowhere.csv"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--output", "/dev/null/x"], "cannot write"),
        (["--policy", "fixed"], "generalist"),
        (["--policy", "weighted", "--option", 'shares={"nobody": 1}'], "nobody"),
    ],
)
def test_replay_says_what_is_wrong_and_fails(outcomes: Path, arguments: list[str], message: str) -> None:
    done = run(outcomes, *arguments)
    assert done.returncode in (1, 2)
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "content", [b"", b"prompt,a\n", b"prompt,a\nhello,2\n", b"prompt\nhello\n", b"\x1f\x8b\x00", b"prompt,a\nx,1\n"]
)
def test_replay_refuses_unsound_outcomes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    done = run(file)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("pointsman: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", TABLES)
def test_replay_reads_public_outcome_tables(name: str) -> None:
    file = SHARED / f"{name}.csv.gz"
    if not file.exists():
        pytest.skip(f"{file.name} is not there")
    done = run(file, "--limit", 200, "--json", "--bootstrap", 50)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["prompts"] == 200
    assert content["priced"] == (name == "routerarena_cached")
    best = next(row for row in content["rows"] if "best single" in row["roles"])
    oracle = next(row for row in content["rows"] if row["name"] == "prompt oracle")
    assert oracle["quality"] >= best["quality"]
