"""`pointsman domains` and `pointsman explain` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from tests.router.domain_prompts import ARTIFACT, DESCRIPTIONS, GARDENING, GARDENING_HELD_OUT

pytestmark = pytest.mark.slow


def invoke(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    file = tmp_path / "gardening.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in GARDENING), encoding="utf-8")
    return file


@pytest.fixture
def artifact(examples: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    result = invoke("domains", "add", "gardening", examples, "--artifact", ARTIFACT, "--output", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_add_prints_estimate_examples_neighbours_and_time(examples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    result = invoke("domains", "add", "gardening", examples, "-a", ARTIFACT, "-o", folder)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:4] == ["gardening", "is", "in", str(folder)]
    assert [line[0] for line in lines[1:]] == ["made", "recall", "nearest", "topics", "took"]
    assert "30 in all" in result.stdout
    assert result.stderr == ""


def test_add_json_and_warnings(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text\nHow do I prune roses?\nWhen do I sow peas?\n")
    result = invoke(
        "domains", "add", "gardening", tmp_path / "few.csv", "-a", ARTIFACT, "-o", tmp_path / "out", "--json"
    )
    content = json.loads(result.stdout)
    assert (content["domain"]["name"], content["domain"]["examples"], content["used"]) == ("gardening", 2, 2)
    assert "warning: only 2 examples" in result.stderr


def test_add_descriptions_come_from_options_and_file(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\n".join(DESCRIPTIONS[1:]) + "\n\n")
    arguments = ["--description", DESCRIPTIONS[0], "--description-file", str(tmp_path / "words.txt"), "--json"]
    result = invoke("domains", "add", "gardening", "-a", ARTIFACT, "-o", tmp_path / "out", *arguments)
    domain = json.loads(result.stdout)["domain"]
    assert (domain["kind"], domain["examples"], domain["recall"]) == ("description", 3, None)


def test_list_and_remove_follow_the_artifact(artifact: Path) -> None:
    table = invoke("domains", "list", "--artifact", artifact).stdout.splitlines()
    assert table[-1].split()[:3] == ["gardening", "examples", "30"]
    listed = json.loads(invoke("domains", "list", "--artifact", artifact, "--json").stdout)
    assert [domain["kind"] for domain in listed] == ["trained"] * (len(listed) - 1) + ["examples"]
    removed = invoke("domains", "remove", "gardening", "--artifact", artifact)
    assert removed.stdout.startswith("gardening removed from")
    assert "gardening" not in invoke("domains", "list", "--artifact", artifact).stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("add", "gardening", "-a", ARTIFACT, "-o", "unused"), "no examples of 'gardening'"),
        (("add", "law", "--description", "Torts.", "-a", ARTIFACT, "-o", "unused"), "training again"),
        (("add", "gardening", "--description-file", "none.txt"), "none.txt: No such file"),
        (("add", "gardening", "none.csv", "-a", ARTIFACT, "-o", "unused"), "none.csv: No such file"),
        (("add", "gardening", "--description", "Plants."), "--output"),
        (("remove", "gardening"), "no added domain 'gardening'"),
        (("list", "--artifact", "nowhere"), "no card.json"),
    ],
)
def test_domains_problem_is_one_line(arguments: tuple[str, ...], problem: str) -> None:
    result = invoke("domains", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("pointsman: ")
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("unused").exists()


def test_explain_names_domain_words_and_topics(artifact: Path) -> None:
    result = invoke("explain", GARDENING_HELD_OUT[0], "--artifact", artifact, "--json", "--words", "3")
    content = json.loads(result.stdout)
    assert content["domain"] == "gardening"
    assert len(content["words"]) == 3
    assert content["topics"]
    text = invoke("explain", "-", "--artifact", artifact, stdin=GARDENING_HELD_OUT[0]).stdout
    assert text.startswith("acts on gardening")
    assert "nearest training topics" in text


def test_explain_missing_artifact_is_one_line() -> None:
    result = invoke("explain", "hello", "--artifact", "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("pointsman: artifact nowhere: no card.json")
